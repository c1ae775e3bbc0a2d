"""An HTTP server on loopback that can fall into trouble: what the metadata doubles share."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

Trouble = Literal["500", "503", "garbage", "hang up", "slow"]


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that closing it leaves no thread waiting for a client."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)


class MetadataDouble:
    """Subclasses answer in `answer`, called in a thread per connection under no lock.

    `trouble` befalls every request until it is None again; `asked` has all of them.
    """

    def __init__(self, port: int = 0) -> None:
        self.trouble: Trouble | None = None
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._server = _Server(_handler(self._answer), port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, asked: Asked) -> Answer:
        raise NotImplementedError

    def _answer(self, asked: Asked) -> Answer | None:
        self.asked.append(asked)
        match self.trouble:
            case "500":
                return Answer(500, "InternalServerError")
            case "503":
                return Answer(503, "Service Unavailable")
            case "garbage":
                return Answer(200, '{"<html>')
            case "hang up":
                return None
            case "slow":
                # Longer than any client here waits for a short answer.
                self.closing.wait(7.0)
                return Answer(504)
            case None:
                return self.answer(asked)


def _handler(answer: Callable[[Asked], Answer | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            made = answer(
                Asked(
                    self.command,
                    url.path,
                    dict(parse_qsl(url.query, keep_blank_values=True)),
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(length),
                )
            )
            if made is None:
                self.close_connection = True
                return
            body = made.text.encode()
            with contextlib.suppress(ConnectionError):
                self.send_response(made.status)
                for name, value in made.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = _respond  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def until_told(what: Callable[[], object], seconds: float, why: str) -> float:
    """How many seconds it took until `what` returned something true; fails after `seconds`."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {why}"
        time.sleep(0.005)
    return time.monotonic() - started
