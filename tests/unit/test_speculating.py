"""What a worker makes of `auto`: what a profile says, and none where nothing is known or sound."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline import wiring
from pipeline.at_hand import JobAtHand, open_job
from pipeline.core.errors import JobInvalid
from pipeline.core.speculation import NONE
from pipeline.engine_loading import check_engine
from pipeline.engines.scripted import ScriptedSettings
from pipeline.job_speculative import SpeculativeSpec
from pipeline.profiles import keep, new_profile
from pipeline.proving import verify
from pipeline.speculating import candidates_of, key_of, speculation_of
from pipeline.spot.signals import NoNotice
from pipeline.tune import tune
from tests.e2e.house import job_file, questions, write
from tests.simulation.drafting import DraftingEngine

NGRAM = {"method": "ngram", "num_speculative_tokens": 4}
MEASURED = {"why": "ngram gains +20.0%", "rows": 9, "tokens_per_second": 100.0, "trials": [1]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(questions(40), str(tmp_path / "prompts/a.parquet"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    return tmp_path


def at_hand(
    folder: Path, speculative: Any = "auto", model: str = "./model", **sampling: Any
) -> JobAtHand:
    path = job_file(
        folder / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model={"id": model, "speculative": speculative},
        sampling=sampling,
        fleet={"lease_seconds": 2},
    )
    return open_job(str(path), run_id="night")


def fast(speeds: Mapping[int, float]) -> DraftingEngine:
    return DraftingEngine(ScriptedSettings(window=8, tokens=5), lambda _: None, speeds)


def test_without_a_profile_none_is_used_and_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = at_hand(folder)
    with caplog.at_level(logging.WARNING):
        found = speculation_of(here, here.job)
    assert (found.used.method, found.watched) == ("none", False)
    assert "spotmill tune" in caplog.text
    assert found.to_json()["asked"] == "auto"
    assert "no profile" in found.to_json()["why"]


def test_a_profile_is_used_watched_and_told(folder: Path) -> None:
    here = at_hand(folder)
    keep(here.store, new_profile(key_of(here.job), NGRAM, MEASURED, "today"), here.job, False)
    found = speculation_of(here, here.job)
    assert (found.used.method, found.used.num_speculative_tokens) == ("ngram", 4)
    assert found.watched
    told = found.to_json()
    assert told["why"] == MEASURED["why"]
    assert (told["profile"]["trials"], told["switches"]) == ([1], [])


def test_sampled_rows_get_none_on_a_cpu_whatever_a_profile_says(folder: Path) -> None:
    here = at_hand(folder, temperature=0.7)
    keep(here.store, new_profile(key_of(here.job), NGRAM, MEASURED, "today"), here.job, False)
    found = speculation_of(here, here.job)
    assert found.used.method == "none"
    assert "not sound" in str(found.why)
    check_engine(here.job)
    with pytest.raises(JobInvalid, match="nothing to tune"):
        tune(here)


def test_what_the_job_names_is_used_as_it_is(folder: Path) -> None:
    here = at_hand(folder, NGRAM)
    found = speculation_of(here, here.job)
    assert found.used is here.job.model.speculative
    assert not found.watched
    assert found.to_json() == NGRAM
    with pytest.raises(JobInvalid, match="asks for speculative: ngram"):
        tune(here)


def test_plain_auto_tries_what_needs_no_model() -> None:
    found = candidates_of(SpeculativeSpec(method="auto"))
    suffix = [("suffix", (8,))] if find_spec("arctic_inference") else []
    tried = [(settings.method, tuple(depths)) for settings, depths in found]
    assert tried == [("ngram", (2, 4)), ("ngram", (4,)), *suffix]
    limits = found[1][0].num_speculative_tokens_per_batch_size
    assert limits is not None
    assert limits[-1][-1] == 0


def test_named_candidates_are_tried_and_no_others() -> None:
    spec = SpeculativeSpec.model_validate(
        {"method": "auto", "candidates": [{"method": "draft_model", "model": "d"}, NGRAM]}
    )
    found = candidates_of(spec)
    assert [(s.method, s.model, tuple(depths)) for s, depths in found] == [
        ("draft_model", "d", (2, 4)),
        ("ngram", None, (4,)),
    ]
    assert found[0][0].num_speculative_tokens == 4


def test_tuning_measures_once_and_a_run_says_what_came_of_it(folder: Path) -> None:
    here = at_hand(folder)

    def load(settings: SpeculativeSpec) -> DraftingEngine:
        depth = settings.num_speculative_tokens
        return fast({0: 1.0} if settings.method == "none" else {0: 1.0, 2: 1.0, 4: 1.0, depth: 1.0})

    first = tune(here, rows=16, load=load)
    assert first["measured"]
    assert "ngram" in {trial["settings"]["method"] for trial in first["trials"]}
    assert all(trial["exact"] for trial in first["trials"])
    assert tune(here, rows=16, load=load)["measured"] is False
    assert tune(here, rows=16, again=True, load=load)["measured"]

    keep(here.store, new_profile(key_of(here.job), NGRAM, MEASURED, "today"), here.job, True)
    plan = wiring.plan(here)
    wiring.run_worker(here, NoNotice(), "w", load_engine=lambda _: fast({0: 1.0, 4: 1.0}))
    run = wiring.close_books(here, plan)
    told = run["model"]["speculative"]
    assert (told["method"], told["asked"], told["why"]) == ("ngram", "auto", MEASURED["why"])
    assert verify(here) == {
        "run_id": "night",
        "verified": True,
        "problems": [],
        "remarks": [],
        "deep": None,
    }


def test_a_run_with_auto_is_joined_whatever_is_tuned_meanwhile(folder: Path) -> None:
    here = at_hand(folder)
    wiring.plan(here)
    keep(here.store, new_profile(key_of(here.job), NONE, MEASURED, "today"), here.job, False)
    wiring.plan(at_hand(folder))
