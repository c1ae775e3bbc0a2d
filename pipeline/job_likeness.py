"""Which jobs are alike, so that a run of one tells something of a run of the other."""

from __future__ import annotations

from typing import Any

from pipeline.job import JobSpec, without_folder

Json = dict[str, Any]


def answers_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether answers to like rows would be as long: the same model, prompt and sampling."""
    return _answers(one) == _answers(other)


def paced_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether they would come as fast, too, on the same machine."""
    return answers_alike(one, other) and _engine(one) == _engine(other)


def asked_alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether they ask the same of like rows, of whatever model."""
    return _asked(one) == _asked(other)


def _asked(job: JobSpec) -> Json:
    asked = job.model_dump(mode="json", include={"sampling", "input"})
    rows = {name: asked["input"][name] for name in ("prompt", "messages", "template")}
    return {"sampling": asked["sampling"], "rows": rows}


def _answers(job: JobSpec) -> Json:
    model = (without_folder(job.model.id), job.model.revision, job.model.quantization)
    return {**_asked(job), "model": model}


def _engine(job: JobSpec) -> Json:
    return {
        "speculative": job.model.speculative.with_models(without_folder).decisive(),
        "max_model_len": job.model.max_model_len,
        "engine": job.model.engine,
    }
