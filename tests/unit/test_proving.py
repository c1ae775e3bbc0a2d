"""Verifying a run of Parquet files on this disk, as the command does it: good ones and spoilt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import proving, wiring
from pipeline.at_hand import JobAtHand, open_job, open_latest_run
from pipeline.core.errors import ObjectDamaged, RunConflict
from pipeline.spot.signals import NoNotice
from tests.e2e.house import job_file, questions, write
from tests.e2e.parts import other_letter, rewrite, with_cell

RUN = "night"
ROWS = 40
BOOK = """\
as_of: "2026-11-20"
source: made up
machines:
  g6.xlarge: {spot: "360000", on_demand: "980000"}
"""


def finished(place: Path, **sections: Any) -> JobAtHand:
    write(questions(ROWS), str(place / "prompts/a.parquet"), row_group_size=10)
    write(questions(5), str(place / "prompts/b.parquet"))
    path = job_file(
        place / "job.yaml",
        **{
            "name": "questions",
            "input": {"uri": "prompts/", "prompt": "question"},
            "output": {"uri": "answers/"},
            "model": {"id": "scripted://?window=8&tokens=30"},
            "shards": {"rows": 20},
            **sections,
        },
    )
    here = open_job(str(path), RUN)
    plan = wiring.plan(here)
    wiring.run_worker(here, NoNotice(), "w1")
    wiring.close_books(here, plan)
    return here


@dataclass(frozen=True, slots=True)
class Disk:
    """A finished run in a folder of this disk, to be spoilt."""

    place: Path

    @property
    def here(self) -> JobAtHand:
        return open_latest_run(str(self.place / "job.yaml"), RUN, None)

    @property
    def run(self) -> Path:
        return self.place / f"answers/runs/{RUN}"

    def part(self, shard: int = 0) -> Path:
        return self.place / f"answers/data/run={RUN}/part-{shard:05d}.parquet"

    def problems(self) -> list[str]:
        document = proving.verify(self.here)
        assert document["verified"] == (not document["problems"])
        json.dumps(document)
        found: list[str] = document["problems"]
        return found


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("original")
    finished(place)
    return place


@pytest.fixture
def disk(original: Path) -> Disk:
    """The same run for every test, at the place where it was made: its input's times are kept."""
    kept = original.with_name("kept")
    shutil.copytree(original, kept)
    return Disk(original)


@pytest.fixture(autouse=True)
def put_back(original: Path) -> Any:
    yield
    kept = original.with_name("kept")
    if kept.exists():
        shutil.rmtree(original / "answers")
        (kept / "answers").rename(original / "answers")
        shutil.rmtree(kept)


def test_a_run_that_nobody_touched_is_proved(disk: Disk) -> None:
    assert proving.verify(disk.here) == {
        "run_id": RUN,
        "verified": True,
        "problems": [],
        "remarks": [],
        "deep": None,
    }


def replaced(key: str, old: str, new: str) -> Callable[[Disk], object]:
    def do(disk: Disk) -> None:
        text = (disk.run / key).read_text()
        assert old in text
        (disk.run / key).write_text(text.replace(old, new, 1))

    return do


def cells(column: str, row: int, value: object) -> Callable[[Disk], object]:
    return lambda disk: rewrite(disk.part(), with_cell(column, row, value))


def table(change: Callable[[pa.Table], pa.Table]) -> Callable[[Disk], object]:
    return lambda disk: rewrite(disk.part(), change)


def torn(name: str) -> Callable[[Disk], object]:
    def do(disk: Disk) -> None:
        [path] = disk.place.rglob(name)
        path.write_bytes(path.read_bytes()[:-9])

    return do


def _backwards(rows: pa.Table) -> pa.Table:
    return rows.take(pa.array(range(len(rows) - 1, -1, -1)))


def _other_type(rows: pa.Table) -> pa.Table:
    place = rows.schema.names.index("id")
    return rows.set_column(place, "id", rows.column("id").cast(pa.int32()))


def _swapped(column: str, rows: pa.Table) -> pa.Table:
    first, second = rows.column(column)[:2].to_pylist()
    return with_cell(column, 1, first)(with_cell(column, 0, second)(rows))


def _plan(change: Callable[[pa.Table], pa.Table]) -> Callable[[Disk], object]:
    def do(disk: Disk) -> None:
        path = disk.run / "plan.parquet"
        pq.write_table(change(pq.read_table(path)), path)

    return do


SPOILT: dict[str, tuple[Callable[[Disk], object], str]] = {
    "a torn part": (torn("part-00000.parquet"), "shard 00000: damaged"),
    "an empty part": (lambda disk: disk.part().write_bytes(b""), "shard 00000: damaged"),
    "another shard's part": (
        lambda disk: disk.part().write_bytes(disk.part(1).read_bytes()),
        "shard 00000: row 0: column 'id' is not the input's",
    ),
    "a part without a footer": (
        lambda disk: pq.write_table(pq.read_table(disk.part(), partitioning=None), disk.part()),
        "shard 00000: the part carries no manifest",
    ),
    "rows missing": (table(lambda rows: rows.slice(1)), "19 rows, the input has 20"),
    "rows doubled": (
        table(lambda rows: pa.concat_tables([rows, rows.slice(3, 1)])),
        "21 rows, the input has 20",
    ),
    "rows in another order": (table(_backwards), "row 0: column 'id' is not the input's"),
    "a carried cell": (cells("question", 7, "?"), "row 7: column 'question' is not the input's"),
    "a carried cell emptied": (cells("lang", 6, None), "row 6: column 'lang' is not the input's"),
    "a column lost": (table(lambda rows: rows.drop_columns(["lang"])), "'lang' is missing"),
    "an output lost": (
        table(lambda rows: rows.drop_columns(["cached_tokens"])),
        "column 'cached_tokens' is missing",
    ),
    "a column too many": (
        table(lambda rows: rows.append_column("more", rows.column("id"))),
        "column 'more' is neither carried nor an output",
    ),
    "columns in another order": (
        table(lambda rows: rows.select(rows.schema.names[::-1])),
        "its columns are",
    ),
    "a column of another type": (table(_other_type), "column 'id' is int32, not int64"),
    "an answer taken away": (cells("completion", 4, None), "row 4: it has neither"),
    "an error put beside an answer": (cells("error", 4, "no"), "row 4: it has neither, or both"),
    "a count emptied": (cells("prompt_tokens", 4, None), "row 4: prompt_tokens is empty"),
    "a count changed": (cells("completion_tokens", 4, 1000), "footer: tokens.output is"),
    "a reason changed": (cells("finish_reason", 4, "length"), "finish_reasons"),
    "a torn job": (torn("job.json"), "job.json: not what spotmill writes there"),
    "the job's sampling": (
        replaced("job.json", '"temperature": 0.0', '"temperature": 0.5'),
        "its job is not the one",
    ),
    "the job's fingerprint": (
        replaced("job.json", '"fingerprint": "sha256:', '"fingerprint": "sha256:0'),
        "its fingerprint is not made of its fingerprints",
    ),
    "a job that is none": (
        replaced("job.json", '"prompt"', '"promt"'),
        "job.json: its job is none",
    ),
    "another run's job": (replaced("job.json", '"night"', '"morning"'), "it is of another run"),
    "no plan": (lambda disk: (disk.run / "plan.parquet").unlink(), "has no plan"),
    "a torn plan": (torn("plan.parquet"), "plan.parquet: not a plan"),
    "a plan that is another table": (
        lambda disk: pq.write_table(questions(3), disk.run / "plan.parquet"),
        "plan.parquet: not a plan",
    ),
    "a plan of fewer shards": (
        _plan(lambda shards: shards.slice(1)),
        "plan.parquet: its files are not those",
    ),
    "a plan that reads rows twice": (
        _plan(with_cell("row_groups", 1, [0, 1])),
        "plan.parquet: its shards are not each row of its files once",
    ),
    "a plan of row groups that are none": (
        _plan(with_cell("row_groups", 1, [98, 99])),
        "shard 00001: not compared with its input",
    ),
    "a lease gone": (
        lambda disk: (disk.run / "leases/00001/000001.json").unlink(),
        "shard 00001: epoch 1: runs/night/leases/00001/000001.json is missing",
    ),
    "a session gone": (
        lambda disk: shutil.rmtree(disk.run / "sessions"),
        "epoch 1: worker 'w1' has no session",
    ),
    "a marker": (
        lambda disk: (disk.part().parent / "_SUCCESS").touch(),
        "_SUCCESS: a foreign object under data/",
    ),
    "not finished": (lambda disk: (disk.run / "manifest.json").unlink(), "the run is not finished"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_is_found(disk: Disk, name: str) -> None:
    spoil, words = SPOILT[name]
    spoil(disk)
    try:
        found = disk.problems()
    except ObjectDamaged as damage:
        # Without job.json, there is no run to speak of: an error of the command's own.
        assert name == "a torn job"
        found = [str(damage)]
    assert any(words in problem for problem in found), found


def test_answers_that_changed_places_are_found_by_generating_again(disk: Disk) -> None:
    for column in ("completion", "finish_reason", "prompt_tokens", "completion_tokens"):
        rewrite(disk.part(), partial(_swapped, column))
    assert disk.problems() == [], "nothing else can tell"
    document = proving.verify(disk.here, deep_rows=1000)
    assert document["deep"]["sampled"] == ROWS + 5
    assert document["deep"]["same"] == ROWS + 3
    assert [problem[:36] for problem in document["problems"]] == [
        "generated again, shard 00000, row 0:",
        "generated again, shard 00000, row 1:",
    ]


def test_a_changed_character_is_found_by_generating_again(disk: Disk) -> None:
    text = pq.read_table(disk.part(), partitioning=None).column("completion")[5].as_py()
    rewrite(disk.part(), with_cell("completion", 5, other_letter(text, 2)))
    assert disk.problems() == [], "nothing else can tell"
    document = proving.verify(disk.here, deep_rows=1000)
    [differing] = document["deep"]["differing"]
    assert (differing["shard_id"], differing["row"], differing["character"]) == (0, 5, 2)
    assert document["verified"] is False


def test_another_model_than_the_runs_is_not_asked(disk: Disk) -> None:
    job = disk.place / "job.yaml"
    text = job.read_text()
    job.write_text(text.replace("tokens=30", "tokens=29"))
    try:
        assert proving.verify(disk.here)["verified"] is True
        with pytest.raises(RunConflict, match="another model"):
            proving.verify(disk.here, deep_rows=3)
    finally:
        job.write_text(text)


def test_a_file_that_changed_since_is_told_of_each_of_its_shards(tmp_path: Path) -> None:
    finished(tmp_path)
    write(questions(ROWS + 1), str(tmp_path / "prompts/a.parquet"))
    found = Disk(tmp_path).problems()
    assert [problem[:44] for problem in found] == [
        "shard 00000: not compared with its input: /t",
        "shard 00001: not compared with its input: /t",
    ]
    assert all("the input changed since the run was planned" in problem for problem in found)


def test_a_file_that_is_gone_is_told_too(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "prompts/b.parquet").unlink()
    [problem] = Disk(tmp_path).problems()
    assert problem.startswith("shard 00002: not compared with its input")
    assert "it is gone" in problem


def test_a_sampled_job_has_nothing_to_generate_again(tmp_path: Path) -> None:
    here = finished(tmp_path, sampling={"temperature": 0.7})
    document = proving.verify(here, deep_rows=10)
    assert document["verified"] is True
    assert document["deep"]["note"] == "no row of this job is greedy: nothing to compare"


def test_a_priced_run_is_proved_to_the_last_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "g6.xlarge")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "spot")
    (tmp_path / "prices.yaml").write_text(BOOK)
    finished(tmp_path, cost={"prices": "prices.yaml"})
    disk = Disk(tmp_path)
    assert disk.problems() == []
    total = json.loads((disk.run / "manifest.json").read_text())["cost"]["total"]
    assert float(total) > 0
    other = total[:-1] + ("1" if total[-1] != "1" else "2")
    replaced("manifest.json", f'"total": "{total}"', f'"total": "{other}"')(disk)
    [problem] = disk.problems()
    assert problem.startswith(f'manifest.json: cost.total is "{other}", "{total}" follows')
