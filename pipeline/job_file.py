"""The job file: parsed once, every complaint with its line, every relative path resolved."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from fsspec.utils import glob_translate
from pydantic import (
    BaseModel,
    ValidationError,
)

from pipeline.core import layout
from pipeline.core.errors import JobInvalid
from pipeline.job import JobSpec
from pipeline.yaml_lines import LinedYaml, closest


def parse_job(text: str, *, source: str, date: str) -> JobSpec:
    """Check a job file's text; `source` is its path or URI. Raises `JobInvalid`.

    `date` (YYYY-MM-DD) replaces `{date}` in `input.uri` and `output.uri`. Relative paths are meant
    from the job file's own folder.
    """
    document = LinedYaml.parse(text, source)
    try:
        job = JobSpec.model_validate(document.data)
    except ValidationError as problem:
        raise _invalid(problem, document, source) from None
    resolved = _resolved(job, source, date)
    if _reads_its_output(resolved, f"{job.name}-{date}"):
        raise JobInvalid(
            "the output lies where the input is read",
            where=f"{source}, line {document.line_of(('output', 'uri'))}",
            why=f"{resolved.output.uri} is read as part of {resolved.input.uri}, so the next run "
            "would answer this run's answers",
            hint="write to a folder beside the input, or name the input's files by a glob "
            "that leaves the output out",
        )
    return resolved


def _reads_its_output(job: JobSpec, run_id: str) -> bool:
    found, output = _place(job.input.uri), _place(job.output.uri).rstrip("/")
    written = [f"{output}/{key(run_id)}" for key in (_first_part, layout.plan_key)]
    if any(mark in found for mark in "*?["):
        return any(re.fullmatch(glob_translate(found), key) for key in written)
    folder = found.rstrip("/") + "/"
    # What begins with `_` or `.` is passed over in a folder.
    return any(
        key.startswith(folder) and not re.search(r"(^|/)[_.]", key.removeprefix(folder))
        for key in written
    )


def _first_part(run_id: str) -> str:
    return layout.part_key(run_id, 0)


def _place(uri: str) -> str:
    path = uri.removeprefix("file://")
    return path if "://" in path else _normal(path)


def _invalid(problem: ValidationError, document: LinedYaml, source: str) -> JobInvalid:
    complaints = []
    hint = "see `spotmill schema` for every key, and sample_data/job.yaml for an example"
    for error in problem.errors():
        path = tuple(part for part in error["loc"] if part != "[key]")
        name = ".".join(str(part) for part in path) or "the job"
        if error["type"] == "extra_forbidden":
            message = f"unknown key {name}{closest(str(path[-1]), _keys_beside(path))}"
        elif error["type"] == "missing":
            message = f"{name} is missing"
        else:
            message = f"{name}: {error['msg'].removeprefix('Value error, ')}"
        complaints.append((document.line_of(path), message))
    line, first = min(complaints)
    others = [f"line {n}: {message}" for n, message in sorted(complaints)[1:]]
    return JobInvalid(first, where=f"{source}, line {line}", why="; ".join(others), hint=hint)


def _keys_beside(path: tuple[int | str, ...]) -> list[str]:
    schema: type[BaseModel] = JobSpec
    for part in path[:-1]:
        field = schema.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        schema = annotation
    return sorted(schema.model_fields)


def _resolved(job: JobSpec, source: str, date: str) -> JobSpec:
    absolute = _resolver(source)
    with_date: Callable[[str], str] = lambda uri: absolute(uri.replace("{date}", date))  # noqa: E731
    model, cost, spec = job.model, job.cost, job.model.speculative
    return job.model_copy(
        update={
            "input": job.input.model_copy(update={"uri": with_date(job.input.uri)}),
            "output": job.output.model_copy(
                update={"uri": with_date(job.output.uri).rstrip("/") + "/"}
            ),
            "model": model.model_copy(
                update={
                    "id": _model_place(model.id, absolute),
                    "speculative": spec.with_models(lambda one: _model_place(one, absolute)),
                }
            ),
            "cost": cost.model_copy(update={"prices": cost.prices and absolute(cost.prices)}),
            "tags": {"ModelID": model.id} | job.tags,
        }
    )


def _resolver(source: str) -> Callable[[str], str]:
    if re.match(r"^[a-z0-9+]+://", source) and not source.startswith("file://"):
        scheme, _, place = source.partition("://")
        folder = posixpath.dirname(place)

        def beside(uri: str) -> str:
            if "://" in uri or uri.startswith("/"):
                return uri
            return f"{scheme}://{_normal(posixpath.join(folder, uri))}"

        return beside
    here = Path(source.removeprefix("file://")).resolve().parent

    def absolute(uri: str) -> str:
        if "://" in uri or uri.startswith("/"):
            return uri
        return _normal(posixpath.join(here.as_posix(), uri))

    return absolute


def _normal(path: str) -> str:
    return posixpath.normpath(path) + ("/" if path.endswith("/") else "")


def _model_place(model: str, absolute: Callable[[str], str]) -> str:
    """A model named with `./` or `../` lies beside the job file; anything else is an id or URI."""
    return absolute(model) if model.startswith(("./", "../")) else model
