"""From a job file to its run: names, dates, what may change on the way and what may not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import proving, wiring, working
from pipeline.at_hand import JobAtHand, open_job, open_latest_run
from pipeline.core import layout
from pipeline.core.errors import InputChanged, JobInvalid, RunConflict, RunMissing
from pipeline.core.money import Node
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.spot.signals import NoNotice
from tests.e2e.house import job_file, questions, write

RUN = "night"
LONG_AGO = "2026-01-02"

BOOK = """\
as_of: "2026-11-20"
source: made up
machines:
  g6.xlarge: {spot: "0.36", on_demand: "0.98"}
"""


def today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass(slots=True)
class Folder:
    """A job file beside its dataset of a few rows."""

    place: Path

    def rows(self, count: int = 6, name: str = "prompts/a.parquet") -> None:
        write(questions(count), str(self.place / name))

    def job(self, file: str = "job.yaml", **changes: Any) -> str:
        sections = {
            "name": "questions",
            "input": {"uri": "prompts/", "prompt": "question"},
            "output": {"uri": "answers/"},
            "model": {"id": "scripted://?window=8&tokens=5"},
            "fleet": {"lease_seconds": 2},
            **changes,
        }
        return str(job_file(self.place / file, **sections))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.rows()
    return made


def run_through(here: JobAtHand, worker_id: str = "w1") -> dict[str, Any]:
    """Plan, one worker in this process, and the run's manifest."""
    made = wiring.plan(here)
    wiring.check_inputs(here, made)
    wiring.run_worker(here, NoNotice(), worker_id)
    return wiring.close_books(here, made)


# Dates and names.


def test_a_run_is_named_after_the_job_and_today(folder: Folder) -> None:
    here = open_job(folder.job())
    assert (here.run_id, here.date) == (f"questions-{today()}", today())


def test_a_run_keeps_the_date_it_began_with(folder: Folder) -> None:
    folder.rows(name=f"prompts/date={LONG_AGO}/a.parquet")
    path = folder.job(input={"uri": "prompts/date={date}/", "prompt": "question"})
    wiring.plan(open_job(path, RUN, LONG_AGO))
    here = open_job(path, RUN)
    assert here.date == LONG_AGO
    assert here.job.input.uri.endswith(f"/prompts/date={LONG_AGO}/")
    assert wiring.plan(here).rows == 6
    assert run_through(here)["output"]["rows"] == 6


def test_a_date_that_is_given_counts_all_the_same(folder: Folder) -> None:
    path = folder.job()
    wiring.plan(open_job(path, RUN, LONG_AGO))
    assert open_job(path, RUN, "2026-03-04").date == "2026-03-04"


def test_another_days_run_is_another_run(folder: Folder) -> None:
    path = folder.job()
    wiring.plan(open_job(path, None, LONG_AGO))
    assert open_job(path).run_id == f"questions-{today()}"


@pytest.mark.parametrize("name", ["../x", "", "a/b", "/x", "a b", "..", ".", "x\n", "s3://b/x"])
def test_what_cannot_name_a_run_is_refused(name: str, folder: Folder) -> None:
    with pytest.raises(JobInvalid, match="cannot name a run"):
        open_job(folder.job(), name)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ""])
def test_what_cannot_name_a_worker_is_refused(name: str, folder: Folder) -> None:
    here = open_job(folder.job(), RUN)
    wiring.plan(here)
    with pytest.raises(JobInvalid, match="cannot name"):
        wiring.run_worker(here, NoNotice(), name)
    assert here.ledger.sessions.all() == {}


# The latest run.


def test_the_latest_run_is_the_jobs_own(folder: Folder) -> None:
    ours, theirs = folder.job(), folder.job("other.yaml", name="questions-of-others")
    wiring.plan(open_job(ours, None, "2026-01-03"))
    wiring.plan(open_job(ours, None, LONG_AGO))
    wiring.plan(open_job(theirs, None, "2026-01-04"))
    here = open_latest_run(ours, None, None)
    assert (here.run_id, here.date) == (f"questions-{LONG_AGO}", LONG_AGO), "made last"
    assert open_latest_run(theirs, None, None).date == "2026-01-04"


def test_a_run_that_was_named_by_hand_is_gone_on_with(folder: Folder) -> None:
    path = folder.job()
    wiring.plan(open_job(path, "by-hand", LONG_AGO))
    assert open_latest_run(path, None, None).run_id == "by-hand"


def test_an_entry_that_was_lost_is_made_again_by_whoever_joins(folder: Folder) -> None:
    path = folder.job()
    here = open_job(path, "by-hand", LONG_AGO)
    wiring.plan(here)
    [entry] = here.store.list(layout.job_runs_prefix("questions"))
    here.store.delete(entry)
    wiring.plan(here)
    assert here.store.list(layout.job_runs_prefix("questions")) == [entry]


def test_todays_run_goes_before_later_made_ones(folder: Folder) -> None:
    path = folder.job()
    wiring.plan(open_job(path))
    wiring.plan(open_job(path, None, LONG_AGO))
    assert open_latest_run(path, None, None).date == today()


def test_a_named_run_goes_before_all(folder: Folder) -> None:
    path = folder.job()
    wiring.plan(open_job(path, RUN, LONG_AGO))
    wiring.plan(open_job(path))
    here = open_latest_run(path, RUN, None)
    assert (here.run_id, here.date) == (RUN, LONG_AGO)


@pytest.mark.parametrize(("run_id", "date"), [(None, None), (RUN, None), (None, LONG_AGO)])
def test_no_run_is_no_run(run_id: str | None, date: str | None, folder: Folder) -> None:
    other = folder.job("other.yaml", name="questions-of-others")
    wiring.plan(open_job(other))
    with pytest.raises(RunMissing, match="there is no run"):
        open_latest_run(folder.job(), run_id, date)


def test_looking_for_a_run_makes_nothing(folder: Folder) -> None:
    path = folder.job()
    before = sorted(folder.place.rglob("*"))
    with pytest.raises(RunMissing):
        open_latest_run(path, RUN, None)
    wiring.preview(open_job(path))
    assert sorted(folder.place.rglob("*")) == before


# Files.


@pytest.mark.parametrize(
    "path_from",
    [
        lambda _: "job.yaml",
        lambda _: "./job.yaml",
        lambda place: f"../{place.name}/job.yaml",
        lambda place: str(place / "job.yaml"),
        lambda place: (place / "job.yaml").as_uri(),
    ],
    ids=["bare", "dot", "parent", "absolute", "uri"],
)
def test_a_job_file_is_found(
    path_from: Callable[[Path], str], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.job()
    monkeypatch.chdir(folder.place)
    here = open_job(path_from(folder.place))
    assert here.job.input.uri == f"{folder.place}/prompts/"
    # Workers are handed the URI, and may be started in another folder.
    monkeypatch.chdir("/")
    assert open_job(here.uri).job == here.job


def test_a_job_file_with_a_blank_in_its_name_is_found(folder: Folder) -> None:
    path = folder.job("one night.yaml")
    assert open_job(path).uri == path


@pytest.mark.parametrize("path", ["no.yaml", "/no-such.yaml", "", ".", "/", "prompts/", "prompts"])
def test_what_is_no_job_file_is_said_to_be_none(
    path: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.place)
    with pytest.raises(JobInvalid, match="no such file"):
        open_job(path)


def test_a_job_file_is_text(folder: Folder) -> None:
    (folder.place / "job.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(JobInvalid, match="not UTF-8"):
        open_job(str(folder.place / "job.yaml"))


# The price book.


def test_a_missing_price_book_is_refused_before_anything_is_written(folder: Folder) -> None:
    here = open_job(folder.job(cost={"prices": "prices.yaml"}), RUN)
    with pytest.raises(JobInvalid, match="no such file: the price book"):
        wiring.preview(here)
    with pytest.raises(JobInvalid):
        wiring.plan(here)
    assert here.ledger.job() is None


@pytest.mark.parametrize("book", ["", "machines: {", "as_of: x\n", BOOK.replace("0.36", "cheap")])
def test_a_broken_price_book_is_refused(book: str, folder: Folder) -> None:
    (folder.place / "prices.yaml").write_text(book)
    with pytest.raises(JobInvalid, match=r"prices\.yaml"):
        wiring.preview(open_job(folder.job(cost={"prices": "prices.yaml"})))


def test_a_sound_price_book_is_not(folder: Folder) -> None:
    (folder.place / "prices.yaml").write_text(BOOK)
    assert wiring.preview(open_job(folder.job(cost={"prices": "prices.yaml"}))).rows == 6


# The first beat.


def test_a_session_begins_before_anything_is_asked_that_takes_a_while(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.place / "prices.yaml").write_text(BOOK)
    here = open_job(folder.job(cost={"prices": "prices.yaml"}), RUN)
    wiring.plan(here)
    then: list[Session | None] = []

    def slow_metadata() -> Node:
        then.append(here.ledger.sessions.of("w1"))
        time.sleep(0.2)
        return Node("i-1", "g6.xlarge", lifecycle="spot")

    monkeypatch.setattr(working, "node_at_hand", slow_metadata)
    manifest = run_through(here)
    [first] = then
    assert first is not None
    assert (first.state, first.untold, first.node) == ("boot", True, Node())
    session = here.ledger.sessions.of("w1")
    assert session is not None
    assert session.node.instance_type == "g6.xlarge"
    assert session.buckets.boot >= first.buckets.boot + 200_000
    assert session.earlier == (), "its whole life has the price that was found first"
    assert manifest["cost"]["total"] is not None


def test_a_worker_that_cannot_start_says_why_and_costs_what_nobody_knows(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no part of the run's cost, and makes that no unknown one."""
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "g6.xlarge")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "spot")
    book = folder.place / "prices.yaml"
    book.write_text(BOOK)
    here = open_job(folder.job(cost={"prices": "prices.yaml"}), RUN)
    wiring.plan(here)
    book.write_text("machines: {")
    with pytest.raises(JobInvalid):
        wiring.run_worker(here, NoNotice(), "w0")
    session = here.ledger.sessions.of("w0")
    assert session is not None
    assert (session.state, session.error_kind, session.untold) == ("failed", "JobInvalid", True)
    assert session.buckets.boot > 0
    book.write_text(BOOK)
    manifest = run_through(here)
    assert manifest["cost"]["total"] is not None
    rows = {row["worker_id"]: row for row in manifest["workers"]}
    assert rows["w0"]["cost"] == "0.000000000000"
    untold = {"seconds": session.buckets.total / 1e6, "cost": None}
    assert rows["w0"]["uncertain"] == {
        **untold,
        "untold_seconds": untold["seconds"],
        "until_closed": untold,
    }
    assert proving.verify(here)["problems"] == []


# Going on with a changed job.


def test_cost_tags_and_chunks_may_change_and_reach_the_worker(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "g6.xlarge")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "spot")
    (folder.place / "prices.yaml").write_text(BOOK)
    slow = {"id": "scripted://?window=1&tokens=5&step_seconds=0.02"}
    wiring.plan(open_job(folder.job(model=slow), RUN))
    changed: dict[str, Any] = {
        "cost": {"prices": "prices.yaml", "budget_usd": 5},
        "tags": {"Team": "data"},
        "chunks": {"rows": 1},
    }
    here = open_job(folder.job(model=slow, **changed), RUN)
    manifest = run_through(here)
    session = here.ledger.sessions.of("w1")
    assert session is not None
    assert str(session.price.usd_per_hour) == "0.36"
    assert manifest["tags"]["Team"] == "data"
    assert here.ledger.shard_manifests([0])[0]["tags"]["Team"] == "data"
    assert here.ledger.checkpointed_rows()[0] >= 3, "a chunk is one row now"


def test_fleet_may_change(folder: Folder) -> None:
    wiring.plan(open_job(folder.job(), RUN))
    changed = open_job(folder.job(fleet={"workers": 3, "lease_seconds": 5}), RUN)
    assert run_through(changed)["output"]["rows"] == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": {"max_tokens": 3}},
        {"shards": {"rows": 2}},
        {"model": {"id": "scripted://?window=8&tokens=6"}},
        {"input": {"uri": "prompts/", "prompt": "lang"}},
        {"input": {"uri": "prompts/", "prompt": "question", "where": "id > 2"}},
        {"input": {"uri": "prompts/", "prompt": "question", "columns": ["id"]}},
    ],
    ids=["sampling", "shards", "model", "prompt", "where", "columns"],
)
def test_what_could_change_the_answers_is_another_run(
    changes: dict[str, Any], folder: Folder
) -> None:
    wiring.plan(open_job(folder.job(), RUN))
    with pytest.raises(RunConflict, match="other settings or another dataset"):
        wiring.plan(open_job(folder.job(**changes), RUN))


def test_another_dataset_is_another_run(folder: Folder) -> None:
    wiring.plan(open_job(folder.job(), RUN))
    folder.rows(7, "others/a.parquet")
    changed = folder.job(input={"uri": "others/", "prompt": "question"})
    with pytest.raises(RunConflict, match="another dataset"):
        wiring.plan(open_job(changed, RUN))


def test_another_jobs_run_is_not_joined(folder: Folder) -> None:
    wiring.plan(open_job(folder.job(), RUN))
    folder.rows(7)
    with pytest.raises(RunConflict):
        wiring.plan(open_job(folder.job(name="others"), RUN))


@pytest.mark.parametrize("change", ["rewritten", "added", "removed"])
def test_a_changed_input_stops_the_run(change: str, folder: Folder) -> None:
    folder.rows(5, "prompts/b.parquet")
    path = folder.job()
    wiring.plan(open_job(path, RUN))
    if change == "removed":
        (folder.place / "prompts/b.parquet").unlink()
    else:
        folder.rows(7, f"prompts/{'b' if change == 'rewritten' else 'c'}.parquet")
    with pytest.raises(InputChanged, match="not the one"):
        wiring.plan(open_job(path, RUN))


def test_an_input_that_changes_after_the_plan_stops_the_run(folder: Folder) -> None:
    folder.rows(5, "prompts/b.parquet")
    here = open_job(folder.job(), RUN)
    made = wiring.plan(here)
    first, second = files_of(made.shards)
    wiring.check_inputs(here, made)
    write(questions(9), second)
    with pytest.raises(InputChanged) as stopped:
        wiring.check_inputs(here, made)
    assert stopped.value.where == second
    assert first != second


def test_a_file_whose_shards_are_published_is_not_asked_for_again(folder: Folder) -> None:
    folder.rows(5, "prompts/b.parquet")
    here = open_job(folder.job(), RUN)
    made = wiring.plan(here)
    here.ledger.publish(made.shards[0].id, b"rows")
    Path(made.shards[0].uri).unlink()
    wiring.check_inputs(here, made)


def files_of(shards: Sequence[Shard]) -> list[str]:
    return sorted({shard.uri for shard in shards})


def test_an_equal_job_joins_the_run(folder: Folder) -> None:
    path = folder.job()
    first = wiring.plan(open_job(path, RUN))
    assert wiring.plan(open_job(path, RUN)) == first


def test_a_run_that_was_never_planned_has_no_plan(folder: Folder) -> None:
    here = open_job(folder.job(), RUN)
    with pytest.raises(RunMissing, match="has no plan"):
        wiring.planned(here)
    with pytest.raises(RunMissing, match="no run"):
        wiring.run_worker(here, NoNotice())
