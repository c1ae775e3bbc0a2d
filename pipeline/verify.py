"""Re-reads a run and proves it: every planned row answered once, in order, the books adding up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.core import layout
from pipeline.core.manifest import attempt_cost
from pipeline.core.ports import InputSource
from pipeline.core.shards import Shard
from pipeline.ledger import Ledger

Json = Mapping[str, Any]


def problems(ledger: Ledger, shards: Sequence[Shard], source: InputSource) -> Iterator[str]:
    """What is wrong with a run, one sentence each; nothing when it is proved.

    Reads every part and, beside it, the input's rows.
    """
    expected = {layout.part_key(ledger.run_id, shard.id) for shard in shards}
    for key in ledger.data_keys():
        if key not in expected:
            yield f"{key}: a foreign object under data/"
    manifests: list[Json] = []
    for shard in shards:
        part = ledger.part(shard.id)
        if part is None:
            yield f"shard {shard.id:05d}: not published"
            continue
        manifest = ledger.manifest_of_part(part)
        if manifest is None:
            yield f"shard {shard.id:05d}: the part carries no manifest"
            continue
        manifests.append(manifest)
        yield from _part_problems(ledger, shard, source, part, manifest)
    yield from _run_problems(ledger.run_manifest(), manifests)


def _part_problems(
    ledger: Ledger, shard: Shard, source: InputSource, part: bytes, manifest: Json
) -> Iterator[str]:
    name = f"shard {shard.id:05d}"
    if manifest["shard_id"] != shard.id or manifest["run_id"] != ledger.run_id:
        yield f"{name}: its part belongs to {manifest['run_id']} shard {manifest['shard_id']}"
    if ledger.projected_manifest(shard.id) != manifest:
        yield f"{name}: manifests/ and the part's footer disagree"
    rows = source.open(shard)
    if difference := rows.difference(part):
        yield f"{name}: {difference}"
    output = manifest["output"]
    if output["rows"] != rows.rows or output["rows_ok"] + output["rows_error"] != output["rows"]:
        yield f"{name}: {rows.rows} rows in the input, its manifest counts {json.dumps(output)}"


def _run_problems(run: Json | None, manifests: Sequence[Json]) -> Iterator[str]:
    if run is None:
        yield "the run is not finished: it has no manifest.json"
        return
    for section, keys in (("output", ("rows", "rows_ok", "rows_error")), ("tokens", ("output",))):
        for key in keys:
            total = sum(manifest[section][key] for manifest in manifests)
            said = run[section][key]
            if said != total:
                yield f"manifest.json: {section}.{key} is {said}, the parts sum to {total}"
    cost = run["cost"]
    if cost["total"] is not None and cost["allocated"] is not None:
        charged = sum(
            (attempt_cost(a) or Decimal(0) for m in manifests for a in m["attempts"]), Decimal(0)
        )
        if charged + Decimal(cost["unallocated"]) != Decimal(cost["total"]):
            yield f"manifest.json: {charged} charged + unallocated is not {cost['total']}"
