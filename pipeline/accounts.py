"""What a run's books are made of, read once for all that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.core.bills import SessionBill
from pipeline.core.session import Session
from pipeline.documents import Json
from pipeline.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Accounts:
    """Manifests of published shards, in their order, and the sessions by worker."""

    manifests: Sequence[Json]
    sessions: Mapping[str, Session]

    @property
    def bills(self) -> list[SessionBill]:
        return [session.bill for _, session in sorted(self.sessions.items())]


ReadAccounts: TypeAlias = Callable[[], Accounts]
"""Reads them when they are first asked for, or never."""


def accounts_of(ledger: Ledger, shard_ids: Collection[int]) -> Accounts:
    """Of these shards, as far as they are published, and of all workers."""
    # Before the sessions, whose beats have to be later than what shards charge them with.
    manifests = ledger.shard_manifests(shard_ids)
    return Accounts(manifests, ledger.sessions.all())
