"""What a run of a job is expected to take and cost, as one JSON document.

Nothing in it is invented: what neither an earlier run nor a sample tells is null, and says why. It
enters no books.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.core.errors import CostRefused
from pipeline.core.money import decimal_of, decimal_text
from pipeline.core.prediction import HIGH, MIDDLE, Forecast
from pipeline.core.sampled import Estimate
from pipeline.predicting.places import Place, places
from pipeline.predicting.rows import Counted
from pipeline.predicting.selected import Selected
from pipeline.predicting.view import Evidence, View, view_of

Json = dict[str, Any]
_LONGER_PROMPTS = 0.2


def outlook(here: JobAtHand, evidence: Evidence) -> Json:
    """The document. Raises `JobInvalid` for a price book that is none."""
    view = view_of(here, evidence)
    found = view.forecast_on(view.chosen)
    listed = places([run.told for run in evidence.runs], view.prices)
    fleet = view.work.workers
    every = list(dict.fromkeys([view.chosen, *listed]))
    worker_hours = {
        "p50": view.worker_hours(found, view.chosen, MIDDLE),
        "p90": view.worker_hours(found, view.chosen, HIGH),
    }
    return {
        **_rows(view),
        "workers": view.work.workers,
        "prompt_tokens": _prompt_tokens(view),
        "output_tokens": _output_tokens(view),
        "hours": {name: _of_fleet(hours, fleet) for name, hours in worker_hours.items()},
        "worker_hours": worker_hours,
        "usd": {
            "p50": decimal_text(view.usd(found, view.chosen, MIDDLE)),
            "p90": decimal_text(view.usd(found, view.chosen, HIGH)),
        },
        "chosen": {**view.chosen._asdict(), "why": view.chosen_because},
        "overhead_share": None if found is None else round(found.overhead, 4),
        "interruptions": None if found is None else round(found.interruptions, 3),
        "uncertainty": {} if found is None else {k: round(v, 4) for k, v in found.parts.items()},
        "candidates": [_candidate(view, place) for place in every],
        "would_have_cost": {
            name: {"usd": decimal_text(usd), "why": why}
            for name, (usd, why) in view.otherwise().items()
        },
        "rests_on": {
            "runs": [run.told.run_id for run in evidence.runs if run.told in view.alike.runs],
            "runs_of_this_pace": len(view.paced.runs),
            "sample_rows": evidence.generated.rows if evidence.generated else 0,
        },
        "notes": [*_notes(view, found), *_market_notes(view, every)],
    }


def _rows(view: View) -> Json:
    """`at_most` is of 95% confidence where rows were not all counted, and null where none were."""
    selected = view.evidence.selected
    most = None if selected is None else selected.rows.high
    return {
        "rows_to_answer": view.work.rows if view.evidence.rows_known else None,
        "rows_at_most": None if most is None else round(most),
    }


def _candidate(view: View, place: Place) -> Json:
    found, price = view.forecast_on(place), view.prices.of(place)
    return {
        "machine": place.machine,
        "lifecycle": place.lifecycle,
        "chosen": place == view.chosen,
        "usd_per_hour": decimal_text(price.usd_per_hour),
        "price_source": price.source,
        "node_share": str(view.node_share(place)),
        "worker_hours_p50": view.worker_hours(found, place, MIDDLE),
        "usd_p50": decimal_text(view.usd(found, place, MIDDLE)),
        "usd_p90": decimal_text(view.usd(found, place, HIGH)),
    }


def _prompt_tokens(view: View) -> Json:
    counted = view.evidence.counted
    if not view.evidence.rows_known:
        source = "unknown: nobody knows how many rows there are"
        return {"expected": None, "low": None, "high": None, "source": source}
    if isinstance(counted, Counted):
        source = (
            f"counted, all {counted.rows_read} rows"
            if counted.every_row
            else f"counted, a random sample of {counted.rows_read} rows"
        )
        return {**_interval(counted.prompt_tokens), "source": source}
    rows = sum(run.rows for run in view.alike.runs)
    if not rows:
        return {"expected": None, "low": None, "high": None, "source": f"unknown: {counted}"}
    mean = sum(run.input for run in view.alike.runs) / rows
    source = f"the mean of {len(view.alike.runs)} earlier runs; {counted}"
    return {"expected": round(mean * view.work.rows), "low": None, "high": None, "source": source}


def _interval(found: Estimate) -> Json:
    """`low` and `high` are those of 95% confidence."""
    low, high = found.low, found.high
    return {
        "expected": round(found.total),
        "low": None if low is None else round(low),
        "high": None if high is None else round(high),
    }


def _output_tokens(view: View) -> Json:
    tokens, most = view.tokens, _most_output_tokens(view)
    if tokens is None:
        known = {"p50": None, "p90": None, "a_row": None, "deviation_a_row": None, "at_most": most}
        why = "max_tokens alone: there is no earlier run, and no --sample"
        if not view.evidence.rows_known:
            why = "unknown: nobody knows how many rows there are"
        return {**known, "source": why}
    source = (
        f"{len(view.alike.runs)} earlier runs"
        if tokens.from_runs
        else f"a generated sample of {view.evidence.generated.rows} rows"
        if view.evidence.generated
        else "unknown"
    )
    return {
        "p50": _at_most(most, tokens.at(MIDDLE)),
        "p90": _at_most(most, tokens.at(HIGH)),
        "a_row": round(tokens.per_row, 2),
        "deviation_a_row": round(tokens.row_spread, 2),
        "at_most": most,
        "source": source,
    }


def _most_output_tokens(view: View) -> int | None:
    """By max_tokens; None where rows that nobody read may say something else."""
    counted, sampling = view.evidence.counted, view.here.job.sampling
    if not view.evidence.rows_known:
        return None
    if isinstance(counted, Counted):
        return round(counted.most_output_tokens.total)
    return None if "max_tokens" in sampling.columns else view.work.rows * sampling.max_tokens


def _at_most(most: int | None, tokens: float) -> int:
    return round(tokens) if most is None else min(most, round(tokens))


def _of_fleet(worker_hours: float | None, workers: int) -> float | None:
    """Until the run is done, with all of them at work to the end."""
    return None if worker_hours is None else round(worker_hours / workers, 6)


def _notes(view: View, found: Forecast | None) -> list[str]:
    """What a reader should know before believing the figures."""
    notes: list[str] = []
    counted = view.evidence.counted
    selected = view.evidence.selected
    if selected is not None and not selected.known:
        notes.append(_few_rows(selected))
    elif found is None:
        notes.append(
            "hours and cost are unknown: no earlier run of this job on such a machine tells its "
            "pace; `spotmill plan --sample 200` on one measures it"
        )
    elif view.prices.of(view.chosen).usd_per_hour is None:
        notes.append("cost is unknown: no price is known of the machine the run is going to be on")
    if found is not None and not view.paced.runs:
        notes.append("the pace is that of a minute's sample; waiting is not in it")
    if view.evidence.generated and not view.alike.runs:
        notes.append("rows that ask the same are priced as if each were generated")
    rows = sum(run.rows for run in view.alike.runs)
    if isinstance(counted, Counted) and rows and view.work.rows:
        before = sum(run.input for run in view.alike.runs) / rows
        now = counted.prompt_tokens.total / view.work.rows
        if before and abs(now / before - 1) > _LONGER_PROMPTS:
            notes.append(
                f"prompts have {now:.0f} tokens a row, {before:.0f} in earlier runs: the pace of "
                "these may not be this run's"
            )
    return notes


def _market_notes(view: View, every: Sequence[Place]) -> list[str]:
    """Whether spot prices are those of now, where one is the market's and no contract's."""
    silent = view.prices.market.silent
    if silent is None or not view.prices.on_market(every):
        return []
    return [f"spot prices are not, or not all, what the market asks now: {silent}"]


def _few_rows(selected: Selected) -> str:
    """Why nobody can tell what a run costs of a condition that matches hardly anywhere."""
    most = "?" if selected.rows.high is None else f"{selected.rows.high:,.0f}"
    return (
        f"rows, hours and cost are unknown: the condition's columns are too large to be read whole,"
        f" and of {len(selected.in_shard):,} shards that were drawn of {selected.shards:,}, "
        f"{selected.hit:,} hold rows that input.where selects, which may be {most} in all"
    )


def refuse_above(document: Json, max_usd: Decimal) -> None:
    """Raises `CostRefused` when the chosen place's p90 is above the limit, or nobody knows it."""
    high = decimal_of(document["usd"]["p90"])
    if high is None:
        raise CostRefused(
            f"nobody can tell whether the run stays below {max_usd} USD",
            where="--max-usd",
            why="; ".join(document["notes"]) or "the p90 of its cost is unknown",
            hint="give cost.prices, and `--sample 200` where no earlier run tells the pace",
        )
    if high > max_usd:
        raise CostRefused(
            f"the run costs {document['usd']['p50']} USD at p50 and {high} USD at p90, "
            f"more than {max_usd} USD",
            where="--max-usd, against the p90",
            hint="raise the limit, answer fewer rows, or lower sampling.max_tokens",
        )
