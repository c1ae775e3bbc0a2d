"""What a run would have cost on demand, without speculation, and with the model unquantized: where
earlier figures tell, and unknown where none does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.core.money import ON_DEMAND
from pipeline.core.past import Past
from pipeline.core.prediction import Forecast, OutputTokens, Work, forecast_at
from pipeline.job import JobSpec
from pipeline.job_likeness import answers_alike, asked_alike
from pipeline.predicting.generating import Generated
from pipeline.predicting.history import EarlierRun
from pipeline.predicting.places import Place


@dataclass(frozen=True, slots=True)
class Otherwise:
    """The job as it is, to be priced as it is not. `quantization` is what its `auto` comes to, if
    that is known; `tuned` is its model as a manifest tells it, where a profile for this place is at
    hand, and `generated` a sample, where one was made there. `slowed` is the forecast if it decoded
    so many times slower."""

    job: JobSpec
    work: Work
    tokens: OutputTokens
    runs: Sequence[EarlierRun]
    past: Past
    place: Place
    quantization: str
    tuned: Mapping[str, Any] | None
    generated: Generated | None
    slowed: Callable[[float], Forecast | None]
    usd_of: Callable[[Forecast | None, Place], Decimal | None]

    def on_demand(self, there: Forecast | None) -> tuple[Decimal | None, str]:
        """`there` is the forecast of the same machine on demand."""
        place = Place(self.place.machine, ON_DEMAND)
        usd = self.usd_of(there, place)
        return usd, "the same machine on demand" if usd is not None else "no price or no pace"

    def unspeculated(self, chosen: Forecast | None) -> tuple[Decimal | None, str]:
        if self.job.model.speculative.method == "none":
            return self.usd_of(chosen, self.place), "the job does not speculate"
        alike = [run for run in self.runs if answers_alike(run.job, self.job)]
        plain = [run for run in alike if run.speculative == "none"]
        found = self._as_these(plain)
        if found is not None:
            return found, f"{len(plain)} earlier runs without"
        gain, why = self._gain(alike)
        slower = None if gain is None else self.slowed(gain)
        return self.usd_of(slower, self.place), why

    def _gain(self, alike: Sequence[EarlierRun]) -> tuple[float | None, str]:
        """How many times as fast as without drafts, and who says so."""
        if self.generated is not None and self.generated.gain:
            gain = self.generated.gain
            return gain, f"a sample was answered {gain:.2f} times as fast as without"
        models = [run.manifest["model"] for run in alike]
        models += [] if self.tuned is None else [self.tuned]
        if tuned := next(filter(None, map(gain_of, models)), None):
            return tuned, f"`spotmill tune` measured {tuned:.2f} times the speed"
        tunes = self.job.model.speculative.method == "auto"
        trial = ", nor a trial of `spotmill tune`" if tunes else ""
        return None, f"no run with `speculative: none` is known here, and no --sample{trial}"

    def unquantized(self, chosen: Forecast | None) -> tuple[Decimal | None, str]:
        if self.quantization == "none":
            return self.usd_of(chosen, self.place), "the model is not quantized"
        name = unquantized_name(self.job.model.id)
        whole = [
            run
            for run in self.runs
            if asked_alike(run.job, self.job)
            and run.job.model.quantization == "none"
            and unquantized_name(run.job.model.id) == name
        ]
        found = self._as_these(whole)
        if found is not None:
            return found, f"{len(whole)} earlier runs of {name} with quantization: none"
        return None, f"no earlier run of {name} with quantization: none on such a machine is known"

    def _as_these(self, runs: Sequence[EarlierRun]) -> Decimal | None:
        past = Past.of((run.told for run in runs), self.work.chunk_seconds)
        pace = past.pace(*self.place)
        if pace is None:
            return None
        return self.usd_of(forecast_at(self.work, self.tokens, past, pace), self.place)


def gain_of(model: Mapping[str, Any]) -> float | None:
    """How much faster than without the way of speculating was that a manifest's `model` used, when
    it was measured; None where nobody did."""
    used = model.get("speculative") or {}
    for trial in (used.get("profile") or {}).get("trials") or []:
        settings = trial.get("settings") or {}
        if settings and all(used.get(name) == value for name, value in settings.items()):
            return float(trial["gain"]) or None
    return None


_MARKS = re.compile(
    r"quantized|dynamic|w\d+a\d+|awq|gptq|gguf|bnb|nf4|[fm]p[48]|nvfp4|int[48]|[48]bit",
    re.IGNORECASE,
)


def unquantized_name(model: str) -> str:
    """The name of the model that a quantized one was made of, as hubs and people name them: the
    last part of its path, without the marks of quantization at its end."""
    parts = re.split(r"([-_.])", model.rstrip("/").rpartition("/")[2])
    while len(parts) > 1 and _MARKS.fullmatch(parts[-1]):
        parts = parts[:-2]
    return "".join(parts).casefold()
