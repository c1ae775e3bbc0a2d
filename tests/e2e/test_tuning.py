"""`spotmill tune` as its users run it: real vLLM, the sample's tickets and its draft model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.house import SAMPLE, job_file, spotmill

RUN = "night"
CANDIDATES = [
    {
        "method": "draft_model",
        "model": str(SAMPLE / "models/draft"),
        "num_speculative_tokens": 4,
    },
    {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 4},
]


def auto_job(folder: Path, candidates: list[dict[str, Any]]) -> str:
    job: dict[str, Any] = yaml.safe_load((SAMPLE / "job.yaml").read_text())
    job["input"]["uri"] = str(SAMPLE / "tickets")
    job["output"] = {"uri": str(folder / "out")}
    job["cost"] = {}
    job["model"]["id"] = str(SAMPLE / "models/target-w8a8")
    job["model"]["speculative"] = {"method": "auto", "candidates": candidates}
    return str(job_file(folder / "job.yaml", **job))


@pytest.mark.vllm
@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_tune_measures_and_a_run_uses_what_it_found(tmp_path: Path) -> None:
    job = auto_job(tmp_path, CANDIDATES)
    # An engine in a process of its own takes half a minute to load, and there are four.
    said = spotmill("tune", job, "--rows", "160", "--json", patience_seconds=800)
    assert said.code == 0, said.stderr
    profile = said.document
    drafts, shallow, deep = profile["trials"]
    assert [t["settings"]["num_speculative_tokens"] for t in profile["trials"]] == [4, 2, 4]
    for trial in (drafts, shallow, deep):
        assert trial["problem"] is None
        assert trial["exact"], trial["agreement"]
        assert trial["ratios"]
        assert trial["draft_proposed"] > trial["draft_accepted"] > 0
    # The draft model was trained for these tickets; n-gram guesses.
    assert drafts["acceptance"] > 0.7 > shallow["acceptance"]

    [stored] = (tmp_path / "out/profiles").iterdir()
    assert json.loads(stored.read_text())["fingerprint"] == profile["fingerprint"]
    assert spotmill("tune", job, "--json").document["measured"] is False

    ran = spotmill("run", job, "--run-id", RUN, "--no-prefect", "--json")
    assert ran.code == 0, ran.stderr
    told = ran.document["model"]["speculative"]
    chosen = profile["chosen"]
    assert (told["method"], told["asked"]) == (chosen["method"], "auto")
    assert told["profile"]["fingerprint"] == profile["fingerprint"]
    assert told["profile"]["trials"] == profile["trials"]
    assert spotmill("verify", job, "--run-id", RUN).code == 0


def test_tune_of_a_job_that_names_its_method_is_refused() -> None:
    said = spotmill("tune", str(SAMPLE / "job.yaml"))
    assert said.code == 2
    assert "speculative: auto" in said.stderr
