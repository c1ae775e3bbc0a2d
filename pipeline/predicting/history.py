"""Earlier runs of a job, read from their manifests under the same output."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.core.errors import ObjectDamaged, in_a_line
from pipeline.core.manifest import left_early, partings
from pipeline.core.money import Buckets, decimal_of
from pipeline.core.past import PastRun, PastSession
from pipeline.core.row_tokens import ShardTokens, row_spread_of, spreads_of
from pipeline.documents import MISSHAPEN
from pipeline.job import JobSpec

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
            ledger = replace(here, run_id=run.run_id).ledger
            wanted = _evenly(sorted(ledger.projected_shards()), left)
            manifests = ledger.shard_manifests(wanted)
            told = past_run(run.manifest, manifests)
        except (*MISSHAPEN, ObjectDamaged) as problem:
            log.warning("run %s is not learned from: %s", run.run_id, in_a_line(problem))
            continue
        left -= len(wanted)
        made.append(EarlierRun(spec, run.manifest, told))
        if len(made) == MOST_RUNS:
            break
    return made


def _evenly(shard_ids: Sequence[int], most: int) -> Sequence[int]:
    if len(shard_ids) <= most:
        return shard_ids
    return [shard_ids[n * len(shard_ids) // most] for n in range(most)]


def past_run(manifest: Mapping[str, Any], shards: Sequence[Json]) -> PastRun:
    """What counts of a run, by its manifest and those of some of its shards, or all. Which sessions
    left early the first says; of an earlier version's, the others do as far as they are given."""
    attempts = (attempt for shard in shards for attempt in shard["attempts"])
    states = {row["worker_id"]: row["state"] for row in manifest["workers"]}
    early = left_early(partings(attempts), states)
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


def _session(row: Mapping[str, Any], early: Set[str]) -> PastSession:
    left: bool = row.get("left_early", row["worker_id"] in early)
    share = Fraction(row.get("node_share", 1))
    return PastSession(
        machine=row["node"]["instance_type"],
        lifecycle=row["node"]["lifecycle"],
        decoded=row["decoded"],
        buckets=Buckets.from_seconds(row["seconds"]).of_share(share),
        interrupted=left or row["state"] != "ended",
        usd=decimal_of(row["cost"]),
        node_share=share,
        zone=row["node"].get("zone", "unknown"),
    )
