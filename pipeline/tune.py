"""What `spotmill tune` does: from a job at hand to a profile in its bucket."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core.errors import InputInvalid, JobInvalid, RowRejected
from pipeline.core.ports import Engine
from pipeline.core.speculation import choose
from pipeline.dataset.source import ParquetSource
from pipeline.engine_loading import check_engine, engine_loader
from pipeline.job_speculative import SpeculativeSpec
from pipeline.profiles import find, keep, new_profile
from pipeline.speculating import candidates_of, key_of, why_none
from pipeline.tuning import SampleRow, measure
from pipeline.wiring import preview

SAMPLED_ROWS = 1_024
_SHARDS = 4


def tune(
    here: JobAtHand,
    rows: int = SAMPLED_ROWS,
    again: bool = False,
    load: Callable[[SpeculativeSpec], Engine] | None = None,
) -> dict[str, Any]:
    """The profile, measured now unless there is one. `load` is for engines other than the job's.

    Raises `JobInvalid` for a job that asks for no `auto` or cannot speculate soundly here, and what
    loading raises for the engine without speculation.
    """
    job = here.job
    if job.model.speculative.method != "auto":
        raise JobInvalid(
            f"the job asks for speculative: {job.model.speculative.method}",
            where="model.speculative",
            why="a profile is read for `auto` alone",
            hint="write `speculative: auto`, or {method: auto, candidates: [...]}",
        )
    if load is None and (why := why_none(job)):
        raise JobInvalid(
            "there is nothing to tune", where="model.speculative", why=why, hint="leave it at auto"
        )
    check_engine(job)
    key = key_of(job)
    if not again and (known := find(here.store, key, job)) is not None:
        return {"measured": False, **known.document}
    measured = measure(
        load or _loader(here), _sample(here, rows), candidates_of(job.model.speculative), _CLOCK
    )
    choice = choose(measured.trials)
    document = {
        "why": choice.why,
        "rows": measured.rows,
        "rows_rejected": measured.rejected,
        "tokens_per_second": round(measured.tokens_per_second, 1),
        "trials": [trial.to_json() for trial in measured.trials],
    }
    made = new_profile(key, choice.settings, document, _CLOCK.timestamp())
    return {"measured": True, **keep(here.store, made, job, again).document}


def line_of(trial: Mapping[str, Any]) -> dict[str, Any]:
    """A stored trial, as short as a person wants it."""
    settings = trial["settings"]
    told = {
        "method": settings["method"],
        "depth": settings["num_speculative_tokens"],
        "gain": trial["gain"],
        "acceptance": trial["acceptance"],
        "exact": trial["exact"],
    }
    limits = settings.get("num_speculative_tokens_per_batch_size")
    return (
        told
        | ({"limits": limits} if limits else {})
        | ({"problem": trial["problem"]} if trial["problem"] else {})
    )


_CLOCK = SystemClock()


def _loader(here: JobAtHand) -> Callable[[SpeculativeSpec], Engine]:
    def load(settings: SpeculativeSpec) -> Engine:
        model = here.job.model.model_copy(update={"speculative": settings})
        job = here.job.model_copy(update={"model": model})
        # A process for each: what one leaves behind in its own (vLLM 0.32's CPU build cannot load
        # another engine once n-gram's compiler is imported), and a crash, are no other's.
        return engine_loader(job, here.options)(True)

    return load


def _sample(here: JobAtHand, rows: int) -> list[SampleRow]:
    """As evenly from a few shards as there are any; the same for the same dataset."""
    made = preview(here)
    source = ParquetSource(here.job, made.schema, here.options)
    dice = random.Random(0)  # noqa: S311 - a sample, not a secret
    shards = dice.sample(made.shards, min(_SHARDS, len(made.shards)))
    found: list[SampleRow] = []
    for left, shard in zip(range(len(shards), 0, -1), shards, strict=True):
        given = source.open(shard)
        wanted = -(-(rows - len(found)) // left)
        for row in dice.sample(range(given.rows), min(wanted, given.rows)):
            try:
                found.append(SampleRow(given.prompt(row), given.sampling(row)))
            except RowRejected:
                continue
    if not found:
        raise InputInvalid("no row of the sample holds a usable prompt", where=here.job.input.uri)
    return found
