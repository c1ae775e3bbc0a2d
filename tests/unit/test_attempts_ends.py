"""When an attempt is taken to have ended whose worker never said so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.core.checkpoint import Attempt, Checkpoint
from pipeline.core.lease import Lease
from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node
from pipeline.core.session import Session, ShardAccount
from pipeline.ledger import Ledger
from pipeline.stores.memory import MemoryStore
from tests.simulation.memory_rows import JsonFormat

BEGAN = "2026-11-20T22:00:00.000Z"
SAVED = "2026-11-20T22:10:00.000Z"
BEAT = "2026-11-20T22:10:20.000Z"
WORKED = ShardAccount(1, useful_micros=15_000_000)
ATTEMPT = Attempt("w1", 1, Node("i-1"), UNKNOWN_PRICE, BEGAN, SAVED, "lost", Buckets(useful=10**7))
SESSION = Session("w1", 3, "work", BEGAN, BEAT, Node("i-1"), UNKNOWN_PRICE, shards={0: WORKED})


def ended_at(session: Session | None, saved: bool = True) -> str:
    """When the first attempt on a shard ended, as its successor has it."""
    ledger = Ledger(MemoryStore(), "night", JsonFormat())
    ledger.claim(Lease(0, 1, "w1", "nonce", BEGAN))
    if saved:
        ledger.checkpoint(Checkpoint(0, 1, 1, "nonce", (), {}, ATTEMPT))
    if session is not None:
        ledger.sessions.beat(session)
    [attempt] = ledger.progress(0, before_epoch=2).attempts
    return attempt.ended_at


@pytest.mark.parametrize("beat", [BEAT, SAVED, "2026-11-20T22:09:50.000Z"])
def test_at_its_checkpoint_or_at_the_beat_after_it(beat: str) -> None:
    """The beat's seconds are its own: they must not have been spent after its end."""
    assert ended_at(replace(SESSION, beat_at=beat)) == max(SAVED, beat)


def test_no_beat_tells_when_it_was_given_up() -> None:
    assert ended_at(replace(SESSION, shards={}, dropped={0: WORKED})) == SAVED


def test_without_a_session_its_checkpoint_is_all_there_is() -> None:
    assert ended_at(None) == SAVED
    assert ended_at(None, saved=False) == BEGAN


def test_it_ended_no_earlier_than_it_began() -> None:
    older = replace(SESSION, beat_at="2026-11-20T21:59:59.000Z", shards={})
    assert ended_at(older, saved=False) == BEGAN
