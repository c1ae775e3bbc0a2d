"""A prediction from a few rows that are generated for it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest

from pipeline import wiring
from pipeline.core.errors import JobInvalid
from pipeline.core.shards import Shard
from pipeline.dataset.source import ParquetShard, ParquetSource
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.predicting import rows as counting
from pipeline.predicting.generating import generated
from pipeline.predicting.outlook import outlook, refuse_above
from pipeline.predicting.planning import predict
from pipeline.predicting.view import Evidence
from tests.e2e.house import questions
from tests.simulation.drafting import DraftingEngine
from tests.simulation.fakes import VirtualClock
from tests.unit.plan_bench import ROWS, Bench


def test_a_sample_tells_tokens_and_pace(bench: Bench) -> None:
    said = bench.plan(sample=40)
    actual = bench.ran("one")["tokens"]["output"]
    assert said["output_tokens"]["source"] == "a generated sample of 40 rows"
    assert said["output_tokens"]["p50"] == pytest.approx(actual, rel=0.35)
    assert said["output_tokens"]["p50"] < said["output_tokens"]["p90"]
    assert Decimal(said["usd"]["p50"]) > 0
    found = {(c["machine"], c["lifecycle"]): c for c in said["candidates"]}
    # The sample was generated on a machine of one kind, and tells of no other.
    assert found["g5.xlarge", "spot"]["usd_p50"] is None


def test_the_pace_of_a_sample_is_that_of_the_engine(bench: Bench) -> None:
    here = bench.here()
    clock = VirtualClock()
    settings = ScriptedSettings(window=8, tokens=30, step_seconds=0.5)

    def load() -> ScriptedEngine:
        clock.sleep(20.0)
        return ScriptedEngine(settings, clock.sleep)

    found = generated(here, wiring.preview(here), 60, load, clock, boot_seconds=3.0)
    assert found.measured.start_seconds == 23.0
    # Eight rows at a time, to the end.
    assert found.measured.tokens_per_second == pytest.approx(16)
    assert found.rows == 60
    with pytest.raises(JobInvalid):
        generated(here, wiring.preview(here), 2, load, clock)


def test_a_sample_is_answered_without_drafts_too(bench: Bench) -> None:
    """Whoever asks what speculation is worth is told, though no run did without it."""
    drafting = {"method": "ngram", "num_speculative_tokens": 4}
    model = {"id": "scripted://?window=8&tokens=30&step_seconds=0.5", "speculative": drafting}
    here = bench.here(model=model)
    clock, engines = VirtualClock(), list[DraftingEngine]()

    def load() -> DraftingEngine:
        settings = ScriptedSettings(window=8, tokens=30, step_seconds=0.5)
        engines.append(DraftingEngine(settings, clock.sleep, {0: 1.0, 4: 2.0}))
        return engines[-1]

    plan = wiring.preview(here)
    found = generated(here, plan, 60, load, clock)
    assert engines[0].told == [0]
    assert found.measured.tokens_per_second == pytest.approx(32)
    assert found.gain == pytest.approx(2.0)
    evidence = Evidence(ROWS, 3, 1, [], found.counted, generated=found)
    told = outlook(here, evidence)
    spent, without = Decimal(told["usd"]["p50"]), told["would_have_cost"]["unspeculated"]
    assert without["why"] == "a sample was answered 2.00 times as fast as without"
    assert Decimal(without["usd"]) == pytest.approx(2 * spent, rel=Decimal("0.01"))
    unknown = outlook(here, replace(evidence, generated=replace(found, gain=None)))
    assert unknown["would_have_cost"]["unspeculated"] == {
        "usd": None,
        "why": "no run with `speculative: none` is known here, and no --sample",
    }


def test_rows_that_come_to_nothing_are_rows_without_tokens(bench: Bench) -> None:
    """A quarter each: no prompt, refused by the engine, and too long for it."""
    rows = 200
    long = "so long " * 40
    texts = [
        (None, f"q {row} [[reject]]", f"{long}{row}", f"question {row}")[row % 4]
        for row in range(rows)
    ]
    bench.ask(questions(rows).set_column(1, "question", pa.array(texts)))
    model = {"id": "scripted://?window=8&tokens=30&step_seconds=0.001&max_model_len=300"}
    said = bench.plan(sample=160, model=model)
    actual = bench.ran("one", model=model)
    assert actual["output"]["rows_error"] == 150
    assert said["rows_to_answer"] == rows
    assert said["output_tokens"]["p50"] == pytest.approx(actual["tokens"]["output"], rel=0.25)
    # Which rows the engine refuses for other reasons, no count of tokens tells.
    refused = sum(len(text) for text in texts if text and "[[reject]]" in text)
    assert said["prompt_tokens"]["expected"] == actual["tokens"]["input"] + refused


@pytest.mark.parametrize("where", ["id < 0", "question IS NULL"])
def test_a_sample_of_nothing_costs_what_starting_does(bench: Bench, where: str) -> None:
    texts = [f"question {row}" if row % 2 else None for row in range(ROWS)]
    bench.ask(questions(ROWS).set_column(1, "question", pa.array(texts)))
    asked = {"uri": "prompts/", "prompt": "question", "where": where}
    here = bench.here(input=asked)
    said = predict(here, wiring.preview(here), 20, boot_seconds=30.0)
    assert (said["output_tokens"]["p50"], said["output_tokens"]["p90"]) == (0, 0)
    assert said["worker_hours"]["p50"] == pytest.approx(30 / 3_600, rel=0.1)
    assert said["overhead_share"] == 1.0
    refuse_above(said, Decimal(1))


def test_a_sampled_shard_is_read_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    class Watched(ParquetSource):
        def open(self, shard: Shard) -> ParquetShard:
            opened.append(shard.id)
            return super().open(shard)

    monkeypatch.setattr(counting, "ParquetSource", Watched)
    said = bench.plan(sample=40)
    assert said["rests_on"]["sample_rows"] == 40
    assert sorted(opened) == list(range(len(wiring.preview(bench.here()).shards)))
