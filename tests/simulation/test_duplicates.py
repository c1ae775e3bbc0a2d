"""Rows that ask the same are generated once, whatever happens meanwhile."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from pipeline.core.errors import Interrupted
from pipeline.core.rows import Sampling
from pipeline.engines.scripted import DEADLY
from pipeline.worker import WorkerReport
from tests.simulation.fakes import NoticeAt
from tests.simulation.memory_rows import Row
from tests.simulation.watched import Killed, killed_at
from tests.simulation.world import EXACT, Rows, World

DRAWN = replace(EXACT, temperature=0.7)
COPIES = 5


def rows(sampling: Sampling = EXACT) -> Rows:
    prompts = [f"a prompt, number {n}" for n in range(4)] * COPIES
    return {0: [Row(prompt, sampling) for prompt in prompts]}


def answers(world: World) -> list[str | None]:
    return [row.completion for row in world.answers()[0]]


def test_identical_requests_are_generated_once() -> None:
    world = World(rows())
    assert isinstance(world.work(), WorkerReport)
    manifest = world.finish()
    assert set(Counter(answers(world)).values()) == {COPIES}
    tokens = manifest["tokens"]
    assert tokens["output"] == COPIES * world.decoded()
    assert tokens["copied"] == (COPIES - 1) * world.decoded()
    assert tokens["wasted"] == 0
    assert world.problems() == []


def test_what_is_drawn_by_chance_is_drawn_for_each_row() -> None:
    world = World(rows(DRAWN))
    world.work()
    manifest = world.finish()
    assert manifest["tokens"]["copied"] == 0
    assert manifest["tokens"]["output"] == world.decoded()


@pytest.mark.parametrize("asks", range(4, 24, 3))
def test_a_successor_copies_from_what_is_done(asks: int) -> None:
    world = World(rows())
    first = world.work(notice=NoticeAt(asks))
    assert isinstance(first, Interrupted | WorkerReport)
    world.resume()
    manifest = world.finish()
    tokens = manifest["tokens"]
    assert tokens["output"] - tokens["copied"] + tokens["wasted"] == world.decoded()
    assert tokens["wasted"] == 0
    assert tokens["copied"] == (COPIES - 1) * world.decoded()
    assert world.problems() == []


@pytest.mark.parametrize("call", range(5, 25, 2))
def test_nothing_is_lost_when_the_one_who_leads_is_killed(call: int) -> None:
    world = World(rows())
    assert isinstance(world.work(killed_at(call, applied=True)), Killed | WorkerReport)
    world.resume()
    world.finish()
    assert set(Counter(answers(world)).values()) == {COPIES}
    assert world.problems() == []


def test_copies_of_a_condemned_row_are_condemned_with_it() -> None:
    prompts = ["good", f"bad {DEADLY}", "fine", f"bad {DEADLY}", f"bad {DEADLY}", "good"]
    world = World({0: [Row(prompt, EXACT) for prompt in prompts]}, own_process=True)
    world.work()
    manifest = world.finish()
    found = world.answers()[0]
    assert [row.error is None for row in found] == [True, False, True, False, False, True]
    leader = found[1].error
    assert leader is not None and leader.startswith("quarantined")
    assert found[3].error == found[4].error == f"{leader} (row 1 asks the same)"
    assert manifest["output"]["rows_error"] == 3
    assert world.engines == 5, "the first, and one after each death: no copy is tried"
    assert world.problems() == []
