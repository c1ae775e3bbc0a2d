"""What vLLM compiled while it loaded, kept in a bucket for the next worker: signed, or not at all.

The threat, and why it is off unless a secret is given: decision 016.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import logging
import os
import tarfile
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import JobInvalid, SpotmillError
from pipeline.core.layout import compile_cache_key
from pipeline.core.ports import ObjectStore
from pipeline.core.session import Compiled

log = logging.getLogger("spotmill.engine")

PLACE = "SPOTMILL_COMPILE_CACHE"
SECRET = "SPOTMILL_COMPILE_CACHE_SECRET"  # noqa: S105 - the name of a variable
_MAGIC = b"spotmill compile cache 1\n"
_SHORTEST_SECRET = 16
_LIMIT_BYTES = 2**30


def place_and_secret(environment: Mapping[str, str]) -> tuple[str, bytes] | None:
    """Where the cache is kept and what signs it; None when it is off. Raises `JobInvalid`."""
    uri, secret = environment.get(PLACE), environment.get(SECRET, "")
    if not uri:
        return None
    if len(secret) < _SHORTEST_SECRET:
        raise JobInvalid(
            f"a compile cache needs a secret of {_SHORTEST_SECRET} characters or more",
            where=SECRET,
            why="compiled code is run by every worker that reads it, so it has to be signed by one",
            hint=f"give all workers the same {SECRET}, from your secrets, or unset {PLACE}",
        )
    return uri, secret.encode()


@dataclass(frozen=True, slots=True)
class CompileCache:
    """The compiled code of one `identity`: of what hardware, versions, model and settings.

    Neither `fetch` nor `keep` ever stops a worker: what fails is logged, and vLLM compiles.
    """

    store: ObjectStore
    secret: bytes
    home: Path
    identity: str
    limit_bytes: int = _LIMIT_BYTES

    @property
    def folder(self) -> Path:
        """For vLLM to read and to write: its `VLLM_CACHE_ROOT`."""
        return self.home / self.identity

    def fetch(self) -> Compiled:
        """Bring what another worker compiled, unless this machine has it."""
        if self.folder.is_dir():
            return "node"
        found: Compiled = "new"
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            body = self.store.get(self._key)
            if body is not None:
                self._unpack(self._proved(body))
                found = "bucket"
        except (SpotmillError, OSError, tarfile.TarError, EOFError) as problem:
            log.warning("no compiled code from the bucket, so the engine compiles: %s", problem)
        self.folder.mkdir(exist_ok=True, mode=0o700)
        return found

    def keep(self) -> bool:
        """Store what this worker's engine compiled, unless some is stored. True when it was."""
        try:
            if self._key in self.store.list(self._key):
                return False
            packed = self._packed()
            return packed is not None and self.store.create(self._key, self._signed(packed))
        except (SpotmillError, OSError, tarfile.TarError) as problem:
            log.warning("compiled code was not kept: %s", problem)
            return False

    def keep_beside(self) -> threading.Thread:
        """`keep`, while this thread goes on. A process that ends meanwhile keeps nothing."""
        thread = threading.Thread(target=self.keep, name="keep-compiled", daemon=True)
        thread.start()
        return thread

    @property
    def _key(self) -> str:
        return compile_cache_key(self.identity)

    def _signature(self, packed: bytes) -> bytes:
        # Over the identity, too: of other hardware or another model, it is no good here.
        said = _MAGIC + self.identity.encode() + b"\n"
        return hmac.new(self.secret, said + packed, hashlib.sha256).hexdigest().encode()

    def _signed(self, packed: bytes) -> bytes:
        return _MAGIC + self._signature(packed) + b"\n" + packed

    def _proved(self, body: bytes) -> bytes:
        head, packed = body[: len(_MAGIC) + 65], body[len(_MAGIC) + 65 :]
        expected = _MAGIC + self._signature(packed) + b"\n"
        if not hmac.compare_digest(head, expected):
            raise SpotmillError(
                "this compiled code was not signed with our secret",
                where=self._key,
                why="somebody else wrote or changed it, or the secret was changed",
                hint=f"find out who can write to {PLACE}; delete the object to have it made anew",
            )
        return packed

    def _packed(self) -> bytes | None:
        files = sorted(
            path
            for path in self.folder.rglob("*")
            if path.is_file() and not path.is_symlink() and path.suffix not in (".lock", ".tmp")
        )
        size = sum(path.stat().st_size for path in files)
        if size > self.limit_bytes:
            log.warning("compiled code of %.1f GB is too large to be kept", size / 1e9)
        if not files or size > self.limit_bytes:
            return None
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for path in files:
                archive.add(path, arcname=str(path.relative_to(self.folder)), recursive=False)
        return packed.getvalue()

    def _unpack(self, packed: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=self.home) as unfinished:
            whole = Path(unfinished) / "whole"
            whole.mkdir(mode=0o700)
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
                members = archive.getmembers()
                if not all(member.isfile() for member in members):
                    raise SpotmillError("compiled code that is not made of files", where=self._key)
                # No path out of the folder, no owners, no odd modes (PEP 706).
                archive.extractall(whole, members, filter="data")
            try:
                whole.rename(self.folder)
            except OSError:
                # Another worker of this machine was faster.
                if not self.folder.is_dir():
                    raise


def use(cache: CompileCache) -> None:
    """Have the engines of this process, and of its children, read and write there."""
    os.environ["VLLM_CACHE_ROOT"] = str(cache.folder)
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache.folder / "triton"))
