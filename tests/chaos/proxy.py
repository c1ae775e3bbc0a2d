"""A TCP proxy before an S3 server: it has weather, and can kill whoever sends a given request."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Weather = Literal["fair", "refuse", "reset", "stall", "slow down", "lose answers"]
"""What clients meet: a closed port; a reset of every connection; bytes that go nowhere until it is
over; 503 SlowDown; answers that are lost after the server did as it was asked."""

Side = Literal["before", "after"]

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")
_SLOW_DOWN_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
_SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(_SLOW_DOWN_BODY)
) + _SLOW_DOWN_BODY
_ANSWERS_LOST = 0.3


@dataclass(slots=True)
class Trap:
    """Waits for one PUT whose path `wanted` accepts, and calls `spring` with the sender's port:
    before the server hears of the request, or when its answer is there and the sender has none.

    The request or its answer is lost then, or goes on after `hold_seconds` where that is set."""

    wanted: Callable[[str], bool]
    side: Side
    spring: Callable[[int], None]
    hold_seconds: float | None = None
    sprung: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class _Connection:
    client: asyncio.StreamWriter
    port: int
    server: asyncio.StreamWriter | None = None
    trap: Trap | None = None

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None and (plug := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


class UnrulyProxy:
    """Fair when made. Its methods may be called from any thread."""

    def __init__(self, endpoint_url: str, seed: int) -> None:
        host, _, port = endpoint_url.removeprefix("http://").partition(":")
        self._upstream = (host, int(port or 80))
        self._random = random.Random(seed)
        self._weather: Weather = "fair"
        self._traps: list[Trap] = []
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._flowing = self._ask(_new_event())
        self._port = 0
        self._ask(self._listen())
        self.endpoint_url = f"http://127.0.0.1:{self._port}"
        self.paths_put: set[str] = set()
        self.met: Counter[Weather] = Counter()
        """Requests and connections that met bad weather."""

    def set_weather(self, weather: Weather) -> None:
        self._ask(self._change(weather))

    def add_trap(self, trap: Trap) -> None:
        """It is gone once a request is in it."""
        self._traps.append(trap)

    def remove_trap(self, trap: Trap) -> None:
        """Afterwards it has sprung or never will."""
        self._ask(self._remove(trap))

    def remove_traps(self) -> None:
        self._traps.clear()

    def close(self) -> None:
        self._ask(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _change(self, weather: Weather) -> None:
        was, self._weather = self._weather, weather
        # A stall is a network that carries nothing for a while: what was sent arrives late.
        if weather == "stall":
            self._flowing.clear()
        else:
            self._flowing.set()
        if weather in ("refuse", "reset", "slow down"):
            for connection in list(self._connections):
                connection.reset()
        if weather == "refuse" and self._listener is not None:
            self._listener.close()
            self._listener = None
        elif was == "refuse" and self._listener is None:
            await self._listen()

    async def _remove(self, trap: Trap) -> None:
        if trap in self._traps:
            self._traps.remove(trap)

    async def _end(self) -> None:
        await self._change("refuse")
        # With its connections gone, every task ends by itself.
        if served := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(served, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        connection = _Connection(client, client.get_extra_info("peername")[1])
        self._connections.add(connection)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._attend(reader, connection)
        finally:
            self._connections.discard(connection)
            connection.reset() if connection.trap else _hang_up(connection)

    async def _attend(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        if self._weather == "stall":
            self.met["stall"] += 1
            await self._flowing.wait()
        if self._weather == "reset":
            self.met["reset"] += 1
            connection.reset()
        elif self._weather == "slow down":
            await _refuse_for_now(reader, connection.client)
            self.met["slow down"] += 1
        else:
            answers, connection.server = await asyncio.open_connection(*self._upstream)
            ways = (self._up(reader, connection), self._down(answers, connection))
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        assert connection.server is not None
        while data := await reader.read(1 << 16):
            await self._flow()
            if (request := _REQUEST.match(data)) and request[1] == b"PUT":
                path = request[2].decode()
                trap = next((trap for trap in list(self._traps) if trap.wanted(path)), None)
                if trap is not None:
                    self._traps.remove(trap)
                    connection.trap = trap
                    if trap.side == "before" and not await self._spring(trap, connection):
                        return
                self.paths_put.add(path)
            connection.server.write(data)
            await connection.server.drain()

    async def _down(self, answers: asyncio.StreamReader, connection: _Connection) -> None:
        while data := await answers.read(1 << 16):
            await self._flow()
            final = not data.startswith(b"HTTP/1.1 100")
            trap = connection.trap
            if final and trap is not None and not await self._spring(trap, connection):
                return None
            if final and self._weather == "lose answers" and self._random.random() < _ANSWERS_LOST:
                self.met["lose answers"] += 1
                return connection.reset()
            connection.client.write(data)
            await connection.client.drain()
        return None

    async def _flow(self) -> None:
        if not self._flowing.is_set():
            self.met["stall"] += 1
            await self._flowing.wait()

    async def _spring(self, trap: Trap, connection: _Connection) -> bool:
        """Whether what was caught goes on."""
        trap.spring(connection.port)
        trap.sprung.set()
        if trap.hold_seconds is None:
            return False
        connection.trap = None
        await asyncio.sleep(trap.hold_seconds)
        return True


async def _new_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _refuse_for_now(reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    # Who asks first whether to send a body is told so at once, as by S3 itself.
    if b"100-continue" not in head and (length := re.search(rb"content-length: *(\d+)", head)):
        await reader.readexactly(int(length[1]))
    client.write(_SLOW_DOWN)
    await client.drain()


def _hang_up(connection: _Connection) -> None:
    for writer in (connection.client, connection.server):
        if writer is not None:
            writer.close()
