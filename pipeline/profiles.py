"""What `spotmill tune` measured, kept in the bucket under what it depends on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged, in_a_line
from pipeline.core.ports import ObjectStore
from pipeline.job import JobSpec, fingerprint, without_folder
from pipeline.job_speculative import SpeculativeSpec

log = logging.getLogger("spotmill")

SCHEMA_VERSION = 1
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Profile:
    """`document` is what is stored: its key, the trials, what was chosen and why."""

    fingerprint: str
    document: Json
    chosen: SpeculativeSpec

    @property
    def why(self) -> str:
        return str(self.document["why"])


def profile_key(job: JobSpec, hardware: str, engine: str) -> Json:
    """All that decides which way of speculating is fastest, but for the rows themselves: a nightly
    job has other rows every night, and one profile."""
    asked = job.model_dump(mode="json", include={"model", "sampling", "input"})
    model, rows = asked["model"], asked["input"]
    return {
        "model": {
            "id": without_folder(model["id"]),
            "content": _content(model["id"]),
            "revision": model["revision"],
            "quantization": model["quantization"],
            "max_model_len": model["max_model_len"],
            "engine": model["engine"],
        },
        "candidates": job.model.speculative.with_models(without_folder).decisive(),
        "sampling": asked["sampling"],
        "prompt": {name: rows[name] for name in ("prompt", "messages", "template")},
        "hardware": hardware,
        "engine": engine,
    }


def _content(model: str) -> str | None:
    """Of a local folder, which keeps its name when it is trained anew: its configuration and the
    names and sizes of its files. None for what is named by URI or id, with its revision."""
    folder = Path(model)
    if not (model.startswith("/") and folder.is_dir()):
        return None
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file():
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
            if file.name == "config.json":
                digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def new_profile(key: Json, chosen: Mapping[str, Any], measured: Json, made_at: str) -> Profile:
    """`chosen` is as in the job's `model.speculative`; `measured` is told as it is."""
    name = fingerprint(key)
    settings = SpeculativeSpec.model_validate(chosen)
    placeless = settings.with_models(without_folder)
    document = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": name,
        "made_at": made_at,
        "key": key,
        "chosen": placeless.settings(),
        **measured,
    }
    return Profile(name, document, settings)


def keep(store: ObjectStore, profile: Profile, job: JobSpec, again: bool) -> Profile:
    """Store it, or find that somebody was faster; the one that counts. `again` replaces, and so
    does whoever finds one that is of no use."""
    where = layout.profile_key(profile.fingerprint)
    body = json.dumps(profile.document, indent=1, ensure_ascii=False).encode()
    if not again:
        if store.create(where, body):
            return profile
        if (known := find(store, profile.document["key"], job)) is not None:
            return known
    store.put(where, body)
    return profile


def find(store: ObjectStore, key: Json, job: JobSpec) -> Profile | None:
    """The profile under this key; None when there is none, or one that is of no use, which is said
    in the log."""
    name = fingerprint(key)
    where = layout.profile_key(name)
    body = store.get(where)
    if body is None:
        return None
    try:
        return _read(body, where, key, name, job)
    except ObjectDamaged as damage:
        log.warning("%s; `spotmill tune --again` makes it anew", in_a_line(damage))
        return None


def _read(body: bytes, where: str, key: Json, name: str, job: JobSpec) -> Profile:
    try:
        document = json.loads(body)
        if document["key"] != key or document["fingerprint"] != name:
            raise ValueError("it is of another key than its name says")
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {document['schema_version']}")
        if not isinstance(document["trials"], list) or not isinstance(document["why"], str):
            raise TypeError("it does not tell its trials")
        places = {
            without_folder(m): m for one in job.model.speculative.candidates if (m := one.model)
        }
        chosen = SpeculativeSpec.model_validate(document["chosen"]).with_models(places.__getitem__)
    except (ValueError, KeyError, TypeError, ValidationError) as problem:
        raise ObjectDamaged(
            "not the profile that is wanted",
            where=where,
            why=f"{type(problem).__name__}: {problem}",
        ) from problem
    if chosen.method == "auto":
        raise ObjectDamaged("not the profile that is wanted", where=where, why="it chose auto")
    return Profile(name, document, chosen)
