"""A model in object storage, as files on this machine, where the engine can read them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputInvalid
from pipeline.job import ModelSpec
from pipeline.stores.options import StoreOptions, s3fs_filesystem
from pipeline.stores.reading import translated

_CODE_AND_PICKLES = (".py", ".bin", ".pt", ".pth", ".pkl", ".ckpt")


def local_model(model: ModelSpec, options: StoreOptions) -> ModelSpec:
    """The same model with `s3://` ids replaced by local paths, fetched unless they are here."""
    draft = model.speculative.model
    return model.model_copy(
        update={
            "id": _fetched(model.id, options),
            "speculative": model.speculative.model_copy(
                update={"model": draft and _fetched(draft, options)}
            ),
        }
    )


def _fetched(uri: str, options: StoreOptions) -> str:
    if not uri.startswith("s3://"):
        return uri
    s3, root = s3fs_filesystem(options), uri.removeprefix("s3://").rstrip("/")
    with translated(uri):
        found = s3.find(root, detail=True)
        files = {name: f for name, f in found.items() if not name.endswith(_CODE_AND_PICKLES)}
        if not files:
            raise InputInvalid("there is no model here", where=uri, hint="correct model.id")
        versions = "\n".join(f"{name} {files[name].get('ETag')}" for name in sorted(files))
        # Named by content, so a model that is replaced under the same URI is fetched again.
        content = hashlib.sha256(versions.encode()).hexdigest()[:32]
        place = _cache() / content
        if place.is_dir():
            return str(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Whatever ends the download, the folder goes with it, unless it has become the place.
        with tempfile.TemporaryDirectory(dir=place.parent) as unfinished:
            for name in files:
                target = Path(unfinished) / _below(root, name, uri)
                target.parent.mkdir(parents=True, exist_ok=True)
                s3.get_file(name, str(target))
            try:
                Path(unfinished).rename(place)
            except OSError:
                # Another worker of this machine was faster; both fetched the same.
                if not place.is_dir():
                    raise
    return str(place)


def _below(root: str, name: str, uri: str) -> PurePosixPath:
    below = PurePosixPath(name.removeprefix(root).lstrip("/"))
    if ".." in below.parts:
        raise InputInvalid(
            f"the model's file {name!r} would lie outside its folder here",
            where=uri,
            why="`..` is a name in a bucket, and the folder above on a disk",
            hint="give the model's files names without `..`",
        )
    return below


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spotmill" / "models"
