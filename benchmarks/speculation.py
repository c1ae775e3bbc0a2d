"""Speculation auto / never / always: the same worker on the same engine, in turn.

`tickets`: the sample's tickets with its draft model, where speculation pays. `random`: prompts of
random letters with n-gram, which finds spurious matches and loses, while the profile says that it
pays: the worst that a profile can be. The engine is loaded once a workload, with drafts; `never`
runs it at depth 0, and what that costs beside an engine without drafts is the last figure.
Every run's order is another, so that a machine that others use slows all three alike.
`python -m benchmarks.speculation`; one JSON document on the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import string
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.lent import Lent as Kept
from benchmarks.setting import MODELS
from benchmarks.workload import Workload, make_workload
from pipeline import wiring
from pipeline.at_hand import JobAtHand, open_job
from pipeline.core.ports import Engine
from pipeline.engines.model_files import local_model
from pipeline.engines.preload import cpu_environment
from pipeline.engines.vllm import VllmEngine, device_at_hand, load_vllm
from pipeline.job import without_folder
from pipeline.job_speculative import SpeculativeSpec
from pipeline.profiles import keep, new_profile
from pipeline.speculating import key_of
from pipeline.spot.signals import NoNotice

MODES = ("auto", "never", "always")
DRAFT = {
    "method": "draft_model",
    "model": str(MODELS / "draft"),
    "num_speculative_tokens": 4,
}
SPURIOUS = {
    "method": "ngram",
    "prompt_lookup_min": 1,
    "prompt_lookup_max": 2,
    "num_speculative_tokens": 6,
}
Json = dict[str, Any]


class Lent(Kept):
    """At the depth it is lent with."""

    _engine: VllmEngine

    def __init__(self, engine: VllmEngine, depth: int) -> None:
        super().__init__(engine)
        engine.speculate(depth)
        engine.forget_prefixes()

    @property
    def draft_depth(self) -> int:
        return self._engine.draft_depth

    def speculate(self, depth: int) -> None:
        self._engine.speculate(depth)

    def forget_prefixes(self) -> None:
        self._engine.forget_prefixes()


@dataclass(frozen=True, slots=True)
class Case:
    """A dataset, and what speculates on it."""

    name: str
    load: Workload
    speculative: Json

    def here(self, run: str, mode: str) -> JobAtHand:
        """The job at hand, for `auto` with a profile that names `speculative`."""
        path = self.load.job_file(self.load.folder / run, False)
        job = yaml.safe_load(path.read_text())
        if mode == "auto":
            candidate = {"method": "auto", "candidates": [self.speculative]}
            job["model"]["speculative"] = candidate
        path.write_text(yaml.safe_dump(job))
        here = open_job(str(path), run_id=run)
        if mode == "auto":
            spec = SpeculativeSpec.model_validate(self.speculative).with_models(without_folder)
            settings = spec.settings()
            # Both profiles say what is true of the tickets alone.
            trial = {"settings": settings, "acceptance": 0.88}
            told = {"why": "so the benchmark says", "trials": [trial], "rows": 0}
            made = new_profile(key_of(here.job), self.speculative, told, "now")
            keep(here.store, made, here.job, again=True)
        return here

    def engine(self, speculative: Json) -> VllmEngine:
        here = open_job(str(self.load.job_file(self.load.folder / "any", False)), run_id="any")
        settings = SpeculativeSpec.model_validate(speculative)
        model = here.job.model.model_copy(update={"speculative": settings})
        # A process for each: vLLM's CPU build cannot load another one beside n-gram's compiler.
        return load_vllm(local_model(model, here.options), device_at_hand(), own_process=True)


def work(here: JobAtHand, engine: Engine) -> Json:
    """Output tokens a second of a worker's working time, and how it speculated."""
    plan, before = wiring.plan(here), engine.metrics()
    wiring.run_worker(here, NoNotice(), load_engine=lambda _: engine)
    manifest = wiring.close_books(here, plan)
    [worker] = manifest["workers"]
    seconds = sum(worker["seconds"][b] for b in ("useful", "wasted", "idle", "drain"))
    parts = here.ledger.shard_manifests([shard.id for shard in plan.shards])
    switches = [part["model"]["speculative"].get("switches", []) for part in parts]
    return {
        "rate": manifest["tokens"]["output"] / seconds,
        "seconds": seconds,
        # The manifest has all that the engine ever made, and it was others' before.
        "proposed": engine.metrics().draft_proposed - before.draft_proposed,
        "accepted": engine.metrics().draft_accepted - before.draft_accepted,
        "switches": max(switches, key=len),
    }


def measure(case: Case, rounds: int) -> Json:
    with closing(case.engine(case.speculative)) as engine:
        runs: dict[str, list[Json]] = {mode: [] for mode in MODES}
        work(case.here(f"{case.name}-warm", "never"), Lent(engine, engine.draft_depth))
        for n in range(rounds):
            order = MODES[n % 3 :] + MODES[: n % 3]
            for mode in order:
                lent = Lent(engine, 0 if mode == "never" else engine.draft_depth)
                runs[mode].append(work(case.here(f"{case.name}-{mode}-{n}", mode), lent))
                told = runs[mode][-1]
                print(
                    f"{case.name} {mode}: {told['rate']:.0f} tokens/s in {told['seconds']:.1f} s, "
                    f"switches {[(s['from_depth'], s['to_depth']) for s in told['switches']]}",
                    flush=True,
                )
    ratios = [
        auto["rate"] / max(never["rate"], always["rate"])
        for auto, never, always in zip(*(runs[mode] for mode in MODES), strict=True)
    ]
    # One of the two may be the better one by luck in a round: the better one of all rounds.
    better = max(("never", "always"), key=lambda m: median(run["rate"] for run in runs[m]))
    to_better = [
        auto["rate"] / one["rate"] for auto, one in zip(runs["auto"], runs[better], strict=True)
    ]
    accepted = sum(run["accepted"] for run in runs["always"])
    proposed = sum(run["proposed"] for run in runs["always"])
    return {
        "auto_to_better": _spread(to_better),
        "auto_to_luckier_each_round": _spread(ratios),
        "better": better,
        "always_to_never": _spread(
            [a["rate"] / b["rate"] for a, b in zip(runs["always"], runs["never"], strict=True)]
        ),
        "acceptance": accepted / max(1, proposed),
        "switches": [run["switches"] for run in runs["auto"]],
        "seconds_a_run": median(run["seconds"] for run in runs["never"]),
    }


def depth_zero(case: Case, rounds: int) -> Json:
    """Loaded with drafts and told to make none / loaded without, engines in turn."""
    ratios = []
    for n in range(rounds):
        rates = {}
        for mode in ("idle", "none") if n % 2 else ("none", "idle"):
            with closing(case.engine(case.speculative if mode == "idle" else _NONE)) as engine:
                kept: Any = Lent(engine, 0) if mode == "idle" else Kept(engine)
                work(case.here(f"zero-{case.name}-warm-{mode}-{n}", "never"), kept)
                rates[mode] = work(case.here(f"zero-{case.name}-{mode}-{n}", "never"), kept)["rate"]
        ratios.append(rates["idle"] / rates["none"])
        print(f"{case.name}, drafts at depth 0 / none: {ratios[-1]:.4f}", flush=True)
    return _spread(ratios)


_NONE = {"method": "none"}


@contextmanager
def closing(engine: VllmEngine) -> Iterator[VllmEngine]:
    try:
        yield engine
    finally:
        engine.close()


def _spread(values: list[float]) -> Json:
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def random_letters(folder: Path, rows: int) -> Workload:
    """Prompts without a word in them: what the model answers repeats letters, and no phrase."""
    dice = random.Random(11)
    letters = string.ascii_lowercase + " " * 5
    bodies = ["".join(dice.choices(letters, k=dice.randint(120, 360))) for _ in range(rows)]
    (folder / "tickets").mkdir(parents=True)
    table = pa.table({"ticket_id": pa.array(range(rows), pa.int64()), "body": bodies})
    pq.write_table(table, folder / "tickets/part-0.parquet", row_group_size=max(1, rows // 8))
    return Workload(folder, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.speculation", description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=["tickets", "random", "zero"])
    asked = parser.parse_args()
    if "LD_PRELOAD" not in os.environ and (wanted := cpu_environment(1)):
        # Preloading is for processes to come, so this one begins again.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})  # noqa: S606
    document: Json = {"rows": asked.rows, "rounds": asked.rounds}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        pays = Case("tickets", make_workload(Path(folder) / "a", asked.rows), DRAFT)
        loses = Case("random", random_letters(Path(folder) / "b", asked.rows), SPURIOUS)
        if "tickets" in asked.cases:
            document["tickets"] = measure(pays, asked.rounds)
        if "random" in asked.cases:
            document["random"] = measure(loses, asked.rounds)
        if "zero" in asked.cases:
            document["depth_zero_to_none"] = depth_zero(pays, asked.rounds)
    print(json.dumps(document), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
