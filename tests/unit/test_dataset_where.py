"""`where` chooses rows, always the same ones, and can do nothing else."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.core.errors import JobInvalid
from tests.unit.datasets import job_over, opened, part_of, planned, prompts, written


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    columns = {
        "q": [f"q{n}" for n in range(100)],
        "n": list(range(100)),
        "lang": ["en" if n % 3 == 0 else None if n % 3 == 1 else "de" for n in range(100)],
    }
    return written(tmp_path / "in" / "a.parquet", columns, row_group_size=30)


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("lang = 'en'", [n for n in range(100) if n % 3 == 0]),
        ("lang <> 'en'", [n for n in range(100) if n % 3 == 2]),
        ("lang IS NULL AND n < 10", [1, 4, 7]),
        ("n BETWEEN 5 AND 7 OR n = 99", [5, 6, 7, 99]),
        ("length(q) = 2", list(range(10))),
        ("true", list(range(100))),
        ("false", []),
        ("NULL", []),
        ("n < 3 -- only a few", [0, 1, 2]),
    ],
)
def test_the_rows_for_which_it_is_true_in_their_order(
    dataset: Path, where: str, chosen: list[int]
) -> None:
    for shard_rows in (1_000, 7):
        job = job_over(dataset, where=where, columns=["n"], shard_rows=shard_rows)
        assert prompts(job) == [f"q{n}" for n in chosen]


def test_a_shard_of_which_nothing_is_chosen_is_an_empty_part(dataset: Path) -> None:
    [shard] = opened(job_over(dataset, where="false"))
    assert shard.rows == 0
    part = part_of(shard, [])
    assert shard.difference(part) is None


def test_the_part_holds_the_chosen_rows_alone(dataset: Path) -> None:
    [chosen] = opened(job_over(dataset, where="n < 5"))
    [others] = opened(job_over(dataset, where="n >= 95"))
    assert chosen.difference(part_of(chosen)) is None
    assert chosen.difference(part_of(others)) is not None


@pytest.mark.parametrize(
    "where",
    [
        "lang == ",
        "nothing = 1",
        "lang = 'en",
        "count(*) > 1",
        "q > 5 +",
        "",
    ],
)
def test_a_condition_that_is_none_is_refused_at_the_plan(dataset: Path, where: str) -> None:
    with pytest.raises(JobInvalid, match="condition does not work") as refused:
        planned(job_over(dataset, where=where))
    assert refused.value.where == "input.where"
    assert refused.value.why


def test_a_condition_that_the_data_refuse_is_refused_when_they_are_read(dataset: Path) -> None:
    with pytest.raises(JobInvalid, match="condition does not work"):
        opened(job_over(dataset, where="n = 'abc'"))


@pytest.mark.parametrize(
    "where",
    [
        "(SELECT count(*) FROM read_text('{secret}')) > 0",
        "(SELECT count(*) FROM '{secret}') > 0",
        "n IN (SELECT n FROM read_parquet('{dataset}'))",
        "(SELECT count(*) FROM glob('{folder}/*')) > 0",
        "true); COPY (SELECT 1) TO '{folder}/made.csv'; SELECT (1",
        "true); ATTACH '{folder}/made.db'; SELECT (1",
        "true); SET enable_external_access = true; SELECT (1",
        "true); INSTALL httpfs; SELECT (1",
        "(SELECT count(*) FROM duckdb_settings()) > 0 AND getenv('HOME') <> ''",
    ],
)
def test_a_condition_reads_and_writes_no_files(dataset: Path, tmp_path: Path, where: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("n\n1\n")
    before = sorted(tmp_path.rglob("*"))
    asked = where.format(secret=secret, dataset=dataset, folder=tmp_path)
    with pytest.raises(JobInvalid, match="condition does not work"):
        planned(job_over(dataset, where=asked))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "where",
    [
        "random() < 0.5",
        "n < 50 AND RANDOM() < 0.5",
        "uuid() > 'a'",
        "gen_random_uuid() IS NOT NULL",
        "now() > TIMESTAMPTZ '2026-01-01 00:00:00+00'",
        "current_date > DATE '2026-01-01'",
        "current_timestamp IS NOT NULL",
        "(SELECT count(*) FROM rows_of_shard USING SAMPLE 50%) > 3",
    ],
)
def test_a_condition_that_another_attempt_would_answer_differently_is_refused(
    dataset: Path, where: str
) -> None:
    """A successor reads the shard again, and a row's index must mean the same row."""
    with pytest.raises(JobInvalid):
        planned(job_over(dataset, where=where))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("moment >= '2026-11-20'", ["q2", "q3"]),
        ("moment < '2026-11-20 04:00:00'", ["q0", "q1", "q2"]),
        ("hour(moment) < 12", ["q2", "q3"]),
        ("moment::DATE = DATE '2026-11-19'", ["q0", "q1"]),
    ],
)
def test_a_condition_on_a_moment_means_the_same_in_every_time_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, where: str, chosen: list[str]
) -> None:
    moments = [datetime(2026, 11, 19, 22, tzinfo=UTC) + timedelta(hours=n) for n in (0, 1, 4, 13)]
    columns = {"q": ["q0", "q1", "q2", "q3"], "moment": pa.array(moments)}
    job = job_over(written(tmp_path / "a.parquet", columns), where=where)
    with monkeypatch.context() as here:
        here.setenv("TZ", zone)
        time.tzset()
        found = prompts(job)
    time.tzset()
    assert found == chosen
