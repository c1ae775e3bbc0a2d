"""From a job file to what its run is expected to take: rows counted, runs read, rows generated."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from statistics import stdev
from typing import Any

import pyarrow as pa
import pytest

from pipeline.core import layout
from pipeline.core.errors import CostRefused
from pipeline.predicting import rows as counting
from pipeline.predicting.history import earlier_runs, past_run
from pipeline.predicting.outlook import outlook, refuse_above
from pipeline.predicting.view import Evidence
from tests.e2e.house import published, questions
from tests.unit.plan_bench import ROWS, Bench


def prompt_bytes(rows: range) -> int:
    """The scripted engine's tokens are bytes."""
    texts = questions(ROWS).column("question").to_pylist()
    return sum(len(texts[row].encode()) for row in rows)


def test_a_first_run_has_counted_prompts_and_bounds(bench: Bench) -> None:
    said = bench.plan(sampling={"max_tokens": 50})
    assert said["rows_to_answer"] == ROWS
    assert said["prompt_tokens"]["expected"] == prompt_bytes(range(ROWS))
    assert said["prompt_tokens"]["low"] == said["prompt_tokens"]["high"]
    assert said["output_tokens"]["at_most"] == 50 * ROWS
    assert said["output_tokens"]["p50"] is None
    assert said["usd"] == {"p50": None, "p90": None}
    assert said["would_have_cost"] == {}
    assert [one["usd_p50"] for one in said["candidates"]] == [None] * 4
    with pytest.raises(CostRefused, match="nobody can tell") as refused:
        refuse_above(said, Decimal(1_000_000))
    assert refused.value.exit_code == 4


def test_rows_that_a_condition_leaves_out_are_not_counted(bench: Bench) -> None:
    said = bench.plan(input={"uri": "prompts/", "prompt": "question", "where": "id < 7"})
    assert said["rows_to_answer"] == 7
    assert said["prompt_tokens"]["expected"] == prompt_bytes(range(7))


def test_of_many_rows_a_sample_is_counted_and_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "ALL_UP_TO", 10)
    monkeypatch.setattr(counting, "SAMPLED_ROWS", 30)
    texts = ["a question " * (1 + row * row % 7) for row in range(ROWS)]
    bench.ask(questions(ROWS).set_column(1, "question", pa.array(texts)))
    found = bench.plan(shards={"rows": 5})["prompt_tokens"]
    assert found["low"] <= sum(map(len, texts)) <= found["high"]
    assert found["low"] < found["expected"] < found["high"]
    assert "random sample of 3" in found["source"]
    assert bench.plan(shards={"rows": 5})["prompt_tokens"] == found


def test_a_job_without_a_tokenizer_at_hand_has_a_plan_all_the_same(bench: Bench) -> None:
    said = bench.plan(model={"id": "/nowhere/model"})
    assert said["rows_to_answer"] == ROWS
    assert said["prompt_tokens"]["expected"] is None
    assert "tokenizer" in said["prompt_tokens"]["source"]


def test_the_models_own_tokenizer_counts(bench: Bench) -> None:
    model = Path(__file__).resolve().parents[2] / "sample_data/models/target-w8a8"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    texts = questions(ROWS).column("question").to_pylist()
    said = bench.plan(model={"id": str(model)})
    assert said["prompt_tokens"]["expected"] == sum(len(tokenizer.encode(t).ids) for t in texts)


def test_the_same_rows_again_are_expected_to_take_as_long_again(bench: Bench) -> None:
    before = [bench.ran(name) for name in ("one", "two", "three")]
    said = bench.plan()
    assert said["rests_on"]["runs"] == ["three", "two", "one"]
    tokens = said["output_tokens"]
    assert tokens["p50"] == before[0]["tokens"]["output"]
    assert tokens["p90"] > tokens["p50"]
    hours = [sum(w["seconds"][k] for w in m["workers"] for k in w["seconds"]) for m in before]
    low, high = min(hours) / 3_600, max(hours) / 3_600
    assert low * 0.9 <= said["worker_hours"]["p50"] <= high * 1.1
    assert said["hours"] == said["worker_hours"]
    two = bench.plan(fleet={"workers": 2})
    assert two["hours"]["p90"] == pytest.approx(two["worker_hours"]["p90"] / 2, rel=1e-3)
    chosen = next(one for one in said["candidates"] if one["chosen"])
    assert (chosen["machine"], chosen["lifecycle"]) == ("g6.xlarge", "spot")
    assert chosen["usd_per_hour"] == "0.36"
    assert chosen["usd_p50"] == said["usd"]["p50"]
    assert 0 < Decimal(said["usd"]["p50"]) < Decimal(said["usd"]["p90"])


def test_other_runs_are_not_learned_from(bench: Bench) -> None:
    bench.ran("one", sampling={"max_tokens": 3})
    bench.ran("other", name="questions-of-others")
    said = bench.plan()
    assert said["rests_on"]["runs"] == []
    assert said["output_tokens"]["p50"] is None


def test_a_damaged_run_is_passed_over(bench: Bench) -> None:
    bench.ran("one")
    bench.ran("two")
    store = bench.here().store
    document = json.loads(store.get(layout.run_manifest_key("two")) or b"")
    del document["workers"]
    store.put(layout.run_manifest_key("two"), json.dumps(document).encode())
    assert [run.told.run_id for run in earlier_runs(bench.here())] == ["one"]
    store.put(layout.run_manifest_key("one"), b"not JSON")
    assert earlier_runs(bench.here()) == []


def test_a_session_that_left_early_is_told_from_one_that_was_done() -> None:
    def worker(name: str, state: str) -> dict[str, Any]:
        node = {"instance_type": "m", "lifecycle": "spot"}
        seconds = {"useful": 1.0}
        return {
            "worker_id": name,
            "state": state,
            "node": node,
            "seconds": seconds,
            "decoded": 5,
            "cost": None,
        }

    manifest: dict[str, Any] = {
        "run_id": "r",
        "shards": 1,
        "input": {"rows": 4},
        "output": {"rows": 4},
        "tokens": {"output": 20, "input": 8},
        "workers": [
            worker("done", "ended"),
            worker("told", "ended"),
            worker("killed", "work"),
            worker("helped", "ended"),
        ],
    }
    shard = {
        "output": {"rows": 4},
        "tokens": {"output": 20},
        "attempts": [
            {"worker_id": "told", "end": "drained"},
            {"worker_id": "helped", "end": "drained", "portion": {"number": 1, "take": 1}},
            {"worker_id": "done", "end": "published"},
        ],
    }
    told = past_run(manifest, [shard])
    assert [session.interrupted for session in told.sessions] == [False, True, True, False]
    assert told.replaced == 2
    unread = past_run(manifest, [])
    assert [session.interrupted for session in unread.sessions] == [False, False, True, False]
    left = [row | {"left_early": row["worker_id"] == "told"} for row in manifest["workers"]]
    for shards in ([], [shard]):
        said = past_run(manifest | {"workers": left}, shards)
        assert [session.interrupted for session in said.sessions] == [False, True, True, False]


def test_what_rows_differ_by_is_read_from_the_shards_manifests(bench: Bench) -> None:
    manifest = bench.ran("one")
    lengths = [row["completion_tokens"] for row in published(bench.answers, "one").to_pylist()]
    assert manifest["tokens"]["output_squared"] == sum(one**2 for one in lengths)
    [run] = earlier_runs(bench.here())
    assert run.told.row_spread == pytest.approx(stdev(lengths), rel=0.1)
    assert run.told.shard_rows == pytest.approx(ROWS / manifest["shards"])
    store = bench.here().store
    for key in store.list(layout.shard_manifests_prefix("one")):
        document = json.loads(store.get(key) or b"")
        del document["tokens"]["output_squared"]
        store.put(key, json.dumps(document).encode())
    [older] = earlier_runs(bench.here())
    assert older.told.shard_spread == 0
    assert older.told.row_spread is not None


def test_the_limit_is_held_against_the_p90(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        bench.ran(name)
    said = bench.plan()
    middle, high = (Decimal(said["usd"][name]) for name in ("p50", "p90"))
    refuse_above(said, high)
    with pytest.raises(CostRefused, match="p90"):
        refuse_above(said, (middle + high) / 2)


def test_longer_prompts_than_before_are_pointed_out(bench: Bench) -> None:
    bench.ran("one")
    assert bench.plan()["notes"] == []
    table = questions(ROWS)
    longer = [text * 3 for text in table.column("question").to_pylist()]
    changed = table.set_column(1, "question", pa.array(longer))
    bench.ask(changed)
    [note] = bench.plan()["notes"]
    assert "earlier runs" in note


def test_rows_that_say_their_own_max_tokens_bound_the_answers(bench: Bench) -> None:
    asked = questions(ROWS).append_column("limit", pa.array(range(1, ROWS + 1)))
    bench.ask(asked)
    sampling = {"max_tokens": 50, "columns": {"max_tokens": "limit"}}
    said = bench.plan(sampling=sampling)
    assert said["output_tokens"]["at_most"] == sum(range(1, ROWS + 1))
    unread = outlook(bench.here(sampling=sampling), Evidence(ROWS, 3, 1, [], "nobody counted"))
    assert unread["output_tokens"]["at_most"] is None
