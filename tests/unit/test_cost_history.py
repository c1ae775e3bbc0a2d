"""A run beside those before it."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cost_history import closed_in_brief, compared, in_brief
from pipeline.core.cost_lines import RunBooks
from pipeline.core.cost_report import cost_report
from pipeline.core.money import Buckets, decimal_of
from pipeline.core.preemption import preempted, price_of_preemption, taken_away
from pipeline.exports.cost_rows import cost_rows
from pipeline.exports.costs import encode_costs
from pipeline.exports.reading import read_costs
from tests.unit.cost_books import SECOND, attempt, books, shard, worker
from tests.unit.exported import Closed, closed_books
from tests.unit.strategies import any_prices, bounded, known_prices


def brief(per_1k: str | None, output: int = 1000, preemption: str | None = "0") -> dict[str, Any]:
    return {
        "run_id": f"at {per_1k}",
        "started_at": "2026-11-20T00:00:00Z",
        "output_tokens": output,
        "total": per_1k,
        "per_1k_output_tokens": per_1k,
        "preemption_percent": preemption,
        "savings_percent": None,
    }


def test_a_run_is_told_in_brief() -> None:
    lived = Buckets(useful=10 * SECOND)
    only = worker("w1", "00:00:00", "01:00:00", lived)
    report = cost_report(books([only], [shard(0, [attempt(only, 1, "published", lived)])]))
    assert in_brief(report, "then") == {
        "run_id": "night",
        "started_at": "then",
        "output_tokens": 1000,
        "total": report["total"],
        "per_1k_output_tokens": "0.010000000000",
        "preemption_percent": "0.00",
        "savings_percent": "50.00",
    }


def test_changes_are_in_percent_of_then() -> None:
    now = brief("0.03", output=3000, preemption="7.50")
    found = compared(now, [brief("0.02", preemption="10.00"), brief("0.04"), brief("0.01")])
    first = found["runs"][0]
    assert first["run_id"] == "at 0.02"
    assert first["change_percent"] == {
        "per_1k_output_tokens": "50.00",
        "output_tokens": "200.00",
        "total": "50.00",
    }
    assert first["preemption_points"] == "-2.50"
    assert found["runs"][1]["change_percent"]["per_1k_output_tokens"] == "-25.00"
    assert (found["usual_per_1k_output_tokens"], found["change_percent"]) == ("0.02", "50.00")


def test_what_is_unknown_is_not_compared() -> None:
    found = compared(brief("0.03"), [brief(None, preemption=None), brief("0.02")])
    assert found["runs"][0]["change_percent"]["per_1k_output_tokens"] is None
    assert found["runs"][0]["preemption_points"] is None
    assert found["change_percent"] == "50.00", "the median of those that are known"
    alone = compared(brief(None), [])
    assert alone == {"runs": [], "usual_per_1k_output_tokens": None, "change_percent": None}


@st.composite
def nights(draw: st.DrawFn) -> tuple[RunBooks, bytes]:
    """Closed books of workers that began in one hour and left as they did; and their cost table."""
    closed: Closed = draw(closed_books(draw(st.sampled_from([known_prices(), any_prices()]))))
    for manifest in closed.manifests:
        for one in manifest["attempts"]:
            one["end"] = draw(st.sampled_from(["published", "drained", "lost"]))
            if draw(st.booleans()):
                one["portion"] = {"number": 1, "take": 1}
    lived = {}
    for row in closed.run["workers"]:
        start = datetime.fromisoformat("2026-11-20T22:00:00+00:00")
        start += timedelta(seconds=draw(st.integers(0, 3_600)))
        end = start + timedelta(microseconds=Buckets.from_seconds(row["seconds"]).total)
        row["began_at"] = start.isoformat()
        lived[row["worker_id"]] = (start.isoformat(), end.isoformat())
    rows = cost_rows("nightly", closed.run, closed.manifests)
    return RunBooks(closed.run, closed.manifests, lived, complete=True), encode_costs(rows)


@bounded
@given(nights())
def test_an_earlier_run_is_the_same_in_brief_without_its_shards(
    night: tuple[RunBooks, bytes],
) -> None:
    a_run, table = night
    report = cost_report(a_run)
    charged = read_costs(table)
    assert charged.lives == a_run.lived
    gone = taken_away(
        charged.left, {w["worker_id"]: w["state"] for w in a_run.run["workers"]}, True
    )
    assert gone == preempted(a_run)
    total = decimal_of(report["total"])
    price = price_of_preemption(gone, charged.lives, charged.lines, total)
    told = closed_in_brief(a_run.run, "then", price["percent"])
    whole = {
        "preemption_percent": report["total"],
        "savings_percent": report["on_demand"]["equivalent"],
    }
    # Lines are rounded one by one, and the table has others than the report. A share of a small
    # amount is off by as much more as it is larger than the whole.
    rounded = Decimal("0.000000000001") * len(charged.lines) * 60
    for key, value in in_brief(report, "then").items():
        if key not in whole or whole[key] is None:
            assert told[key] == value, key
        elif Decimal(whole[key]) > 100 * rounded and value is not None:
            off = Decimal("0.01") + (100 + abs(Decimal(value))) * rounded / Decimal(whole[key])
            assert abs(Decimal(told[key]) - Decimal(value)) <= off, key
