"""Earlier runs of a job, read from their manifests under the same output."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged, in_a_line
from pipeline.core.manifest import left_early
from pipeline.core.money import Buckets, decimal_of
from pipeline.core.past import PastRun, PastSession
from pipeline.core.ports import ObjectStore
from pipeline.core.row_tokens import ShardTokens, row_spread_of, spreads_of
from pipeline.documents import MISSHAPEN, as_object, parse
from pipeline.job import JobSpec, without_folder
from pipeline.stores.together import get_together

log = logging.getLogger("spotmill")

MOST_RUNS = 30
_MOST_SHARDS = 1_024
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run of the job of this name that was finished; `job` as it was then, `manifest` the run's
    own, and `told` what counts of it."""

    job: JobSpec
    manifest: Json
    told: PastRun

    @property
    def speculative(self) -> str:
        """The method that was used, whatever was asked for."""
        return str(self.manifest["model"]["speculative"]["method"])


def earlier_runs(here: JobAtHand, but: str = "") -> list[EarlierRun]:
    """At most `MOST_RUNS`, the newest first; `but` is left out. What cannot be read is passed over,
    and said in the log: a prediction stops no run."""
    left = _MOST_SHARDS
    made: list[EarlierRun] = []
    for run in here.runs.complete(but=but):
        try:
            spec = JobSpec.model_validate(run.job["job"])
            keys = here.store.list(layout.shard_manifests_prefix(run.run_id))
            wanted = _evenly(keys, left)
            manifests = _shard_manifests(here.store, wanted)
            told = past_run(run.manifest, manifests)
        except (*MISSHAPEN, ObjectDamaged) as problem:
            log.warning("run %s is not learned from: %s", run.run_id, in_a_line(problem))
            continue
        left -= len(wanted)
        made.append(EarlierRun(spec, run.manifest, told))
        if len(made) == MOST_RUNS:
            break
    return made


def _shard_manifests(store: ObjectStore, keys: Sequence[str]) -> list[Json]:
    bodies = get_together(store.get, keys)
    pairs = zip(keys, bodies, strict=True)
    return [parse(body, as_object, key) for key, body in pairs if body is not None]


def _evenly(keys: Sequence[str], most: int) -> list[str]:
    if len(keys) <= most:
        return list(keys)
    return [keys[n * len(keys) // most] for n in range(most)]


def past_run(manifest: Mapping[str, Any], shards: Sequence[Json]) -> PastRun:
    """What counts of a run, by its manifest and those of some of its shards, or all. Which sessions
    left early the first says; of an earlier version's, the others do as far as they are given."""
    early = {
        attempt["worker_id"]
        for shard in shards
        for attempt in shard["attempts"]
        if left_early(attempt)
    }
    tokens = manifest["tokens"]
    row_spread, shard_spread = _spreads(shards)
    return PastRun(
        run_id=manifest["run_id"],
        planned=manifest["input"]["rows"],
        rows=manifest["output"]["rows"],
        input=tokens.get("input", 0),
        output=tokens.get("output", 0),
        copied=tokens.get("copied", 0),
        wasted=tokens.get("wasted", 0),
        sessions=tuple(_session(row, early) for row in manifest["workers"]),
        row_spread=row_spread,
        shard_spread=shard_spread,
        shard_rows=manifest["output"]["rows"] / max(1, manifest["shards"]),
    )


def _spreads(shards: Sequence[Json]) -> tuple[float | None, float]:
    counts = [(shard["output"]["rows"], shard["tokens"]) for shard in shards]
    if any("output_squared" not in tokens for _, tokens in counts):
        return row_spread_of([(rows, tokens["output"]) for rows, tokens in counts]), 0.0
    return spreads_of([ShardTokens(r, t["output"], t["output_squared"]) for r, t in counts])


def _session(row: Mapping[str, Any], early: set[str]) -> PastSession:
    left: bool = row.get("left_early", row["worker_id"] in early)
    return PastSession(
        machine=row["node"]["instance_type"],
        lifecycle=row["node"]["lifecycle"],
        decoded=row["decoded"],
        buckets=Buckets.from_seconds(row["seconds"]),
        interrupted=left or row["state"] != "ended",
        usd=decimal_of(row["cost"]),
    )


def answers_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether answers to like rows would be as long: the same model, prompt and sampling."""
    return _answers(one) == _answers(other)


def paced_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether they would come as fast, too, on the same machine."""
    return answers_alike(one, other) and _engine(one) == _engine(other)


def asked_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether they ask the same of like rows, of whatever model."""
    return _asked(one) == _asked(other)


def _asked(job: JobSpec) -> Json:
    asked = job.model_dump(mode="json", include={"sampling", "input"})
    rows = {name: asked["input"][name] for name in ("prompt", "messages", "template")}
    return {"sampling": asked["sampling"], "rows": rows}


def _answers(job: JobSpec) -> Json:
    model = (without_folder(job.model.id), job.model.revision, job.model.quantization)
    return {**_asked(job), "model": model}


def _engine(job: JobSpec) -> Json:
    return {
        "speculative": job.model.speculative.with_models(without_folder).decisive(),
        "max_model_len": job.model.max_model_len,
        "engine": job.model.engine,
    }
