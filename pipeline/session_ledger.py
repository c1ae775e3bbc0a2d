"""The durable facts of worker sessions: begun, beaten, ended (decision 002)."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core import layout
from pipeline.core.ports import ObjectStore
from pipeline.core.session import Session
from pipeline.documents import GetAll, all_parsed, dump, one_by_one, parse


class SessionLedger:
    """One run's sessions. Any thread may call it; of what workers race for, one gets it.

    Reading raises `ObjectDamaged` for an object that is not what spotmill writes there.
    """

    def __init__(self, store: ObjectStore, run_id: str, get_all: GetAll = one_by_one) -> None:
        self._store = store
        self._get_all = get_all
        self._run_id = run_id
        self._ended: dict[str, Session] = {}

    def begin(self, session: Session) -> bool:
        """True when this session is the first of its worker id, and this caller made it."""
        return self._store.create(self._key(session.worker_id), dump(session.to_json()))

    def beat(self, session: Session) -> None:
        self._store.put(self._key(session.worker_id), dump(session.to_json()))

    def end(self, session: Session) -> None:
        """The session's last beat: whatever beat of it arrives later does not count."""
        self._store.create(self._last(session.worker_id), dump(session.to_json()))
        self.beat(session)

    def of(self, worker_id: str) -> Session | None:
        """As its last beat left it, if it has ended."""
        if worker_id in self._ended:
            return self._ended[worker_id]
        told = self._read(self._key(worker_id))
        if told is not None and not told.over:
            told = self._read(self._last(worker_id)) or told
        if told is not None and told.over:
            # It never changes again, so one read is enough for good.
            self._ended[worker_id] = told
        return told

    def all(self) -> dict[str, Session]:
        """By worker id, as their last beats left those that have ended."""
        told = self._told({name: self._key(name) for name in self.worker_ids()})
        if any(not session.over for session in told.values()):
            ended = self._store.list(layout.last_beats_prefix(self._run_id))
            last = {layout.worker_of_last_beat(key): key for key in ended}
            told |= self._told({n: last[n] for n in told if n in last and not told[n].over})
        self._ended |= {name: session for name, session in told.items() if session.over}
        return told

    def worker_ids(self) -> list[str]:
        """Every worker that has a session."""
        keys = self._store.list(layout.sessions_prefix(self._run_id))
        return [worker for key in keys if (worker := layout.worker_of_session(key)) is not None]

    def _told(self, keys: Mapping[str, str]) -> dict[str, Session]:
        """What is stored there of these workers; of those known to have ended, nothing is read."""
        unread = {name: key for name, key in keys.items() if name not in self._ended}
        read = all_parsed(self._get_all, self._store.get, [*unread.values()], Session.from_json)
        found = zip(unread, read, strict=True)
        known = self._ended | {name: session for name, session in found if session is not None}
        return {name: known[name] for name in keys if name in known}

    def _read(self, key: str) -> Session | None:
        body = self._store.get(key)
        return None if body is None else parse(body, Session.from_json, key)

    def _key(self, worker_id: str) -> str:
        return layout.session_key(self._run_id, worker_id)

    def _last(self, worker_id: str) -> str:
        return layout.last_beat_key(self._run_id, worker_id)
