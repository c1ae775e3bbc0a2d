"""What vLLM counts, as figures; and what a GPU says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline.metrics.engine import EngineCounts
from pipeline.metrics.figures import Distribution, Figure
from pipeline.metrics.gpu import Gpus
from tests.unit.strategies import bounded

LABELS = ["model_name", "engine"]


def by_name(figures: list[Figure]) -> dict[str, Any]:
    return {" ".join([figure.name, *figure.labels.values()]): figure.value for figure in figures}


def test_vllms_counters_become_figures_over_all_its_engines() -> None:
    registry = CollectorRegistry()
    hits = Counter("vllm:prefix_cache_hits", "", LABELS, registry=registry)
    usage = Gauge("vllm:kv_cache_usage_perc", "", LABELS, registry=registry)
    running = Gauge("vllm:num_requests_running", "", LABELS, registry=registry)
    tokens = Histogram(
        "vllm:request_generation_tokens", "", LABELS, buckets=[1, 2, 5], registry=registry
    )
    other = Counter("vllm:admission_rejections", "", registry=registry)
    other.inc()
    for engine, (found, used, rows, answers) in enumerate(
        [(5, 0.25, 3, [1, 4, 4]), (7, 0.75, 4, [2, 900])]
    ):
        hits.labels("m", str(engine)).inc(found)
        usage.labels("m", str(engine)).set(used)
        running.labels("m", str(engine)).set(rows)
        for answer in answers:
            tokens.labels("m", str(engine)).observe(answer)
    assert by_name(EngineCounts(registry).figures()) == {
        "gen_ai.client.inference.operation.output_tokens": Distribution(
            (1.0, 2.0, 5.0), (1, 1, 2, 1), 911.0
        ),
        "spotmill.engine.prefix_cache.hits": 12,
        "spotmill.engine.rows running": 7,
        "spotmill.engine.kv_cache.usage": 0.75,
    }


def test_acceptance_needs_a_draft() -> None:
    registry = CollectorRegistry()
    proposed = Counter("vllm:spec_decode_num_draft_tokens", "", registry=registry)
    accepted = Counter("vllm:spec_decode_num_accepted_tokens", "", registry=registry)
    assert "spotmill.engine.drafts.acceptance" not in by_name(EngineCounts(registry).figures())
    proposed.inc(8)
    accepted.inc(6)
    assert by_name(EngineCounts(registry).figures())["spotmill.engine.drafts.acceptance"] == 0.75


@dataclass
class Engine:
    """What vLLM registers for one, and takes away before it makes the next."""

    registry: CollectorRegistry
    drafts: bool = True
    hits: Counter = field(init=False)
    tokens: Histogram = field(init=False)
    proposed: Counter | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        of = self.registry
        self.hits = Counter("vllm:prefix_cache_hits", "", LABELS, registry=of)
        name, buckets = "vllm:request_generation_tokens", [1, 2, 5]
        self.tokens = Histogram(name, "", LABELS, buckets=buckets, registry=of)
        if self.drafts:
            self.proposed = Counter("vllm:spec_decode_num_draft_tokens", "", registry=of)

    def works(self, hits: int, *answers: int, drafted: int = 0) -> None:
        self.hits.labels("m", "0").inc(hits)
        for answer in answers:
            self.tokens.labels("m", "0").observe(answer)
        if self.proposed is not None:
            self.proposed.inc(drafted)

    def end(self) -> None:
        for one in (self.hits, self.tokens, self.proposed):
            if one is not None:
                self.registry.unregister(one)


HITS, OUTPUT = (
    "spotmill.engine.prefix_cache.hits",
    "gen_ai.client.inference.operation.output_tokens",
)


def test_what_an_engine_counted_is_not_lost_with_it() -> None:
    registry = CollectorRegistry()
    counts, first = EngineCounts(registry), Engine(registry)
    first.works(500, 1, 1, 9, drafted=80)
    counts.figures()
    first.works(20, 2)
    before = by_name(counts.figures())
    assert before[HITS] == 520
    first.end()
    # An update while the next one loads: nothing is there, and nothing is forgotten.
    assert by_name(counts.figures()) == before
    second = Engine(registry, drafts=False)
    second.works(3, 1)
    for _ in range(2):
        told = by_name(counts.figures())
        assert told[HITS] == 523
        assert told[OUTPUT] == Distribution((1.0, 2.0, 5.0), (3, 1, 0, 1), 14.0)
        assert told["spotmill.engine.drafts.proposed"] == 80, "the next one has none"


def test_an_engine_whose_histogram_grows_in_other_places_is_another_one() -> None:
    """Its first rows may be as many as the former's in one bucket, and fewer in the next."""
    registry = CollectorRegistry()
    counts, first = EngineCounts(registry), Engine(registry)
    first.works(9, 1, 1, 1)
    counts.figures()
    first.end()
    Engine(registry).works(1, 1, 2, 4, 9)
    told = by_name(counts.figures())
    assert told[OUTPUT] == Distribution((1.0, 2.0, 5.0), (4, 1, 1, 1), 19.0)


lives = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3)), max_size=4),
    min_size=1,
    max_size=4,
)


@bounded
@given(lives, st.booleans())
def test_engines_counters_only_grow_and_miss_nothing(
    engines: list[list[tuple[int, list[int]]]], looks_between: bool
) -> None:
    registry = CollectorRegistry()
    counts = EngineCounts(registry)
    hits = rows = 0
    for life in engines:
        engine = Engine(registry)
        for found, answers in life:
            engine.works(found, *answers)
            hits, rows = hits + found, rows + len(answers)
            told = by_name(counts.figures())
            assert told[HITS] == hits
            if OUTPUT in told:
                assert min(told[OUTPUT].counts) >= 0
            assert (told[OUTPUT].count if OUTPUT in told else 0) == rows
        engine.end()
        if looks_between:
            counts.figures()


def test_where_there_is_no_vllm_there_is_nothing() -> None:
    assert EngineCounts(CollectorRegistry()).figures() == []


def test_vllm_still_counts_under_these_names() -> None:
    from pipeline.metrics import engine

    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("no vLLM is installed")
    folder = Path(spec.origin).parent / "v1"
    sources = [folder / "metrics" / "loggers.py", folder / "spec_decode" / "metrics.py"]
    text = "".join(source.read_text() for source in sources)
    names = {*engine._COUNTERS, *engine._ROWS, engine._KV, *engine._DISTRIBUTIONS}
    assert sorted(name for name in names if f'"{name}"' not in text) == []


@dataclass
class Utilization:
    gpu: int


@dataclass
class Memory:
    used: int
    total: int


@dataclass
class FakeNvml:
    """A node with three GPUs, of which the last answers no question."""

    installed: bool = True
    names: list[str] = field(default_factory=lambda: ["GPU-a1", "GPU-a2", "GPU-c3"])

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.installed:
            raise OSError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        return self.names.index(uuid)

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return self.names[handle]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Utilization:  # noqa: N802
        if handle == 2:
            raise OSError("GPU is lost")
        return Utilization([97, 40, 0][handle])

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Memory:  # noqa: N802
        return Memory([20, 40, 0][handle], 80)


@pytest.mark.parametrize(
    ("visible", "told"),
    [
        (None, {"0": 0.97, "1": 0.4}),
        ("1", {"1": 0.4}),
        ("1, 0", {"1": 0.4, "0": 0.97}),
        ("", {}),
        ("-1", {}),
        ("0,-1,1", {"0": 0.97}),
        ("1,7,0", {"1": 0.4}),
        ("GPU-a1,2", {"GPU-a1": 0.97}),
        ("GPU-c,GPU-a2", {"GPU-a2": 0.4}),
        ("GPU-a,0", {}),
        ("NoDevFiles", {}),
    ],
)
def test_each_gpu_that_cuda_shows_this_process_and_that_answers(
    visible: str | None, told: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    figures = Gpus(FakeNvml(), visible).figures()
    busy = {f.labels["hw.id"]: f.value for f in figures if f.name == "hw.gpu.utilization"}
    memory = {f.labels["hw.id"]: f.value for f in figures if f.name == "hw.gpu.memory.utilization"}
    assert busy == told
    assert memory == {name: {0.97: 0.25, 0.4: 0.5}[value] for name, value in told.items()}


def test_without_nvml_there_are_no_gpus_rather_than_idle_ones() -> None:
    assert Gpus(FakeNvml(installed=False)).figures() == []
