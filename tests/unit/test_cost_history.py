"""A run beside those before it."""

from __future__ import annotations

from typing import Any

from pipeline.core.cost_history import compared, in_brief
from pipeline.core.cost_report import cost_report
from pipeline.core.money import Buckets
from tests.unit.cost_books import SECOND, attempt, books, shard, worker


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
