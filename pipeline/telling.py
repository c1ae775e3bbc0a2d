"""What is told of a worker, at its beats, and of a run, at its supervisor's ticks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.accounts import ReadAccounts
from pipeline.at_hand import JobAtHand
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.job import STANDARD_TAGS, without_folder
from pipeline.metrics.engine import EngineCounts
from pipeline.metrics.figures import Subject, Told
from pipeline.metrics.gpu import Gpus
from pipeline.metrics.of_run import PublishedShards, run_figures
from pipeline.metrics.of_session import session_figures
from pipeline.metrics.sinks import sinks_of
from pipeline.metrics.teller import Teller
from pipeline.supervisor import Told as ShownToRun

_READ_AT_ONCE = 64
_LEAVING_SECONDS = 1.0
"""How long a worker waits for its last figures, in no bucket: it has beaten its last by then."""
_CLOSING_SECONDS = 60.0
"""How long a finished run waits for its last figures, for which manifests may have to be read."""


@contextmanager
def telling_worker(here: JobAtHand, worker_id: str) -> Iterator[Callable[[Session], None]]:
    """Gives what is to be shown each beat's session; it keeps the newest, and no more."""
    spec = here.job.metrics
    sinks = sinks_of(spec, os.environ, of_run=False)
    shown: list[Session] = []
    gpus: list[Gpus] = []
    engine = EngineCounts()

    def look() -> Told | None:
        if not shown:
            return None
        session = shown[0]
        # NVML takes a while to begin.
        gpus[:] = gpus or [Gpus()]
        figures = (*session_figures(session), *engine.figures(), *gpus[0].figures())
        return Told(_subject(here, worker_id, session.started_at), figures)

    def show(session: Session) -> None:
        # A beat in a worker's stead may come after a newer one of its own.
        if not shown or session.beat > shown[0].beat:
            shown[:] = [session]

    if not sinks:
        yield lambda _: None
        return
    with Teller(sinks, look, spec.seconds, forgets_itself=True, leave_seconds=_LEAVING_SECONDS):
        yield show


@contextmanager
def telling_run(here: JobAtHand, planned: Sequence[Shard]) -> Iterator[ShownToRun]:
    """Gives what is to be shown the sessions and published shards of each tick. When it is over,
    they are read once more: workers that drain spend and publish after the last tick."""
    spec = here.job.metrics
    sinks = sinks_of(spec, os.environ, of_run=True)
    shown: list[tuple[Mapping[str, Session], Collection[int]]] = []
    folded = PublishedShards()
    over = threading.Event()

    def look() -> Told | None:
        if over.is_set():
            # In the teller's thread, which nobody waits for long if the store is away.
            shown[:] = [(here.ledger.sessions.all(), here.ledger.published())]
        if not shown:
            return None
        sessions, published = shown[0]
        new = sorted(set(published) - folded.shards)
        # Some at a time, so that an interruption loses few of them.
        for first in range(0, len(new), _READ_AT_ONCE):
            some = new[first : first + _READ_AT_ONCE]
            _take_in(folded, here.ledger.shard_manifests(some))
        return _of_run(here, planned, folded, sessions, None)

    def show(sessions: Mapping[str, Session], published: Collection[int]) -> None:
        shown[:] = [(sessions, published)]

    if not sinks:
        yield lambda _sessions, _published: None
        return
    with Teller(sinks, look, spec.seconds):
        try:
            yield show
        finally:
            over.set()


def tell_closed(
    here: JobAtHand, planned: Sequence[Shard], accounts: ReadAccounts, closed: Mapping[str, Any]
) -> None:
    """The last word on a run, whose books are closed: its manifest's own cost."""
    sinks = sinks_of(here.job.metrics, os.environ, of_run=True)
    if not sinks:
        return
    folded = PublishedShards()

    def look() -> Told | None:
        found = accounts()
        _take_in(folded, found.manifests)
        return _of_run(here, planned, folded, found.sessions, closed)

    with Teller(sinks, look, here.job.metrics.seconds, leave_seconds=_CLOSING_SECONDS):
        pass


def _take_in(folded: PublishedShards, manifests: Iterable[Mapping[str, Any]]) -> None:
    for manifest in manifests:
        folded.take(manifest)


def _of_run(
    here: JobAtHand,
    planned: Sequence[Shard],
    folded: PublishedShards,
    sessions: Mapping[str, Session],
    closed: Mapping[str, Any] | None,
) -> Told | None:
    document = here.ledger.job()
    if document is None:
        return None
    gone = {name for name, session in sessions.items() if session.over or closed is not None}
    rows = {shard.id: shard.rows for shard in planned}
    figures = run_figures(rows, folded, sessions, closed)
    return Told(_subject(here, None, document["created_at"]), tuple(figures), frozenset(gone))


def _subject(here: JobAtHand, worker_id: str | None, since: str) -> Subject:
    tags = here.job.all_tags()
    return Subject(
        run_id=here.run_id,
        worker_id=worker_id,
        tags={name: tags[name] for name in STANDARD_TAGS},
        model=without_folder(here.job.model.id),
        operation="chat" if here.job.input.messages else "text_completion",
        since=since,
    )
