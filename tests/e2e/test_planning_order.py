"""Runs by prefix as their users see them: as commands, on this disk and on S3."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipeline import proving, wiring
from pipeline.at_hand import open_job
from pipeline.core import layout
from pipeline.core.errors import InputChanged, JobInvalid, RunConflict
from pipeline.dataset.outputs import ROW_KEY
from pipeline.spot.signals import NoNotice
from pipeline.stores import StoreOptions, open_store
from tests.e2e.house import job_file, published, scripted, spotmill, started, until, write
from tests.s3 import S3Bucket

RUN = "night"
PREFIXES, EACH = 40, 50


def dataset(place: str) -> None:
    """Prefixes shuffled over four files; some rows are of another language, some have no text."""
    rows = [
        (f"Instruction {row % PREFIXES:02d}. " * 4, f"Question {row}", ("en", "de")[row % 5 == 0])
        for row in range(PREFIXES * EACH)
    ]
    random.Random(7).shuffle(rows)
    for number in range(4):
        part = rows[number * 500 : (number + 1) * 500]
        columns: dict[str, Any] = {
            "id": list(range(number * 500, number * 500 + 500)),
            "start": [start for start, _, _ in part],
            "body": [None if i % 97 == 0 else body for i, (_, body, _) in enumerate(part)],
            "lang": [lang for _, _, lang in part],
        }
        write(pa.table(columns), f"{place}/prompts/{number}.parquet", row_group_size=170)


def job_at(place: str, folder: Path, **changes: Any) -> str:
    sections = {
        "name": "questions",
        "input": {
            "uri": f"{place}/prompts/",
            "template": "{{ start }}{{ body }}",
            "where": "lang = 'en'",
            "columns": ["id"],
        },
        "output": {"uri": f"{place}/answers/"},
        "model": scripted(window=64, tokens=6),
        "shards": {"rows": 300, "order": "prefix"},
        "fleet": {"lease_seconds": 5},
        **changes,
    }
    return str(job_file(folder / "job.yaml", **sections))


def unordered(place: str, folder: Path) -> pa.Table:
    """What a run without an order answers, in its own order: the input's."""
    output = {"uri": f"{place}/unordered/"}
    (folder / "unordered").mkdir()
    path = job_at(place, folder / "unordered", output=output, shards={"rows": 300})
    here = open_job(path, RUN)
    made = wiring.plan(here)
    wiring.run_worker(here, NoNotice(), "w1")
    wiring.close_books(here, made)
    return published(output["uri"], RUN)


def restored(answers: pa.Table) -> pa.Table:
    """As any reader would."""
    with duckdb.connect() as database:
        database.register("answers", answers)
        query = f"SELECT * EXCLUDE ({ROW_KEY}) FROM answers ORDER BY {ROW_KEY}"  # noqa: S608
        return database.sql(query).to_arrow_table()


COMPARED = ["id", "completion", "finish_reason", "error", "prompt_tokens", "completion_tokens"]


@pytest.fixture(params=[pytest.param("disk", marks=pytest.mark.nightly), "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path)
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return bucket.uri


def test_a_run_by_prefix_answers_what_a_run_without_does(place: str, tmp_path: Path) -> None:
    dataset(place)
    job = job_at(place, tmp_path)
    said = spotmill("plan", job, "--json")
    assert said.code == 0, said.stderr
    assert said.document["rows"] == 1_600
    assert said.document["shards"] == 6
    assert said.document["files"] == 4
    assert not open_store(f"{place}/answers/", StoreOptions()).list("")

    said = spotmill("run", job, "--run-id", RUN, "--no-prefect", "--json")
    assert said.code == 3, said.stderr
    assert said.document["output"]["rows"] == 1_600

    assert proving.verify(open_job(job, RUN))["problems"] == []

    answers = published(f"{place}/answers/", RUN)
    assert answers.schema.names[:2] == ["id", ROW_KEY]
    without = unordered(place, tmp_path)
    assert restored(answers).select(COMPARED).equals(without.select(COMPARED).combine_chunks())
    assert answers.column("id").to_pylist() != without.column("id").to_pylist()


def test_a_planner_killed_in_the_middle_is_gone_on_with(tmp_path: Path) -> None:
    place = str(tmp_path)
    dataset(place)
    job = job_at(place, tmp_path)
    store = open_store(f"{place}/answers/", StoreOptions())
    command = (sys.executable, "-m", "pipeline.cli", "run", job, "--run-id", RUN, "--no-prefect")
    with started(*command, log=tmp_path / "log") as planner:
        until(lambda: store.get(layout.job_key(RUN)) is not None, 60, "the run is made")
        planner.send_signal(signal.SIGKILL)
    whole = store.get(layout.plan_key(RUN)) is not None
    # What is left over is never taken for part of the plan, whatever it is.
    store.create(layout.ordered_key(RUN, 0, "0" * 24), b"PAR1 half of a file")
    here = open_job(job, RUN)
    made = wiring.plan(here)
    assert sum(shard.rows for shard in made.shards) == 1_600, whole
    assert not any("0" * 24 in shard.uri for shard in made.shards)
    wiring.check_inputs(here, made)
    wiring.run_worker(here, NoNotice(), "w1")
    assert wiring.close_books(here, made)["output"]["rows"] == 1_600
    answers = published(f"{place}/answers/", RUN)
    assert (
        restored(answers)
        .select(COMPARED)
        .equals(unordered(place, tmp_path).select(COMPARED).combine_chunks())
    )


def test_a_run_by_prefix_is_joined_as_it_is(tmp_path: Path) -> None:
    place = str(tmp_path)
    dataset(place)
    job = job_at(place, tmp_path)
    made = wiring.plan(open_job(job, RUN))
    copies = sorted((tmp_path / f"answers/runs/{RUN}/ordered").iterdir())
    assert wiring.plan(open_job(job, RUN)) == made
    assert sorted((tmp_path / f"answers/runs/{RUN}/ordered").iterdir()) == copies
    with pytest.raises(RunConflict):
        wiring.plan(open_job(job_at(place, tmp_path, shards={"rows": 300}), RUN))
    here = open_job(job_at(place, tmp_path), RUN)
    dataset(place)
    with pytest.raises(InputChanged):
        wiring.check_inputs(here, made)
    with pytest.raises(InputChanged):
        wiring.plan(here)


def test_a_copy_that_changed_is_not_read(tmp_path: Path) -> None:
    place = str(tmp_path)
    dataset(place)
    here = open_job(job_at(place, tmp_path), RUN)
    made = wiring.plan(here)
    copy = Path(made.shards[0].uri)
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    with pytest.raises(InputChanged) as stopped:
        wiring.check_inputs(here, made)
    assert stopped.value.where == str(copy)


def test_an_output_that_workers_cannot_read_from_is_refused(tmp_path: Path) -> None:
    dataset(str(tmp_path))
    job = job_at(str(tmp_path), tmp_path, output={"uri": "memory://answers/"})
    with pytest.raises(JobInvalid, match="no Parquet can be read"):
        wiring.plan(open_job(job, RUN))
