"""Machines that workers were charged for more than once: they shared one, and did not say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from pipeline.core.session import Session
from pipeline.core.times import moment

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Crowded:
    """At one time, these workers were charged for `share` of one machine in all: more than 1."""

    instance_id: str
    share: Fraction
    worker_ids: tuple[str, ...]


def crowded(sessions: Iterable[Session]) -> list[Crowded]:
    """By machine, the time at which its workers' shares added up to most, where that is more than
    the whole of it. Clocks are those of the machine itself, so they may be compared. Passed over
    are sessions without a price, which charge nothing, and of machines without a name."""
    by_machine: dict[str, list[Session]] = {}
    for session in sessions:
        if session.node.instance_id != _UNKNOWN and session.price.usd_per_hour is not None:
            by_machine.setdefault(session.node.instance_id, []).append(session)
    found = (_most_crowded(name, by_machine[name]) for name in sorted(by_machine))
    return [each for each in found if each.share > 1]


def _most_crowded(instance_id: str, sessions: Iterable[Session]) -> Crowded:
    most = Crowded(instance_id, Fraction(0), ())
    lives = [(*life, session) for session in sessions if (life := _life(session)) is not None]
    for start, _, _ in lives:
        there = [session for born, gone, session in lives if born <= start < gone]
        share = sum((session.node_share for session in there), Fraction(0))
        if share > most.share:
            names = tuple(sorted(session.worker_id for session in there))
            most = Crowded(instance_id, share, names)
    return most


def _life(session: Session) -> tuple[datetime, datetime] | None:
    """From its process's beginning to its last beat."""
    began, gone = moment(session.started_at), moment(session.beat_at)
    return None if began is None or gone is None else (began, gone)
