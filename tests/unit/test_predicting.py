"""From a job file to what its run is expected to take: rows counted, runs read, rows generated."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from statistics import stdev
from typing import Any

import pyarrow as pa
import pytest

from pipeline import wiring
from pipeline.core import layout
from pipeline.core.errors import CostRefused, JobInvalid, RunConflict
from pipeline.core.money import Buckets, Node
from pipeline.core.past import PastRun, PastSession
from pipeline.core.shards import Shard
from pipeline.dataset.source import ParquetShard, ParquetSource
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.predicted import prediction_error
from pipeline.predicting import rows as counting
from pipeline.predicting.generating import generated
from pipeline.predicting.history import earlier_runs, past_run
from pipeline.predicting.keeping import keep, keep_prediction
from pipeline.predicting.market import market_now
from pipeline.predicting.otherwise import gain_of, unquantized_name
from pipeline.predicting.outlook import outlook, refuse_above
from pipeline.predicting.places import Place, Prices
from pipeline.predicting.planning import predict, weights_quantization
from pipeline.predicting.view import Evidence
from pipeline.prices import PriceBook, parse_prices, shipped_book
from tests.doubles.ec2 import Ec2Api, Sold
from tests.e2e.house import published, questions
from tests.simulation.fakes import VirtualClock
from tests.unit.plan_bench import BOOK, ROWS, Bench, bench_at


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return bench_at(tmp_path, monkeypatch)


def prompt_bytes(rows: range) -> int:
    """The scripted engine's tokens are bytes."""
    texts = questions(ROWS).column("question").to_pylist()
    return sum(len(texts[row].encode()) for row in rows)


# Without anything that went before.


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


# With earlier runs.


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


def test_candidates_are_told_where_their_pace_and_price_are_known(bench: Bench) -> None:
    bench.ran("one")
    found = {(c["machine"], c["lifecycle"]): c for c in bench.plan()["candidates"]}
    spot, dear = found["g6.xlarge", "spot"], found["g6.xlarge", "on-demand"]
    assert Decimal(dear["usd_p50"]) > Decimal(spot["usd_p50"])
    assert found["g5.xlarge", "spot"]["usd_p50"] is None
    assert found["g5.xlarge", "spot"]["usd_per_hour"] == "0.40"


def test_workers_that_share_this_machine_are_priced_by_their_share(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.plan(sample=40)
    halves = bench.plan(sample=40, fleet={"workers": 2})
    told = next(one for one in halves["candidates"] if one["chosen"])
    assert (told["usd_per_hour"], told["node_share"]) == ("0.36", "1/2")
    hours, usd = Decimal(str(halves["worker_hours"]["p50"])), Decimal(halves["usd"]["p50"])
    assert abs(usd - hours * Decimal("0.18")) < Decimal("0.00001")
    ratio = halves["worker_hours"]["p50"] / whole["worker_hours"]["p50"]
    assert 1.4 < ratio < 2.8, "together they are as fast as one that has it to itself"
    # What was paid by runs of other shares is the whole machine's price all the same.
    monkeypatch.setenv("SPOTMILL_NODE_SHARE", "1/4")
    bench.ran("quarter")
    monkeypatch.delenv("SPOTMILL_NODE_SHARE")
    (bench.place / "none.yaml").write_text(BOOK.replace("g6.xlarge", "g6.2xlarge"))
    later = next(one for one in bench.plan(cost={"prices": "none.yaml"})["candidates"])
    assert later["price_source"] == "paid in quarter"
    assert abs(Decimal(later["usd_per_hour"]) - Decimal("0.36")) < Decimal("0.001")
    assert later["node_share"] == "1"


def test_a_place_has_the_price_that_its_workers_would_be_charged() -> None:
    here = Node("i-1", "p5.48xlarge", "us-east-1a", "spot")
    hour = Buckets(useful=3_600_000_000)
    paid = [
        PastSession("p5.48xlarge", "spot", 1, hour, usd=Decimal(20)),
        PastSession("p5.48xlarge", "on-demand", 1, hour, usd=Decimal(30)),
        PastSession("toaster", "on-demand", 1, hour, usd=Decimal(2)),
    ]
    run = PastRun("before", 1, 1, 1, 1, 0, 0, tuple(paid))
    contract = parse_prices(BOOK.replace("g6.xlarge", "p5.48xlarge"), "mine.yaml")

    def said(book: PriceBook | None, machine: str, terms: str) -> tuple[str, str]:
        price = Prices(here, book, [run]).of(Place(machine, terms))
        return str(price.usd_per_hour), price.source

    assert said(contract, "p5.48xlarge", "spot")[0] == "0.36"
    assert said(None, "p5.48xlarge", "spot") == ("20.000000", "paid in before"), "for the market"
    listed = shipped_book().rate(here, "on-demand")
    assert listed is not None
    assert said(None, "p5.48xlarge", "on-demand") == (str(listed.usd_per_hour), listed.source)
    assert said(None, "toaster", "on-demand") == ("2.000000", "paid in before"), "no list has it"


# The market, before a run.


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ec2Api]:
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "us-east-1a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with Ec2Api(Sold("0.2913")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        yield api


def spot_price(said: dict[str, Any]) -> tuple[str, str]:
    [found] = [
        (c["usd_per_hour"], c["price_source"])
        for c in said["candidates"]
        if (c["machine"], c["lifecycle"]) == ("g6.xlarge", "spot")
    ]
    return found


def test_spot_machines_are_priced_by_what_their_market_asks_now(
    bench: Bench, market: Ec2Api
) -> None:
    bench.ran("one")
    market.asked.clear()
    market.pages = [[Sold("0.312000", "2026-11-20T05:30:00.000Z")]]
    said = bench.plan(cost={})
    usd, source = spot_price(said)
    assert Decimal(usd) == Decimal("0.312")
    assert source == "EC2 spot price history, us-east-1a, as of 2026-11-20T05:30:00Z"
    assert not [note for note in said["notes"] if "market" in note]
    assert len(market.asked) == 1
    # A contract is nothing to ask a market about.
    assert spot_price(bench.plan())[0] == "0.36"
    assert len(market.asked) == 1


def test_a_small_machine_asks_for_the_zone_where_workers_were(
    bench: Bench, market: Ec2Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one")
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "laptop")
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "desk")
    assert Decimal(spot_price(bench.plan(cost={}))[0]) == Decimal("0.2913")


def test_a_plan_says_so_when_the_market_was_not_asked(
    bench: Bench, market: Ec2Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**cost: Any) -> list[str]:
        notes = [note for note in bench.plan(cost=cost)["notes"] if "market" in note]
        return [note.rpartition(": ")[2] for note in notes]

    assert told(live_prices=False) == ["cost.live_prices is false"]
    market.refusal = "UnauthorizedOperation"
    assert told() == ["EC2 told no spot price of g6.xlarge"]
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "europe-west4-b")
    assert told() == ["no candidate is known to be in a zone of EC2's"]
    assert told(prices="prices.yaml") == [], "it has its own"


def test_a_market_that_hangs_is_not_waited_for(bench: Bench, market: Ec2Api) -> None:
    market.trouble = "slow"
    node = Node("unknown", "g6.xlarge", "us-east-1a", "spot")
    began = time.monotonic()
    found = market_now(bench.here(cost={}), [node], patience_seconds=0.5)
    assert time.monotonic() - began < 2.0
    assert found.spot(node) is None
    assert found.silent == "EC2 told no spot price of g6.xlarge"


def test_what_is_not_known_of_other_ways_is_not_invented(bench: Bench) -> None:
    bench.ran("one")
    told = bench.plan()["would_have_cost"]
    assert Decimal(told["on_demand"]["usd"]) > 0
    assert told["unspeculated"]["why"] == "the job does not speculate"
    assert told["unquantized"]["usd"] is None
    assert "no earlier run" in told["unquantized"]["why"]


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


def test_the_gain_is_that_of_the_trial_that_was_used() -> None:
    trials = [
        {"settings": {"method": "ngram", "num_speculative_tokens": 2}, "gain": 1.2},
        {"settings": {"method": "ngram", "num_speculative_tokens": 4}, "gain": 1.5},
    ]
    used = {"method": "ngram", "num_speculative_tokens": 4, "profile": {"trials": trials}}
    assert gain_of({"speculative": used}) == 1.5
    assert gain_of({"speculative": {**used, "profile": None}}) is None
    assert gain_of({"speculative": {**used, "num_speculative_tokens": 3}}) is None


# With a sample.


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


# Kept in the run.


def test_a_run_keeps_its_prediction_and_tells_how_far_off_it_was(bench: Bench) -> None:
    bench.ran("one")
    here = bench.here("two")
    keep_prediction(here, wiring.plan(here), 1)
    key = layout.prediction_key("two")
    kept = here.store.get(key)
    assert kept is not None
    assert json.loads(kept)["rests_on"]["runs"] == ["one"]
    manifest = bench.ran("two")
    keep_prediction(here, wiring.plan(here), 1)
    assert here.store.get(key) == kept
    told = prediction_error(here, manifest)
    assert told is not None
    assert told["output_tokens"]["error"] == 0.0
    assert told["output_tokens"]["within_p90"] is True
    assert told["usd"]["actual"] == pytest.approx(float(manifest["cost"]["total"]), abs=1e-6)
    off = (float(told["usd"]["p50"]) - told["usd"]["actual"]) / told["usd"]["actual"]
    assert told["usd"]["error"] == pytest.approx(off, abs=0.01)


def test_a_first_run_keeps_what_was_planned_for_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    here = bench.here("one")
    said = bench.plan(sample=40)
    keep(here, wiring.preview(here), said)
    keep_prediction(here, wiring.plan(here), 1)
    caplog.clear()
    with caplog.at_level(logging.INFO, "spotmill"):
        manifest = bench.ran("one")
    told = prediction_error(here, manifest)
    assert told is not None
    assert told["output_tokens"]["p50"] == said["output_tokens"]["p50"]
    # Said wherever books are closed: by the command, and in a Prefect flow.
    [line] = [record.getMessage() for record in caplog.records if "came to" in record.msg]
    assert f"came to {manifest['tokens']['output']:g};" in line
    with pytest.raises(RunConflict):
        keep(here, wiring.preview(here), said)


def test_what_was_planned_for_other_settings_is_not_this_runs(bench: Bench) -> None:
    bench.ran("one")
    other = bench.here("two", sampling={"max_tokens": 3})
    keep(other, wiring.preview(other), {"output_tokens": {"p50": 1, "p90": 1}})
    here = bench.here("two")
    keep_prediction(here, wiring.plan(here), 1)
    kept = json.loads(here.store.get(layout.prediction_key("two")) or b"")
    assert kept["rests_on"]["runs"] == ["one"]


def test_a_run_without_a_past_has_no_prediction(bench: Bench) -> None:
    here = bench.here("one")
    keep_prediction(here, wiring.plan(here), 1)
    assert here.store.get(layout.prediction_key("one")) is None
    assert prediction_error(here, bench.ran("one")) is None


def test_a_run_that_has_begun_is_not_predicted_any_more(bench: Bench) -> None:
    bench.ran("one")
    here = bench.here("two")
    wiring.plan(here)
    bench.ran("two")
    keep_prediction(here, wiring.plan(here), 1)
    assert here.store.get(layout.prediction_key("two")) is None


def test_a_damaged_prediction_is_no_error_of_the_run(bench: Bench) -> None:
    manifest = bench.ran("one")
    here = bench.here("one")
    for body in (b"not JSON", b"{}", b'{"output_tokens": 3}'):
        here.store.put(layout.prediction_key("one"), body)
        assert prediction_error(here, manifest) is None


def test_the_limit_is_held_against_the_p90(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        bench.ran(name)
    said = bench.plan()
    middle, high = (Decimal(said["usd"][name]) for name in ("p50", "p90"))
    refuse_above(said, high)
    with pytest.raises(CostRefused, match="p90"):
        refuse_above(said, (middle + high) / 2)


# What a reader is told beside the figures.


def test_longer_prompts_than_before_are_pointed_out(bench: Bench) -> None:
    bench.ran("one")
    assert bench.plan()["notes"] == []
    table = questions(ROWS)
    longer = [text * 3 for text in table.column("question").to_pylist()]
    changed = table.set_column(1, "question", pa.array(longer))
    bench.ask(changed)
    [note] = bench.plan()["notes"]
    assert "earlier runs" in note


def test_a_tuned_gain_tells_what_the_job_costs_without_speculation(bench: Bench) -> None:
    speculating = {"id": "scripted://?window=8&tokens=30&step_seconds=0.001", "speculative": "auto"}
    bench.ran("one", model=speculating)
    here = bench.here(model=speculating)
    [run] = earlier_runs(here)
    settings = {"method": "ngram", "num_speculative_tokens": 4}
    trials = [{"settings": settings, "gain": 2.0}]
    used = {**settings, "profile": {"trials": trials}}
    drafted = replace(run, manifest={**run.manifest, "model": {"speculative": used}})
    evidence = Evidence(ROWS, 3, 1, [drafted], "nobody counted")
    told = outlook(here, evidence)
    spent = Decimal(told["usd"]["p50"])
    without = told["would_have_cost"]["unspeculated"]
    assert "2.00 times" in without["why"]
    # Decoding takes twice as long, and starting the worker as long as ever.
    assert spent < Decimal(without["usd"]) < 2 * spent


def test_a_machine_without_a_price_has_hours_and_no_cost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the job's own book until it is planned, and never in the one that is shipped.
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "eu-north-1a")
    bench.ran("one")
    said = bench.plan(cost={})
    # What was paid for it before is known from the run's own manifest.
    assert said["candidates"][0]["price_source"] == "paid in one"
    assert Decimal(said["candidates"][0]["usd_per_hour"]) == Decimal("0.36")
    dear = next(one for one in said["candidates"] if one["lifecycle"] == "on-demand")
    assert dear["worker_hours_p50"] > 0
    assert (dear["usd_per_hour"], dear["usd_p50"], dear["usd_p90"]) == (None, None, None)


def test_a_machine_that_only_starts_workers_is_not_taken_for_theirs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one")
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "t3.small")
    chosen = bench.plan()["chosen"]
    assert (chosen["machine"], chosen["lifecycle"], chosen["why"]) == (
        "g6.xlarge",
        "spot",
        "as one",
    )
    assert bench.plan(sample=40)["chosen"]["machine"] == "t3.small"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("s3://models/llama-3.1-8b-w8a8/", "llama-3.1-8b"),
        ("RedHatAI/Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b-instruct"),
        ("RedHatAI/Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b-instruct"),
        ("/models/target-AWQ-INT4", "target"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("awq", "awq"),
    ],
)
def test_a_quantized_model_is_named_after_the_one_it_was_made_of(model: str, name: str) -> None:
    assert unquantized_name(model) == name


def test_another_models_runs_are_not_this_one_unquantized(bench: Bench) -> None:
    def model(name: str, quantization: str) -> dict[str, Any]:
        (bench.place / name).mkdir(exist_ok=True)
        engine = f"scripted://?window=8&step_seconds=0.001&counter={bench.place / name}"
        return {"id": engine, "quantization": quantization}

    quantized = model("small-w8a8", "fp8")
    bench.ran("another", model=model("larger", "none"))
    bench.ran("one", model=quantized)
    unknown = bench.plan(model=quantized)["would_have_cost"]["unquantized"]
    assert unknown["usd"] is None
    assert "of small with" in unknown["why"]
    bench.ran("same", model=model("small", "none"))
    known = bench.plan(model=quantized)["would_have_cost"]["unquantized"]
    assert Decimal(known["usd"]) > 0
    assert known["why"] == "1 earlier runs of small with quantization: none"


def test_what_auto_comes_to_is_read_from_the_model(bench: Bench) -> None:
    model = bench.place / "model"
    model.mkdir()
    for config, method in (({}, "none"), ({"quantization_config": {"quant_method": "awq"}}, "awq")):
        (model / "config.json").write_text(json.dumps(config))
        assert weights_quantization(bench.here(model={"id": str(model)})) == method
    assert weights_quantization(bench.here(model={"id": "/nowhere/model"})) is None
    bench.ran("one")
    here, runs = bench.here(), earlier_runs(bench.here())
    evidence = Evidence(ROWS, 4, 1, runs, "nobody counted", quantization="none")
    told = outlook(here, evidence)["would_have_cost"]["unquantized"]
    assert told["why"] == "the model is not quantized"


def test_spot_workers_are_planned_from_the_same_machine_on_demand(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "on-demand")
    for said in (bench.plan(), bench.plan(sample=20)):
        chosen = said["chosen"]
        assert (chosen["machine"], chosen["lifecycle"]) == ("g6.xlarge", "spot")
        assert "on the terms of one" in chosen["why"]
    bench.ran("two")
    assert bench.plan()["chosen"]["lifecycle"] == "on-demand"


def test_rows_that_say_their_own_max_tokens_bound_the_answers(bench: Bench) -> None:
    asked = questions(ROWS).append_column("limit", pa.array(range(1, ROWS + 1)))
    bench.ask(asked)
    sampling = {"max_tokens": 50, "columns": {"max_tokens": "limit"}}
    said = bench.plan(sampling=sampling)
    assert said["output_tokens"]["at_most"] == sum(range(1, ROWS + 1))
    unread = outlook(bench.here(sampling=sampling), Evidence(ROWS, 3, 1, [], "nobody counted"))
    assert unread["output_tokens"]["at_most"] is None
