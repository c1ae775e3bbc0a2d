"""How many rows a plan speaks of: counted where they can be, and never 0 for want of looking."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import wiring
from pipeline.core.errors import CostRefused, JobInvalid
from pipeline.predicting import rows as counting
from pipeline.predicting import selected
from pipeline.predicting.outlook import refuse_above
from pipeline.predicting.selected import dice_of, selected_rows
from tests.e2e.house import questions
from tests.unit.plan_bench import Bench, bench_at

DAYS, OF_DAY = 40, 10


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A dataset of many days, a shard each."""
    bench = bench_at(tmp_path, monkeypatch)
    days = pa.array([row // OF_DAY for row in range(DAYS * OF_DAY)])
    bench.ask(questions(DAYS * OF_DAY).append_column("day", days), OF_DAY)
    monkeypatch.setattr(counting, "ALL_UP_TO", 15)
    monkeypatch.setattr(counting, "SAMPLED_ROWS", 20)
    return bench


def selecting(where: str) -> dict[str, Any]:
    return {
        "input": {"uri": "prompts/", "prompt": "question", "where": where},
        "shards": {"rows": OF_DAY},
    }


@pytest.mark.parametrize(("where", "days"), [("day = 17", 1), ("day >= 30", 10), ("day > 99", 0)])
def test_rows_in_few_shards_are_counted_one_by_one(bench: Bench, where: str, days: int) -> None:
    said = bench.plan(**selecting(where))
    assert said["rows_to_answer"] == said["rows_at_most"] == days * OF_DAY
    tokens = said["prompt_tokens"]
    texts = questions(DAYS * OF_DAY).column("question").to_pylist()
    chosen = {"day = 17": texts[170:180], "day >= 30": texts[300:], "day > 99": []}[where]
    assert tokens["low"] <= sum(map(len, chosen)) <= tokens["high"]


def test_what_is_not_looked_at_is_not_taken_for_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one", **selecting("day = 3"))
    monkeypatch.setattr(selected, "COUNTED_BYTES", 0)
    monkeypatch.setattr(selected, "LEAST_SHARDS", 12)
    for day in (0, 24):
        said = bench.plan(**selecting(f"day = {day}"))
        assert said["rows_to_answer"] is None
        assert OF_DAY <= said["rows_at_most"] < DAYS * OF_DAY
        assert said["usd"] == {"p50": None, "p90": None}
        assert said["output_tokens"]["p50"] is None
        assert "input.where" in said["notes"][0]
        with pytest.raises(CostRefused, match=r"input\.where"):
            refuse_above(said, Decimal(1_000_000))


def test_of_a_condition_that_holds_in_many_shards_rows_are_estimated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one", **selecting("id % 3 = 0"))
    monkeypatch.setattr(selected, "COUNTED_BYTES", 0)
    monkeypatch.setattr(selected, "LEAST_SHARDS", 12)
    said = bench.plan(**selecting("id % 3 = 0"))
    assert said["rows_to_answer"] == pytest.approx(DAYS * OF_DAY / 3, rel=0.1)
    assert DAYS * OF_DAY / 3 <= said["rows_at_most"] < DAYS * OF_DAY / 2
    assert Decimal(said["usd"]["p90"]) > Decimal(said["usd"]["p50"]) > 0


def test_each_dataset_has_shards_of_its_own_drawn(bench: Bench) -> None:
    first = dice_of(wiring.preview(bench.here())).random()
    assert dice_of(wiring.preview(bench.here())).random() == first
    bench.ask(questions(DAYS * OF_DAY + 1))
    assert dice_of(wiring.preview(bench.here())).random() != first


def test_all_shards_are_counted_up_to_the_bound(bench: Bench) -> None:
    here = bench.here(**selecting("day = 17"))
    found = selected_rows(here, wiring.preview(here))
    assert (found.every_shard, found.known, found.hit) == (True, True, 1)
    assert found.in_shard[17] == OF_DAY


def test_columns_that_no_prompt_is_made_of_are_not_read(bench: Bench) -> None:
    rows = DAYS * OF_DAY
    table = questions(rows).append_column("payload", pa.array(["dead weight"] * rows))
    bench.ask(table, rows)
    file = bench.place / "prompts" / "a.parquet"
    asked = {**selecting("id >= 5"), "shards": {"rows": rows}}
    before = bench.plan(**asked)
    column = pq.read_metadata(file).row_group(0).column(table.schema.names.index("payload"))
    body = bytearray(file.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    body[first : first + column.total_compressed_size] = bytes(column.total_compressed_size)
    file.write_bytes(body)
    assert bench.plan(**asked)["rows_to_answer"] == before["rows_to_answer"]


@pytest.mark.parametrize("model", ["scripted://?window=8", "/nowhere/model"])
def test_a_condition_that_a_run_refuses_a_plan_refuses(bench: Bench, model: str) -> None:
    bench.ran("one", **selecting("day = 3"))
    with pytest.raises(JobInvalid) as refused:
        bench.plan(model={"id": model}, **selecting("CAST(question AS INTEGER) > 3"))
    assert refused.value.exit_code == 2


def test_rows_are_counted_where_no_tokenizer_is(bench: Bench) -> None:
    said = bench.plan(model={"id": "/nowhere/model"}, **selecting("day = 17"))
    assert said["rows_to_answer"] == OF_DAY
    assert "tokenizer" in said["prompt_tokens"]["source"]
