"""A server that answers every request with the same words, and writes down what was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pipeline.stores import StoreOptions
from pipeline.stores.s3 import S3Store


@dataclass
class CannedServer:
    """`heads` is the status of every HEAD; `missing_bytes` are promised and never sent."""

    endpoint_url: str = ""
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    missing_bytes: int = 0
    heads: int = 200
    requests: list[str] = field(default_factory=list)

    def says(self, status: int, code: str, more: str = "") -> None:
        self.status = status
        self.body = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code>"
            f"<Message>the server's own words</Message>{more}</Error>"
        ).encode()


@contextmanager
def canned_server() -> Iterator[CannedServer]:
    canned = CannedServer()
    wake = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # else it leaves `Expect: 100-continue` unanswered

        def answer(self) -> None:
            left = int(self.headers.get("Content-Length") or 0)
            while left and (piece := self.rfile.read(min(left, 2**20))):
                left -= len(piece)
            canned.requests.append(self.command)
            if canned.silent:
                wake.wait(30)
                return
            self.send_response(canned.heads if self.command == "HEAD" else canned.status)
            for name, value in canned.headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.send_header("Content-Length", str(len(canned.body) + canned.missing_bytes))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(canned.body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # the client hung up, as some tests want it to

    server = Server(("127.0.0.1", 0), Handler)
    canned.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield canned
    finally:
        wake.set()
        server.shutdown()
        thread.join()
        server.server_close()


def canned_store(server: CannedServer) -> S3Store:
    return S3Store("a-bucket/answers", StoreOptions(endpoint_url=server.endpoint_url))
