"""Lives of a worker: a process that starts under an id that had a session before goes on under one
derived from it, and so has a session of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_LATER_LIFE = re.compile(r"(.+)\.([1-9]\d*)")


def id_of_life(given_id: str, life: int) -> str:
    """The session id of the life of this number, from 1, of a worker that was given this id."""
    return given_id if life == 1 else f"{given_id}.{life}"


def life_of(worker_id: str, given_id: str) -> int:
    """Which life this is of the worker that was given `given_id`; 0 when it is another's."""
    if worker_id == given_id:
        return 1
    found = _LATER_LIFE.fullmatch(worker_id)
    return int(found[2]) if found and found[1] == given_id else 0


def given_to(worker_id: str, given: Collection[str]) -> str:
    """Which of the ids that were `given` this is a life of; itself when it is none's."""
    found = _LATER_LIFE.fullmatch(worker_id)
    return found[1] if found and found[1] in given else worker_id


def newest_lives(worker_ids: Iterable[str], given: Collection[str]) -> dict[str, str]:
    """The newest life of each worker, by the id it was given; its own where nobody knows better."""
    newest: dict[str, str] = {}
    for worker_id in worker_ids:
        name = given_to(worker_id, given)
        known = newest.get(name)
        if known is None or life_of(worker_id, name) > life_of(known, name):
            newest[name] = worker_id
    return newest
