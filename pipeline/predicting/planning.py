"""What `spotmill plan` says beside the shards: tokens, hours and dollars, before the run."""

from __future__ import annotations

import logging
from typing import Any

from pipeline import wiring
from pipeline.at_hand import JobAtHand
from pipeline.core.errors import SpotmillError, in_a_line
from pipeline.dataset.plan_file import Plan
from pipeline.engine_loading import SCRIPTED, engine_loader
from pipeline.engines.limits import local_model_config, quantization_of
from pipeline.engines.model_files import without_weights
from pipeline.engines.tokenizer import tokenizer_of
from pipeline.predicting.generating import generated
from pipeline.predicting.history import earlier_runs
from pipeline.predicting.outlook import outlook
from pipeline.predicting.rows import Counted, Encode, count
from pipeline.predicting.selected import Selected, selected_rows
from pipeline.predicting.view import Evidence
from pipeline.speculating import speculation_of

log = logging.getLogger("spotmill")


def predict(
    here: JobAtHand, plan: Plan, sample: int | None = None, boot_seconds: float = 0.0
) -> dict[str, Any]:
    """The outlook of a run of this plan: prompts are counted, earlier runs are read, and `sample`
    rows are generated where that is asked for, in a command that took `boot_seconds` to be ready.
    Nothing is written."""
    # Rows are read where they are: what an ordered plan names is yet to be copied.
    dataset = plan if plan.copied_from is None else wiring.preview(here)
    runs = earlier_runs(here)
    found = None if sample is None else generated(here, dataset, sample, boot_seconds=boot_seconds)
    selected = found.counted.selected if found else selected_rows(here, dataset)
    return outlook(
        here,
        Evidence(
            planned=plan.rows,
            shards=len(plan.shards),
            workers=here.job.fleet.workers,
            runs=runs,
            selected=selected,
            counted=found.counted if found else _counted(here, dataset, selected),
            generated=found,
            tuned=_tuned(here),
            quantization=weights_quantization(here),
            # A pool's workers are on machines of their own.
            local=here.job.fleet.pool is None,
            asks_market=True,
        ),
    )


def _tuned(here: JobAtHand) -> dict[str, Any] | None:
    """What a manifest would say of the model, if workers were on this machine."""
    if here.job.model.speculative.method != "auto":
        return None
    try:
        return {"speculative": speculation_of(here, here.job).to_json()}
    except SpotmillError as problem:
        # Without an engine here, nobody knows which profile would be this machine's.
        log.info("no profile is looked for: %s", in_a_line(problem))
        return None


def weights_quantization(here: JobAtHand) -> str | None:
    """Of the weights, by the model's own config.json, where the job leaves it to that."""
    model = here.job.model
    if model.quantization != "auto" or model.id.startswith(SCRIPTED):
        return None
    try:
        fetched = without_weights(model, here.options)
        config = local_model_config(fetched.spec.id)
    except SpotmillError as problem:
        log.info("whether the model is quantized is not known: %s", in_a_line(problem))
        return None
    return None if config is None else quantization_of(config)


def _counted(here: JobAtHand, plan: Plan, selected: Selected) -> Counted | str:
    """Or why not, in words: without its tokenizer, a job has shards and a history all the same."""
    try:
        encode = _encoder(here)
    except SpotmillError as problem:
        return in_a_line(problem)
    return count(here, plan, selected, encode)


def _encoder(here: JobAtHand) -> Encode:
    if here.job.model.id.startswith(SCRIPTED):
        return engine_loader(here.job, here.options)(True).encode
    return tokenizer_of(here.job.model, here.options)
