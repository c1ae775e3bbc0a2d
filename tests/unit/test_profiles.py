"""A profile is found by what it depends on, and one that is not what it should be is none."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import layout
from pipeline.core.ports import Body
from pipeline.core.speculation import NONE
from pipeline.job import JobSpec
from pipeline.job_file import parse_job
from pipeline.profiles import Profile, find, keep, new_profile, profile_key
from pipeline.stores.memory import MemoryStore

JOB = """\
name: nightly
input: {uri: "in/{date}/", prompt: q}
output: {uri: out/}
model:
  id: ./model
  speculative: {method: auto, candidates: [{method: draft_model, model: ./draft}, ngram]}
sampling: {max_tokens: 64}
"""
MEASURED = {"why": "draft_model gains +20.0%", "rows": 512, "trials": []}
DRAFT = {"method": "draft_model", "num_speculative_tokens": 4}


def job(folder: Path, text: str = JOB, date: str = "2026-11-20") -> JobSpec:
    return parse_job(text, source=str(folder / "job.yaml"), date=date)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"hidden_size": 64}')
    return tmp_path


def key(of: JobSpec, hardware: str = "1 x L4", engine: str = "vllm 0.32.0") -> dict[str, Any]:
    return profile_key(of, hardware, engine)


def made(of: JobSpec) -> Profile:
    chosen = {**DRAFT, "model": of.model.speculative.candidates[0].model}
    return new_profile(key(of), chosen, MEASURED, "2026-11-20T00:00:00+00:00")


def test_a_profile_comes_back_with_this_machines_paths(folder: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    keep(store, made(job(folder)), job(folder), again=False)
    assert "/" not in json.dumps(made(job(folder)).document["chosen"])
    elsewhere = tmp_path / "another"
    (elsewhere / "model").mkdir(parents=True)
    (elsewhere / "model/config.json").write_text('{"hidden_size": 64}')
    there = job(elsewhere, date="2026-12-24")
    found = find(store, key(there), there)
    assert found is not None
    assert found.chosen.model == str(elsewhere / "draft")
    assert found.chosen.num_speculative_tokens == 4
    assert found.why == MEASURED["why"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("id: ./model", "id: ./model\n  max_model_len: 9"),
        ("id: ./model", "id: ./model\n  engine: {max_num_seqs: 9}"),
        ("id: ./model", "id: ./model\n  revision: abc"),
        ("prompt: q", "template: 'Say {{ q }}'"),
        ("max_tokens: 64", "max_tokens: 65"),
        ("max_tokens: 64", "max_tokens: 64, temperature: 1"),
        ("ngram]", "suffix]"),
        ("model: ./draft", "model: ./other"),
    ],
)
def test_what_a_profile_depends_on_makes_another(folder: Path, old: str, new: str) -> None:
    assert old in JOB
    assert key(job(folder, JOB.replace(old, new))) != key(job(folder))


def test_hardware_engine_and_a_model_trained_anew_make_another(folder: Path) -> None:
    known = key(job(folder))
    assert key(job(folder), hardware="1 x H100") != known
    assert key(job(folder), engine="vllm 0.33.0") != known
    (folder / "model/config.json").write_text('{"hidden_size": 65}')
    assert key(job(folder)) != known


def test_the_first_of_two_counts_unless_it_is_asked_again(folder: Path) -> None:
    store, ours = MemoryStore(), job(folder)
    first = keep(store, made(ours), ours, again=False)
    none = new_profile(key(ours), NONE, {**MEASURED, "why": "nothing gains"}, "later")
    assert keep(store, none, ours, again=False).document == first.document
    assert keep(store, none, ours, again=True).document == none.document
    found = find(store, key(ours), ours)
    assert found is not None
    assert found.chosen.method == "none"


def test_of_two_who_tune_at_once_one_counts(folder: Path) -> None:
    ours = job(folder)
    none = new_profile(key(ours), NONE, {**MEASURED, "why": "nothing gains"}, "later")

    class Faster(MemoryStore):
        def create(self, key: str, body: Body) -> bool:
            if not self.list(key):
                super().create(key, json.dumps(made(ours).document).encode())
            return super().create(key, body)

    assert keep(Faster(), none, ours, again=False).document == made(ours).document


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"{",
        lambda _: b"[]",
        lambda d: json.dumps({**d, "key": {**d["key"], "hardware": "1 x H100"}}).encode(),
        lambda d: json.dumps({**d, "schema_version": 99}).encode(),
        lambda d: json.dumps({**d, "chosen": {"method": "auto"}}).encode(),
        lambda d: json.dumps({**d, "chosen": {"method": "medusa"}}).encode(),
        lambda d: json.dumps({**d, "chosen": {**DRAFT, "model": "stranger"}}).encode(),
        lambda d: json.dumps({k: v for k, v in d.items() if k != "trials"}).encode(),
    ],
)
def test_one_that_cannot_be_meant_is_none_and_replaced(
    folder: Path, caplog: pytest.LogCaptureFixture, spoil: Any
) -> None:
    store, ours = MemoryStore(), job(folder)
    whole = made(ours)
    where = layout.profile_key(whole.fingerprint)
    store.put(where, spoil(whole.document))
    with caplog.at_level(logging.WARNING):
        assert find(store, key(ours), ours) is None
    assert "tune --again" in caplog.text
    keep(store, whole, ours, again=False)
    assert find(store, key(ours), ours) is not None


def test_profiles_lie_beside_runs_and_never_under_data(folder: Path) -> None:
    where = layout.profile_key(made(job(folder)).fingerprint)
    assert where.startswith("profiles/")
    assert not where.startswith(layout.RUNS)
    assert layout.shard_of_part(where) is None
