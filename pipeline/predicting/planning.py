"""What `spotmill plan` says beside the shards: tokens, hours and dollars, before the run."""

from __future__ import annotations

from typing import Any

from pipeline import wiring
from pipeline.at_hand import JobAtHand
from pipeline.core.errors import SpotmillError, in_a_line
from pipeline.dataset.plan_file import Plan
from pipeline.engine_loading import SCRIPTED, engine_loader
from pipeline.engines.tokenizer import tokenizer_of
from pipeline.predicting.generating import Generated, generated
from pipeline.predicting.history import earlier_runs
from pipeline.predicting.outlook import Evidence, outlook
from pipeline.predicting.rows import Counted, Encode, count


def predict(here: JobAtHand, plan: Plan, sample: int | None = None) -> dict[str, Any]:
    """The outlook of a run of this plan: prompts are counted, earlier runs are read, and `sample`
    rows are generated where that is asked for. Nothing is written."""
    # Rows are read where they are: what an ordered plan names is yet to be copied.
    dataset = plan if plan.copied_from is None else wiring.preview(here)
    runs = earlier_runs(here.store, here.job.name)
    found: Generated | None = None if sample is None else generated(here, dataset, sample)
    workers = here.job.fleet.workers
    counted = _counted(here, dataset)
    return outlook(here, Evidence(plan.rows, len(plan.shards), workers, runs, counted, found))


def _counted(here: JobAtHand, plan: Plan) -> Counted | str:
    """Or why not, in words: without its tokenizer, a job has shards and a history all the same."""
    try:
        return count(here, plan, _encoder(here))
    except SpotmillError as problem:
        return in_a_line(problem)


def _encoder(here: JobAtHand) -> Encode:
    if here.job.model.id.startswith(SCRIPTED):
        return engine_loader(here.job, here.options)(True).encode
    return tokenizer_of(here.job.model, here.options)
