"""Figures as Prometheus knows them, and the two ways to hand them to it: a file, and a gateway.

Names become Prometheus's as an OpenTelemetry collector would make them of the same figures, so that
a dashboard need not know which way they came (the rules of `prometheus/otlptranslator`): dots are
underscores, units stand at the end, and those in braces nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from prometheus_client import Metric, delete_from_gateway, push_to_gateway, write_to_textfile
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipeline.metrics.figures import Distribution, Figure, Told
from pipeline.metrics.meanings import Meaning
from pipeline.metrics.port import SINK_SECONDS

_UNITS = {"s": "seconds", "1": ""}
_PER = {"s": "per_second"}
_KINDS = {"counter": "counter", "updown": "gauge", "gauge": "gauge", "histogram": "histogram"}
_JOB = "spotmill"


def prometheus_name(name: str, meaning: Meaning) -> str:
    """Without the `_total` that its format gives every counter."""
    words = underscored(name).split("_")
    unit, _, per = meaning.unit.partition("/")
    for said in (_UNITS[unit] if not unit.startswith("{") else "", _PER[per] if per else ""):
        if said and said not in words:
            words.append(said)
    if meaning.unit == "1" and meaning.kind == "gauge":
        words.append("ratio")
    return "_".join(words)


def underscored(name: str) -> str:
    return name.replace(".", "_")


class Page(Collector):
    """One update, as `prometheus_client` asks for it."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for figure in self._told.figures:
            if figure.name not in families:
                families[figure.name] = Metric(
                    prometheus_name(figure.name, figure.meaning),
                    figure.meaning.help,
                    _KINDS[figure.meaning.kind],
                )
            labels = self._told.subject.labels_of(figure)
            _add(families[figure.name], figure, {underscored(k): v for k, v in labels.items()})
        return families.values()


def _add(family: Metric, figure: Figure, labels: dict[str, str]) -> None:
    value = figure.value
    if isinstance(value, Distribution):
        bounds = [*map(floatToGoString, value.bounds), "+Inf"]
        for bound, count in zip(bounds, accumulate(value.counts), strict=True):
            family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count)
        family.add_sample(f"{family.name}_count", labels, value.count)
        family.add_sample(f"{family.name}_sum", labels, value.sum)
    else:
        ending = "_total" if family.type == "counter" else ""
        family.add_sample(family.name + ending, labels, float(value))


class Textfile:
    """Files for node_exporter's textfile collector: one for a run, one for each worker at work."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    def tell(self, told: Told) -> None:
        """Whoever reads the file meanwhile reads the former update, or this one."""
        subject = told.subject
        write_to_textfile(str(self._file(subject.run_id, subject.worker_id)), Page(told))

    def forget(self, run_id: str, worker_id: str) -> None:
        self._file(run_id, worker_id).unlink(missing_ok=True)

    def close(self) -> None:
        pass

    def _file(self, run_id: str, worker_id: str | None) -> Path:
        # No name of a run or a worker has an "@" in it.
        worker = "" if worker_id is None else f"@{worker_id}"
        return self._folder / f"spotmill-{run_id}{worker}.prom"


class Pushgateway:
    """A group for a run, which stays after it, and one for each worker at work."""

    def __init__(self, url: str) -> None:
        self._url = url

    def tell(self, told: Told) -> None:
        group = _group(told.subject.run_id, told.subject.worker_id)
        push_to_gateway(self._url, _JOB, Page(told), group, timeout=SINK_SECONDS)

    def forget(self, run_id: str, worker_id: str) -> None:
        delete_from_gateway(self._url, _JOB, _group(run_id, worker_id), timeout=SINK_SECONDS)

    def close(self) -> None:
        pass


def _group(run_id: str, worker_id: str | None) -> dict[str, str]:
    worker = {} if worker_id is None else {"spotmill_worker_id": worker_id}
    return {"spotmill_run_id": run_id} | worker
