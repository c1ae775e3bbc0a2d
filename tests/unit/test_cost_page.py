"""What `spotmill cost` prints for people."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from pipeline.core.cost_lines import RunBooks
from pipeline.core.cost_report import By, cost_report
from pipeline.core.money import Buckets
from pipeline.core.percent import percent
from pipeline.cost_page import MOST_ROWS, show_cost
from pipeline.showing import show
from tests.unit.cost_books import SECOND, attempt, books, shard, worker


def printed(
    capsys: pytest.CaptureFixture[str], a_run: RunBooks, by: By, as_json: bool = False
) -> str:
    document = {**cost_report(a_run, by), "earlier": {"runs": []}, "hosted": None}
    show_cost(document, as_json)
    return capsys.readouterr().out


def night(shards: int) -> RunBooks:
    one = worker("w1", "00:00:00", "01:00:00", Buckets(load=SECOND, useful=shards * SECOND))
    made = [shard(n, [attempt(one, 1, "published", Buckets(useful=SECOND))]) for n in range(shards)]
    return books([one], made)


def test_others_words_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """They were read as Rich's markup: the first ended the command, the others were gone."""
    a_run = night(3)
    tags = ("[/red] data", "[bold]search[/bold]", ":bug: [link=x]")
    for manifest, tag in zip(a_run.manifests, tags, strict=True):
        manifest["tags"] = {"Team": tag}  # type: ignore[index]
    said = printed(capsys, a_run, "tag")
    for tag in tags:
        assert f"Team {tag}" in said
    show({"error": "no [/such] thing"}, False, title="run [/x]")
    said = capsys.readouterr().out
    assert "no [/such] thing" in said
    assert "run [/x]" in said


def test_people_see_as_many_rows_as_they_may_look_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    a_run = night(3_000)
    said = printed(capsys, a_run, "shard")
    rows = [line for line in said.splitlines() if line.startswith("│") and " 1.0 │" in line]
    assert len(rows) == MOST_ROWS
    assert f"{3_001 - MOST_ROWS:,} more before the last; --json has all of them" in said
    assert "unallocated" in rows[-1], "what no shard is charged with is not left out"
    assert len(json.loads(printed(capsys, a_run, "shard", as_json=True))["rows"]) == 3_001
    assert "more before" not in printed(capsys, night(MOST_ROWS - 1), "shard")


def test_what_nobody_knows_is_a_line_that_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    a_run, words = night(1), ("beyond it, uncertain", "by wall clocks, at most")
    for amount, told in ((None, "unknown"), ("0.5", "0.500000"), ("0.000000000000", None)):
        cost = {**a_run.run["cost"], "uncertain": amount, "uncertain_until_closed": amount}
        said = printed(capsys, replace(a_run, run={**a_run.run, "cost": cost}), "shard")
        lines = [line for line in said.splitlines() if any(word in line for word in words)]
        assert [told in line for line in lines if told] == [True, True] * (told is not None)


def test_a_saving_that_rounds_to_nothing_is_no_minus(capsys: pytest.CaptureFixture[str]) -> None:
    """A cost is rounded kind by kind, and what it were on demand once: grains may differ."""
    document = {**cost_report(night(1), "shard"), "earlier": {"runs": []}, "hosted": None}
    document["on_demand"] = {"equivalent": "1", "savings": "-0.000000000001", "percent": "0.00"}
    show_cost(document, as_json=False)
    [line] = [line for line in capsys.readouterr().out.splitlines() if "saved" in line]
    assert "0.000000 (0.00%)" in line and "-" not in line
    assert str(percent(Decimal("-1E-12"), Decimal(1))) == "0.00"
