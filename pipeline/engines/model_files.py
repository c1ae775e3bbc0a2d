"""A model in object storage, as files on this machine, where the engine can read them."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from pipeline.core.errors import InputChanged, InputInvalid
from pipeline.core.session import Weights
from pipeline.engines.download import Part, RemoteFile, download
from pipeline.engines.node_cache import NodeCache, Place, cache_home, limit_bytes
from pipeline.job import ModelSpec
from pipeline.job_speculative import SpeculativeSpec
from pipeline.stores.options import StoreOptions, arrow_filesystem, s3fs_filesystem
from pipeline.stores.reading import translated
from pipeline.stores.retry import retrying

log = logging.getLogger("spotmill.engine")

_CODE_AND_PICKLES = (".py", ".bin", ".pt", ".pth", ".pkl", ".ckpt")
_WEIGHTS = ".safetensors"


class ModelBucket(Protocol):
    """What a download needs of a store. Both raise `StoreUnavailable` when it may work later."""

    def listed(self) -> Mapping[str, Mapping[str, Any]]:
        """Size and ETag, as s3fs has them, of all that lies below the model, by relative name."""
        ...

    def read(self, part: Part) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """`spec` names local paths. They stay while this lives."""

    spec: ModelSpec
    seconds: float = 0.0
    bytes_read: int = 0
    places: tuple[Place, ...] = ()

    @property
    def source(self) -> Weights:
        """Whether anything had to be fetched, was here already, or was no bucket's."""
        if not self.places:
            return "local"
        return "node" if all(place.was_here for place in self.places) else "bucket"


@dataclass(slots=True)
class ModelFiles:
    """Models that are kept on this machine once they were fetched."""

    options: StoreOptions
    cache: NodeCache = field(
        default_factory=lambda: NodeCache(cache_home() / "models", limit_bytes())
    )
    open_bucket: Callable[[str], ModelBucket] | None = None
    _given_up: threading.Event = field(default_factory=threading.Event, init=False)
    _buckets: dict[str, ModelBucket] = field(default_factory=dict, init=False)
    _listed: dict[str, list[RemoteFile]] = field(default_factory=dict, init=False)

    def fetch(self, model: ModelSpec, *, weights: bool = True) -> FetchedModel:
        """The same model with `s3://` ids replaced by local paths, fetched unless they are here.

        Target and draft are fetched at the same time. Without `weights`, those of the target
        stay where they are, unless all of it is here already.
        """
        before = time.monotonic()
        draft = model.speculative.model
        with ThreadPoolExecutor(2) as threads:
            # Started first, so that an error of the one does not wait for all of the other.
            second = threads.submit(self._fetch, draft, True)
            first = self._fetch(model.id, weights)
            found = [first, second.result()]
        spec = _with_paths(model, found[0].path, found[1].path)
        return FetchedModel(
            spec,
            time.monotonic() - before,
            sum(one.bytes_read for one in found),
            tuple(one.place for one in found if one.place is not None),
        )

    def give_up(self) -> None:
        """Have a `fetch` in another thread end soon, by raising: nobody waits for it any more."""
        self._given_up.set()

    def located(self, model: ModelSpec, *, weights: bool = True) -> ModelSpec:
        """The model that `fetch` is going to return, when what is in the bucket stays the same."""
        draft = self._place_of(model.speculative.model, True)
        return _with_paths(model, self._place_of(model.id, weights), draft)

    def has(self, uri: str) -> bool:
        """Whether all of this model is on this machine."""
        return self.cache.has(_content(self._files(uri, True)))

    def _place_of(self, uri: str | None, weights: bool) -> str | None:
        if uri is None or not uri.startswith("s3://"):
            return uri
        return str(self.cache.home / _content(self._files(uri, weights)))

    def _files(self, uri: str, weights: bool) -> list[RemoteFile]:
        """Listed once, and again only where a change has to be seen."""
        if uri not in self._listed:
            self._listed[uri] = _below(uri, self._bucket(uri).listed())
        return [f for f in self._listed[uri] if weights or not f.name.endswith(_WEIGHTS)]

    def _bucket(self, uri: str) -> ModelBucket:
        if self.open_bucket is None:
            self.open_bucket = S3Buckets(self.options).open
        if uri not in self._buckets:
            self._buckets[uri] = self.open_bucket(uri)
        return self._buckets[uri]

    def _fetch(self, uri: str | None, weights: bool) -> _Found:
        if uri is None or not uri.startswith("s3://"):
            return _Found(uri)
        bucket = self._bucket(uri)
        files = self._files(uri, weights)
        size = sum(file.size for file in files)
        read: list[int] = []

        def make(folder: Path) -> None:
            log.info("fetching %s: %d files, %.2f GB", uri, len(files), size / 1e9)
            read.append(download(files, bucket.read, folder, given_up=self._given_up.is_set))
            after = _below(uri, bucket.listed())
            if not set(files) <= set(after):
                del self._listed[uri]
                raise InputChanged(
                    "the model changed while it was fetched",
                    where=uri,
                    hint="start again when whoever replaces it has done so",
                )

        place = self.cache.place(_content(files), size, make, self._given_up.is_set)
        return _Found(str(place.path), place, sum(read))


@dataclass(frozen=True, slots=True)
class _Found:
    path: str | None
    place: Place | None = None
    bytes_read: int = 0


def local_model(model: ModelSpec, options: StoreOptions) -> ModelSpec:
    """The same model with `s3://` ids replaced by local paths, fetched unless they are here."""
    return ModelFiles(options).fetch(model).spec


def without_weights(model: ModelSpec, options: StoreOptions) -> FetchedModel:
    """The model alone, of which all but the weights is here: its tokenizer and its config."""
    none = SpeculativeSpec(method="none")
    alone = model.model_copy(update={"speculative": none})
    return ModelFiles(options).fetch(alone, weights=False)


def _content(files: Sequence[RemoteFile]) -> str:
    """Named by content, so a model that is replaced under the same URI is fetched again, and one
    that was copied is not."""
    versions = "\n".join(sorted(f"{file.name} {file.size} {file.version}" for file in files))
    return hashlib.sha256(versions.encode()).hexdigest()[:32]


def _with_paths(model: ModelSpec, target: str | None, draft: str | None) -> ModelSpec:
    speculative = model.speculative.model_copy(update={"model": draft})
    return model.model_copy(update={"id": target, "speculative": speculative})


def _below(uri: str, listed: Mapping[str, Mapping[str, Any]]) -> list[RemoteFile]:
    files = []
    for name, facts in listed.items():
        if name.endswith((*_CODE_AND_PICKLES, "/")):
            continue
        if ".." in PurePosixPath(name).parts:
            raise InputInvalid(
                f"the model's file {name!r} would lie outside its folder here",
                where=uri,
                why="`..` is a name in a bucket, and the folder above on a disk",
                hint="give the model's files names without `..`",
            )
        # What no ETag tells apart is told apart by its place and its time.
        version = facts.get("ETag") or f"{uri} {facts.get('LastModified')}"
        files.append(RemoteFile(name, int(facts["size"]), str(version)))
    if not files:
        raise InputInvalid("there is no model here", where=uri, hint="correct model.id")
    return files


class S3Buckets:
    """Opens models of any bucket through one s3fs, since each takes half a second to make."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._s3: Any = None

    def open(self, uri: str) -> ModelBucket:
        return S3ModelBucket(uri, self._options, self._find)

    def _find(self, root: str) -> Mapping[str, Mapping[str, Any]]:
        with self._lock:
            if self._s3 is None:
                self._s3 = s3fs_filesystem(self._options)
        found: Mapping[str, Mapping[str, Any]] = self._s3.find(root, detail=True)
        return found


class S3ModelBucket:
    """Implements `ModelBucket`: listed by s3fs, which knows ETags, and read by pyarrow, which works
    outside Python's lock."""

    def __init__(
        self,
        uri: str,
        options: StoreOptions,
        find: Callable[[str], Mapping[str, Mapping[str, Any]]],
    ) -> None:
        self._uri = uri.rstrip("/")
        self._options = options
        self._find = find
        self._lock = threading.Lock()
        self._arrow: Any = None
        self._root = ""
        self._open: dict[str, Any] = {}

    def listed(self) -> Mapping[str, Mapping[str, Any]]:
        root = self._uri.removeprefix("s3://")

        def listing() -> Mapping[str, Mapping[str, Any]]:
            with translated(self._uri):
                found = self._find(root)
            return {name.removeprefix(root).lstrip("/"): found[name] for name in found}

        return retrying(f"list {self._uri}", listing)

    def read(self, part: Part) -> bytes:
        name = part.file.name
        try:
            with translated(f"{self._uri}/{name}"):
                body: bytes = self._opened(name).read_at(part.size, part.offset)
                return body
        except Exception:
            # Asked for again, all is opened again, with the credentials of that moment.
            with self._lock:
                self._arrow = None
                self._open.clear()
            raise

    def _opened(self, name: str) -> Any:
        with self._lock:
            if self._arrow is None:
                self._arrow, self._root = arrow_filesystem(self._uri, self._options)
            if name not in self._open:
                self._open[name] = self._arrow.open_input_file(f"{self._root}/{name}")
            return self._open[name]
