"""Ways in which a finished run can be wrong, each with words that verify must find for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipeline.core import layout
from tests.simulation.world import RUN, World

Document: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[Document], object]

RUN_MANIFEST = layout.run_manifest_key(RUN)
JOB = layout.job_key(RUN)
PART = layout.part_key(RUN, 0)
PROJECTION = layout.shard_manifest_key(RUN, 0)
LEASE = layout.lease_key(RUN, 0, 1)
SESSION = layout.session_key(RUN, "worker-1")
ENDED = layout.last_beat_key(RUN, "worker-1")


@dataclass(frozen=True, slots=True)
class Tampering:
    """What somebody does to a run's objects, and what verify says of it, in part."""

    name: str
    do: Callable[[World], object]
    found: str


def edit(key: str, change: Change) -> Callable[[World], object]:
    """Rewrite one JSON object."""

    def do(world: World) -> None:
        body = world.memory.get(key)
        assert body is not None, key
        document = json.loads(body)
        change(document)
        world.memory.put(key, json.dumps(document).encode())

    return do


def footer(change: Change) -> Callable[[World], object]:
    """Rewrite the manifest of shard 0, in its part and in its projection alike."""

    def in_part(part: Document) -> None:
        manifest = json.loads(part["manifest"])
        change(manifest)
        part["manifest"] = json.dumps(manifest)

    def do(world: World) -> None:
        edit(PART, in_part)(world)
        edit(PROJECTION, change)(world)

    return do


def rows(change: Callable[[list[Document]], object]) -> Callable[[World], object]:
    """Rewrite the rows of shard 0, its footer kept."""
    return edit(PART, lambda part: change(part["rows"]))


def put(*path: Any) -> Change:
    """Set the entry at `path[:-1]` to `path[-1]`."""

    def change(document: Document) -> None:
        entry: Any = document
        for key in path[:-2]:
            entry = entry[key]
        entry[path[-2]] = path[-1]

    return change


def write(key: str, body: bytes = b"") -> Callable[[World], object]:
    return lambda world: world.memory.put(key, body)


def remove(*keys: str) -> Callable[[World], object]:
    def do(world: World) -> None:
        for key in keys:
            world.memory.delete(key)

    return do


def copy(source: str, target: str) -> Callable[[World], object]:
    return lambda world: world.memory.put(target, world.memory.get(source) or b"")


def torn(key: str) -> Callable[[World], object]:
    def do(world: World) -> None:
        body = world.memory.get(key)
        assert body is not None, key
        world.memory.put(key, body[: len(body) // 2])

    return do


def _swap(entries: list[Document]) -> None:
    entries[0], entries[1] = entries[1], entries[0]


def _swap_answers(entries: list[Document]) -> None:
    """Not the texts alone: whatever says how long they are goes with them."""
    one, two = dict(entries[0]), dict(entries[1])
    entries[0], entries[1] = {**two, "row": 0}, {**one, "row": 1}


def _lose_an_attempt(manifest: Document) -> None:
    del manifest["attempts"][0]


def _charge_twice(manifest: Document) -> None:
    """Less than all that its worker lived, but more than it decoded."""
    manifest["attempts"][0]["seconds"]["useful"] += 0.5


def _steal_wasted_seconds(manifest: Document) -> None:
    for key in ("total", "overhead", "useful", "wasted"):
        manifest["cost"][key] = "0"


def _forget_a_worker(run: Document) -> None:
    for section in ("workers", "unallocated"):
        run[section] = [row for row in run[section] if row["worker_id"] != "worker-1"]


NO_REASON = {"finish_reason": None}
NO_ANSWER = {"completion": None, "finish_reason": None}

TAMPERINGS = [
    # Parts and their rows.
    Tampering("a part is gone", remove(PART), "shard 00000: not published"),
    Tampering("a part is empty", write(PART), "shard 00000: damaged"),
    Tampering("a part is torn", torn(PART), "shard 00000: damaged"),
    Tampering("a part is no object", write(PART, b"[1]"), "shard 00000: damaged"),
    Tampering(
        "a part has no footer", edit(PART, lambda p: p.pop("manifest")), "carries no manifest"
    ),
    Tampering("a footer is torn", edit(PART, put("manifest", "{")), "shard 00000: damaged"),
    Tampering(
        "another shard's part",
        copy(layout.part_key(RUN, 1), PART),
        "shard 00000: footer: shard_id is 1, 0 follows",
    ),
    Tampering(
        "another run's part",
        footer(put("run_id", "morning")),
        'footer: run_id is "morning", "night" follows',
    ),
    Tampering("a row is missing", rows(lambda r: r.pop()), "each once and in order"),
    Tampering("a row is doubled", rows(lambda r: r.append(r[0])), "each once and in order"),
    Tampering("rows change places", rows(_swap), "each once and in order"),
    Tampering(
        "a carried column changed",
        edit(PART, put("prompts", 1, "?")),
        "prompts are not the input's",
    ),
    Tampering(
        "a row has neither answer nor error",
        rows(lambda r: r[1].update(NO_ANSWER)),
        "row 1: it has",
    ),
    Tampering(
        "an answer has no reason", rows(lambda r: r[1].update(NO_REASON)), "row 1: completion"
    ),
    Tampering(
        "a finish reason changed",
        rows(lambda r: r[0].update(finish_reason="because")),
        "finish_reasons",
    ),
    Tampering(
        "a count of tokens changed",
        rows(lambda r: r[0].update(completion_tokens=99)),
        "tokens.output is",
    ),
    Tampering(
        "prompt tokens changed", rows(lambda r: r[0].update(prompt_tokens=99)), "tokens.input is"
    ),
    Tampering(
        "cached tokens changed",
        rows(lambda r: r[0].update(cached_tokens=1)),
        "tokens.cached_input is",
    ),
    Tampering(
        "more cached than there are",
        rows(lambda r: r[0].update(cached_tokens=99)),
        "prompt tokens are called cached",
    ),
    Tampering(
        "fewer tokens than none", rows(lambda r: r[0].update(cached_tokens=-1)), "row 0: a count"
    ),
    Tampering(
        "an error became an answer",
        rows(lambda r: r[3].update(completion="", finish_reason="stop", error=None)),
        "output.rows_ok is",
    ),
    # Footers: counts, input, attempts, cost.
    Tampering("rows_ok", footer(put("output", "rows_ok", 7)), "footer: output.rows_ok is 7, 6"),
    Tampering("rows_error", footer(put("output", "rows_error", 0)), "output.rows_error is 0, 1"),
    Tampering("rows", footer(put("output", "rows", 8)), "output.rows is 8, 7"),
    Tampering(
        "a reason too many",
        footer(put("output", "finish_reasons", "because", 1)),
        "output.finish_reasons.because is 1, nothing says so",
    ),
    Tampering(
        "where a part lies", footer(put("output", "uri", "s3://x/y")), "footer: output.uri is"
    ),
    Tampering("output tokens", footer(put("tokens", "output", 1)), "footer: tokens.output is 1,"),
    Tampering("input tokens", footer(put("tokens", "input", 1)), "footer: tokens.input is 1,"),
    Tampering("wasted tokens", footer(put("tokens", "wasted", 0)), "footer: tokens.wasted is 0,"),
    Tampering("no tokens", footer(lambda m: m.pop("tokens")), "footer: tokens is missing"),
    Tampering("an ETag", footer(put("input", "etag", "x")), 'footer: input.etag is "x"'),
    Tampering("rows of the input", footer(put("input", "rows", 8)), "footer: input.rows is 8"),
    Tampering(
        "a fingerprint",
        footer(put("job_fingerprint", "sha256:1")),
        "shard 00000: footer: job_fingerprint is",
    ),
    Tampering(
        "a part of another version",
        footer(put("schema_version", 1)),
        "footer: the shard was published by another version of spotmill (schema 1,",
    ),
    Tampering(
        "an end of another version",
        edit(RUN_MANIFEST, put("schema_version", 1)),
        "manifest.json: the run was closed by another version of spotmill (schema 1,",
    ),
    Tampering(
        "no version", footer(lambda m: m.pop("schema_version")), "footer: schema_version is missing"
    ),
    Tampering("an attempt is left out", footer(_lose_an_attempt), "its attempts have epochs [2]"),
    Tampering(
        "an epoch twice", footer(put("attempts", 1, "epoch", 1)), "its attempts have epochs [1, 1]"
    ),
    Tampering(
        "attempts are no attempts",
        footer(put("attempts", 0, 7)),
        "its attempts or its quarantine cannot be read",
    ),
    Tampering("no attempts", footer(put("attempts", [])), "its attempts have epochs []"),
    Tampering(
        "an attempt that never ended",
        footer(put("attempts", 1, "end", "lost")),
        "the last publishes, and it alone",
    ),
    Tampering(
        "an attempt of a stranger",
        footer(put("attempts", 0, "worker_id", "x")),
        "epoch 1: worker 'x' has no session",
    ),
    Tampering(
        "an attempt of another worker",
        footer(put("attempts", 0, "worker_id", "worker-2")),
        "epoch 1: its lease says",
    ),
    Tampering(
        "an attempt's start",
        footer(put("attempts", 0, "started_at", "x")),
        "epoch 1: its lease says",
    ),
    Tampering("rows of an attempt", footer(put("attempts", 1, "rows", 0)), "7 are published"),
    Tampering(
        "input tokens of an attempt",
        footer(put("attempts", 1, "tokens", "input", 0)),
        "input tokens,",
    ),
    Tampering(
        "an answered row in quarantine",
        footer(put("quarantined", [{"row": 0, "strikes": []}])),
        "row 0 is called quarantined, and is answered",
    ),
    Tampering(
        "a row that is none in quarantine",
        footer(put("quarantined", [{"row": 7}])),
        "its attempts or its quarantine cannot be read: IndexError",
    ),
    Tampering(
        "the machine of an attempt",
        footer(put("attempts", 0, "node", "instance_type", "cheap")),
        "epoch 1: its node or its price is not that of the session",
    ),
    Tampering(
        "seconds of an attempt",
        footer(put("attempts", 1, "seconds", "useful", 0.0)),
        "footer: cost.useful is",
    ),
    Tampering(
        "an impossible time",
        footer(put("attempts", 1, "seconds", "useful", float("nan"))),
        "its attempts or its quarantine cannot be read",
    ),
    Tampering(
        "the price of an attempt",
        footer(put("attempts", 1, "price_per_hour", "0.1")),
        "footer: cost.total is",
    ),
    Tampering(
        "a second charged twice",
        footer(_charge_twice),
        "worker worker-1: shards are charged 0.500000 s useful or wasted more than it lived",
    ),
    Tampering("no cost at all", footer(_steal_wasted_seconds), "footer: cost.total is"),
    Tampering("cost per token", footer(put("cost", "per_1k_output_tokens", "0")), "cost.per_1k"),
    Tampering("savings", footer(put("cost", "savings", "9")), 'footer: cost.savings is "9"'),
    # What stands beside the parts.
    Tampering("a projection is gone", remove(PROJECTION), f"{PROJECTION} is missing"),
    Tampering("a projection is torn", torn(PROJECTION), "shard 00000: damaged"),
    Tampering(
        "a projection changed",
        edit(PROJECTION, put("cost", "total", "0")),
        "the part's footer disagree: cost.total",
    ),
    Tampering("a lease is gone", remove(LEASE), f"epoch 1: {LEASE} is missing"),
    Tampering("a lease is torn", torn(LEASE), "epoch 1: damaged"),
    Tampering(
        "a lease changed hands",
        edit(LEASE, put("worker_id", "worker-2")),
        "epoch 1: its lease says",
    ),
    Tampering("a session is gone", remove(SESSION, ENDED), "worker 'worker-1' has no session"),
    Tampering("a session is torn", torn(SESSION), f"damaged: {SESSION}"),
    Tampering(
        "a session of another",
        edit(SESSION, put("worker_id", "worker-2")),
        f"{SESSION}: it is of another worker",
    ),
    Tampering(
        "a session lived longer",
        edit(SESSION, put("seconds", "idle", 9999.0)),
        "manifest.json: cost.total is",
    ),
    Tampering(
        "a session's price",
        edit(SESSION, put("price_per_hour", "9")),
        "at a price it never had",
    ),
    Tampering("no job", remove(JOB), "job.json is missing"),
    Tampering("a torn job", torn(JOB), "job.json is damaged"),
    Tampering("an empty job", write(JOB, b"{}"), "job.json is damaged"),
    Tampering(
        "another job", edit(JOB, put("fingerprint", "sha256:1")), "footer: job_fingerprint is"
    ),
    # The run's manifest.
    Tampering("not finished", remove(RUN_MANIFEST), "the run is not finished"),
    Tampering("a torn end", torn(RUN_MANIFEST), "manifest.json is damaged"),
    Tampering("an end that is a list", write(RUN_MANIFEST, b"[]"), "manifest.json is damaged"),
    Tampering("an end of nothing", write(RUN_MANIFEST, b"{}"), "manifest.json: shards is missing"),
    Tampering(
        "shards", edit(RUN_MANIFEST, put("shards", 3)), "manifest.json: shards is 3, 2 follows"
    ),
    Tampering(
        "the run's rows", edit(RUN_MANIFEST, put("output", "rows", 1)), "output.rows is 1, 11"
    ),
    Tampering(
        "the run's reasons",
        edit(RUN_MANIFEST, put("output", "finish_reasons", {})),
        "manifest.json: output.finish_reasons.error is missing",
    ),
    Tampering(
        "the run's tokens", edit(RUN_MANIFEST, put("tokens", "wasted", 0)), "tokens.wasted is 0"
    ),
    Tampering(
        "the run's fingerprint",
        edit(RUN_MANIFEST, put("job_fingerprint", "x")),
        "manifest.json: job_fingerprint is",
    ),
    Tampering(
        "the run's model", edit(RUN_MANIFEST, put("model", "id", "x")), "manifest.json: model.id is"
    ),
    Tampering(
        "the run's cost", edit(RUN_MANIFEST, put("cost", "total", "0")), "manifest.json: cost.total"
    ),
    Tampering(
        "the run's cost per token",
        edit(RUN_MANIFEST, put("cost", "per_1k_output_tokens", "0")),
        "manifest.json: cost.per_1k_output_tokens",
    ),
    Tampering(
        "a worker's seconds",
        edit(RUN_MANIFEST, put("workers", 1, "seconds", "idle", 0.0)),
        "manifest.json: workers[1].seconds.idle",
    ),
    Tampering(
        "a worker's price",
        edit(RUN_MANIFEST, put("workers", 0, "price_per_hour", "0")),
        "manifest.json: workers[0].price_per_hour",
    ),
    Tampering(
        "what no shard paid",
        edit(RUN_MANIFEST, put("unallocated", 0, "cost", "0")),
        "manifest.json: unallocated[0].cost",
    ),
    Tampering(
        "a worker is left out",
        edit(RUN_MANIFEST, _forget_a_worker),
        "worker 'worker-1' has a session, but no bill",
    ),
    Tampering("workers are no workers", edit(RUN_MANIFEST, put("workers", 7)), "workers is 7"),
    # What lies where nothing should.
    *(
        Tampering(f"a foreign {name}", write(f"data/{name}"), f"data/{name}: a foreign object")
        for name in (
            "_SUCCESS",
            "part-00000.parquet",
            f"run={RUN}/_SUCCESS",
            f"run={RUN}/below/part-00000.parquet",
            f"run={RUN}/part-00002.parquet",
            f"run={RUN}/part-00000.parquet.tmp",
            f"run={RUN}/part-0000000.parquet",
            "run=nobody/part-00000.parquet",
        )
    ),
    Tampering(
        "a manifest of no shard",
        write(layout.shard_manifest_key(RUN, 9), b"{}"),
        "part-00009.json: nobody planned this shard",
    ),
    Tampering(
        "a lease of no shard",
        write(layout.lease_key(RUN, 9, 1), b"{}"),
        "leases/00009/: nobody planned this shard",
    ),
]
