"""Several workers on one machine: what each has of it, and who notices when they do not say so."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import wiring
from pipeline.at_hand import JobAtHand, open_job
from pipeline.core.crowding import Crowded, crowded
from pipeline.core.errors import JobInvalid
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.session import Session
from pipeline.proving import verify
from pipeline.spot.share import SHARE, node_share
from pipeline.spot.signals import NoNotice
from tests.e2e.house import job_file, questions, write
from tests.unit.strategies import bounded

EVENING = datetime(2026, 11, 20, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1/4", Fraction(1, 4)),
        ("0.25", Fraction(1, 4)),
        (".25", Fraction(1, 4)),
        ("3/8", Fraction(3, 8)),
        ("1", Fraction(1)),
        ("1.0", Fraction(1)),
        ("", Fraction(1)),
    ],
)
def test_a_share_is_a_fraction_or_a_decimal(text: str, share: Fraction) -> None:
    assert node_share({SHARE: text}) == share
    assert node_share({}) == 1


@pytest.mark.parametrize(
    "text", ["0", "0/4", "-1/4", "5/4", "1.01", "1/0", "a quarter", "nan", "1e-9", "25%", "1/4/2"]
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(JobInvalid) as refused:
        node_share({SHARE: text})
    assert refused.value.where == "SPOTMILL_NODE_SHARE"


# From the pool to the bill.


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobAtHand:
    monkeypatch.setenv("SPOTMILL_INSTANCE_ID", "i-1")
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "p5.48xlarge")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "spot")
    monkeypatch.delenv(SHARE, raising=False)
    write(questions(12), str(tmp_path / "prompts/a.parquet"))
    (tmp_path / "prices.yaml").write_text(
        "as_of: '2026-11-01'\nsource: s\nmachines: {p5.48xlarge: {spot: 36, on_demand: 72}}\n"
    )
    path = job_file(
        tmp_path / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model={"id": "scripted://?window=8&tokens=5"},
        shards={"rows": 4},
        fleet={"lease_seconds": 2},
        cost={"prices": "prices.yaml"},
    )
    return open_job(str(path), "night")


@pytest.mark.parametrize(
    ("workers", "own", "passed"),
    [(1, "1", "1"), (2, "1", "1/2"), (2, "1/4", "1/8"), (8, "1", "1/3")],
    ids=["alone", "two", "two in a container", "more than there are shards"],
)
def test_processes_of_one_machine_are_told_their_part_of_it(
    job: JobAtHand, monkeypatch: pytest.MonkeyPatch, workers: int, own: str, passed: str
) -> None:
    monkeypatch.setenv(SHARE, own)
    pool = wiring.local_pool(job, wiring.plan(job), workers)
    assert pool._environment[SHARE] == passed


def test_a_worker_is_billed_for_its_share_and_says_so(
    job: JobAtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARE, "1/4")
    made = wiring.plan(job)
    wiring.run_worker(job, NoNotice(), "w1")
    manifest = wiring.close_books(job, made)
    [worker] = manifest["workers"]
    assert Decimal(worker["price_per_hour"]) == 9
    assert Decimal(worker["on_demand_price_per_hour"]) == 18
    assert worker["price_source"] == "s, as of 2026-11-01; 1/4 of the machine"
    assert worker["node_share"] == "1/4"
    assert verify(job)["verified"] is True
    seconds = Decimal(str(sum(worker["seconds"].values())))
    assert abs(Decimal(manifest["cost"]["total"]) - seconds * 9 / 3600) < Decimal("1e-9")


def test_whoever_closes_the_books_is_told_of_a_machine_that_was_charged_for_twice(
    job: JobAtHand, caplog: pytest.LogCaptureFixture
) -> None:
    made = wiring.plan(job)
    wiring.run_worker(job, NoNotice(), "w1")
    # A second one, beside it all the time.
    session = job.ledger.sessions.all()["w1"]
    job.ledger.sessions.beat(replace(session, worker_id="w2", shards={}, dropped={}, portions={}))
    with caplog.at_level(logging.WARNING, "spotmill.run"):
        wiring.close_books(job, made)
    [told] = [record.getMessage() for record in caplog.records if "machine" in record.getMessage()]
    assert told.startswith("machine i-1 is charged for 2 times at once, to the workers w1, w2")
    assert SHARE in told


# Who lived beside whom.


def session(name: str, began: float, seconds: float, share: Fraction, machine: str) -> Session:
    at = EVENING + timedelta(seconds=began)
    return Session(
        worker_id=name,
        beat=1,
        state="ended",
        started_at=at.isoformat(),
        beat_at=(at + timedelta(seconds=seconds)).isoformat(),
        node=Node(machine),
        price=NodePrice(Decimal(1), "a list"),
        buckets=Buckets(useful=round(seconds * 1e6)),
        node_share=share,
    )


_shares = st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(1, 3), Fraction(1, 4)])
_lives = st.tuples(
    st.integers(0, 40), st.integers(1, 40), _shares, st.sampled_from(["a", "b", "unknown"])
)


@bounded
@given(st.lists(_lives, max_size=8))
def test_a_machine_is_crowded_when_at_some_second_more_than_all_of_it_is_charged(
    lives: list[tuple[int, int, Fraction, str]],
) -> None:
    sessions = [session(f"w{n}", *life) for n, life in enumerate(lives)]
    expected = {
        machine: max(
            sum(share for began, long, share, there in lives
                if there == machine and began <= second < began + long)
            for second in range(81)
        )
        for machine in ("a", "b")
    }  # fmt: skip
    found = {crowd.instance_id: crowd.share for crowd in crowded(sessions)}
    assert found == {machine: share for machine, share in expected.items() if share > 1}


def test_the_workers_of_the_most_crowded_time_are_named() -> None:
    lives = [
        session("a", 0, 10, Fraction(1), "m"),
        session("b", 10, 10, Fraction(1), "m"),
        session("c", 15, 10, Fraction(1, 2), "m"),
    ]
    assert crowded(lives) == [Crowded("m", Fraction(3, 2), ("b", "c"))]
    unpriced = [replace(one, price=NodePrice(None, "unknown")) for one in lives]
    assert crowded(unpriced) == []
    assert crowded([replace(one, beat_at="some day") for one in lives]) == []
