"""A prediction is kept in its run, and held against what came."""

from __future__ import annotations

import json
import logging

import pytest

from pipeline import wiring
from pipeline.core import layout
from pipeline.core.errors import RunConflict
from pipeline.predicted import prediction_error
from pipeline.predicting.keeping import keep, keep_prediction
from tests.unit.plan_bench import Bench


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
