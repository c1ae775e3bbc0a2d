"""A run that is to be predicted, from all that is known of it: forecasts and dollars by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from statistics import NormalDist
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.core.fleet import workers_at_once
from pipeline.core.money import ON_DEMAND, SPOT
from pipeline.core.past import Past, PastRun
from pipeline.core.prediction import (
    MIDDLE,
    Forecast,
    OutputTokens,
    Work,
    forecast,
    price_variance,
    tokens_from_runs,
    tokens_from_sample,
)
from pipeline.core.sampled import CONFIDENCE
from pipeline.job_likeness import answers_alike, paced_alike
from pipeline.predicting.generating import Generated
from pipeline.predicting.history import EarlierRun
from pipeline.predicting.market import market_now
from pipeline.predicting.otherwise import Otherwise
from pipeline.predicting.places import Place, Prices, chosen_place, places, prices_of
from pipeline.predicting.rows import Counted
from pipeline.predicting.selected import Selected
from pipeline.spot.node import node_at_hand
from pipeline.spot.share import node_share

Json = dict[str, Any]
_CENT_OF_A_CENT = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a prediction rests on. `planned` rows and `shards` are the run's, of which rows are
    `selected`, if that was looked at; `counted` is why not, in words, where nobody counted prompts.
    `tuned` is what a manifest would say of the model if the run were on this machine, and
    `quantization` that of its weights, where they were looked at. `local` workers would be
    processes of this machine, and share it. The spot market is asked where somebody waits for the
    answer."""

    planned: int
    shards: int
    workers: int
    runs: Sequence[EarlierRun]
    counted: Counted | str
    selected: Selected | None = None
    generated: Generated | None = None
    tuned: Json | None = None
    quantization: str | None = None
    local: bool = True
    asks_market: bool = False

    @property
    def rows_known(self) -> bool:
        """Whether it is known, more or less, how many rows the job's condition selects."""
        return self.selected is None or self.selected.known


@dataclass(frozen=True, slots=True)
class View:
    """The run to come, seen from what is known."""

    here: JobAtHand
    evidence: Evidence
    work: Work
    alike: Past
    paced: Past
    tokens: OutputTokens | None
    prices: Prices
    chosen: Place
    chosen_because: str
    own_share: Fraction
    """What a process of this machine has of it."""

    def forecast_on(self, place: Place, slower: float = 1.0) -> Forecast | None:
        if self.tokens is None:
            return None
        generated = self.evidence.generated
        measured = (
            generated.measured.of_machine(self.own_share, self.node_share(place))
            if generated and self.is_here(place)
            else None
        )
        return forecast(self.work, self.tokens, self.paced, *place, measured, slower)

    def is_here(self, place: Place) -> bool:
        return self.prices.at_hand.instance_type == place.machine

    def node_share(self, place: Place) -> Fraction:
        """What a worker has of its machine: of this one, when workers are its processes, their part
        of what this process has; elsewhere, what workers had in the newest run there."""
        if self.is_here(place) and self.evidence.local:
            return self.own_share / self.work.workers
        return self.prices.newest_share(place) or Fraction(1)

    def worker_hours(self, found: Forecast | None, place: Place, share: float) -> float | None:
        if found is None:
            return None
        return round(found.seconds(share) / float(self.node_share(place)) / 3_600, 6)

    def usd(self, found: Forecast | None, place: Place, share: float) -> Decimal | None:
        """With what the price itself may move by, where it is a market's."""
        if found is None:
            return None
        if place.lifecycle == SPOT:
            moves = price_variance(self.paced, *place)
            found = replace(found, spread=found.spread.wider(moves))
        usd = found.usd(share, self.prices.of(place).usd_per_hour)
        return None if usd is None else usd.quantize(_CENT_OF_A_CENT, ROUND_HALF_EVEN)

    def otherwise(self) -> dict[str, tuple[Decimal | None, str]]:
        """What it would have cost in other ways, at p50, and how that is known."""
        if self.tokens is None:
            return {}
        chosen = self.forecast_on(self.chosen)
        other = Otherwise(
            self.here.job,
            self.work,
            self.tokens,
            self.evidence.runs,
            self.paced,
            self.chosen,
            self.evidence.quantization or self.here.job.model.quantization,
            self.evidence.tuned if self.is_here(self.chosen) else None,
            self.evidence.generated if self.is_here(self.chosen) else None,
            lambda slower: self.forecast_on(self.chosen, slower),
            lambda found, place: self.usd(found, place, MIDDLE),
        )
        there = self.forecast_on(Place(self.chosen.machine, ON_DEMAND))
        return {
            "on_demand": other.on_demand(there),
            "unspeculated": other.unspeculated(chosen),
            "unquantized": other.unquantized(chosen),
        }


def view_of(here: JobAtHand, evidence: Evidence) -> View:
    job, runs = here.job, evidence.runs
    told = [run.told for run in runs]
    alike = Past.of((r.told for r in runs if answers_alike(r.job, job)), job.chunks.seconds)
    paced = Past.of((r.told for r in runs if paced_alike(r.job, job)), job.chunks.seconds)
    rows, error = _rows(evidence, alike.runs)
    work = Work(rows, workers_at_once(evidence.workers, evidence.shards), job.chunks.seconds, error)
    tokens = _tokens(evidence, alike, work)
    # Asked once: where there is a cloud, its metadata service may take a while.
    at_hand = node_at_hand()
    place, because = chosen_place(
        at_hand, [*paced.runs, *told], measured=evidence.generated is not None
    )
    prices = prices_of(here, at_hand, told)
    if evidence.asks_market:
        open_ones = prices.on_market([place, *places(told, prices)])
        prices = replace(prices, market=market_now(here, open_ones))
    return View(here, evidence, work, alike, paced, tokens, prices, place, because, node_share())


def _tokens(evidence: Evidence, alike: Past, work: Work) -> OutputTokens | None:
    generated = evidence.generated
    if not evidence.rows_known:
        return None
    if generated is None:
        return tokens_from_runs(alike, work)
    return tokens_from_sample(generated.sampled, generated.counted.holding, work, alike.runs)


def _rows(evidence: Evidence, alike: Sequence[PastRun]) -> tuple[int, float]:
    """Rows to be answered, and the variance of their logarithm where they were estimated."""
    if evidence.selected is not None:
        rows_selected = evidence.selected.rows
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        return round(rows_selected.total), ((rows_selected.error or 0.0) / z) ** 2
    planned = sum(run.planned for run in alike)
    share = sum(run.rows for run in alike) / planned if planned else 1.0
    return round(evidence.planned * share), 0.0
