"""A real S3 API for tests: `ministack` on loopback, or any endpoint named by the environment."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import Session

from pipeline.stores import StoreOptions

EXTERNAL_ENDPOINT = os.environ.get("SPOTMILL_TEST_S3_ENDPOINT")
_START_SECONDS = 30.0


@dataclass
class S3Server:
    """`environment` is what a client needs to be let in, in this process or in another."""

    endpoint_url: str
    environment: dict[str, str] = field(default_factory=dict)

    def client(self) -> Any:
        """A plain botocore client, to look at the server past the code under test."""
        session = Session()
        if self.environment:
            session.set_credentials(
                self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"]
            )
        return session.create_client(
            "s3",
            region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
            endpoint_url=self.endpoint_url,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )


@dataclass(frozen=True)
class S3Bucket:
    name: str
    endpoint_url: str

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    @property
    def options(self) -> StoreOptions:
        return StoreOptions(endpoint_url=self.endpoint_url)


def dummy_environment(scratch: Path) -> dict[str, str]:
    """Credentials for a server that checks none, and nothing of the developer's own."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(scratch / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(scratch / "no-credentials"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@contextmanager
def running_server(scratch: Path) -> Iterator[S3Server]:
    if EXTERNAL_ENDPOINT:
        yield S3Server(EXTERNAL_ENDPOINT)
        return
    process, port = _start(scratch)
    try:
        yield S3Server(f"http://127.0.0.1:{port}", dummy_environment(scratch))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _start(scratch: Path) -> tuple[subprocess.Popen[bytes], int]:
    log = scratch / "ministack.log"
    for _ in range(5):  # somebody else may take the free port first; ministack then ends at once
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ministack"],
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
                    "BIND_HOST": "127.0.0.1",
                    "GATEWAY_PORT": str(port),
                    "SERVICES": "s3",
                    "S3_PERSIST": "0",
                    "LOG_LEVEL": "WARNING",
                    "TMPDIR": str(scratch),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if _answers(process, port):
            return process, port
        process.kill()
        process.wait(10)
    raise RuntimeError(f"ministack does not start:\n{log.read_text(errors='replace')[-2000:]}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/_ministack/health")
            if connection.getresponse().status == 200:
                return process.poll() is None
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        finally:
            connection.close()
    return False


def empty_and_delete(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=found["Key"])
    client.delete_bucket(Bucket=bucket)


class LossyProxy:
    """Stands before an S3 server; keeps an answer for itself and hangs up, or does not read at all.

    Serves one request a connection, and counts them by method.
    """

    def __init__(self, endpoint_url: str) -> None:
        host, _, port = endpoint_url.removeprefix("http://").partition(":")
        self._server = (host, int(port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers_to_lose = 0
        self.stalled = False
        self.requests: list[str] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        self._closed.set()
        # Closing a listening socket does not wake the thread that waits for it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server, 10) as server:
            if self.stalled:
                self._closed.wait(60)
                return
            request = _whole_message(client)
            if not request:
                return
            self.requests.append(request.split(b" ", 1)[0].decode())
            server.sendall(request)
            answer = _whole_message(server)
            if self.answers_to_lose:
                self.answers_to_lose -= 1
                return
            head, _, body = answer.partition(b"\r\n\r\n")
            client.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)


_EXPECT = b"Expect: 100-continue\r\n"


def _whole_message(connection: socket.socket) -> bytes:
    """One HTTP message with a Content-Length or without a body."""
    message = b""
    while b"\r\n\r\n" not in message:
        received = connection.recv(65536)
        if not received:
            return message
        message += received
    if _EXPECT in message:
        # The answer to this must come from us, who want the whole message before passing it on.
        message = message.replace(_EXPECT, b"", 1)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    head = message.partition(b"\r\n\r\n")[0].lower()
    length = 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(message) < len(head) + 4 + length:
        received = connection.recv(65536)
        if not received:
            break
        message += received
    return message
