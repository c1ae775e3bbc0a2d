"""`focus.parquet` before the FinOps Foundation's own validator.

It lets values pass that no enumeration has, and costs that are no price times quantity: those are
held by `tests/unit/test_focus_table.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.rows import TokenCounts
from pipeline.exports.cost_rows import CostRow
from pipeline.exports.focus import encode_focus
from tests.e2e.focus_validator import (
    INSTALLED,
    REQUIRED,
    NothingValidated,
    may_be_skipped,
    validate,
    verdict_of,
)
from tests.e2e.house import ROOT
from tests.unit.exported import AZURE_VM, cost_row

installed = pytest.mark.skipif(
    may_be_skipped(INSTALLED, os.environ),
    reason="the FOCUS validator is not installed: `make focus`, which needs a Python 3.12",
)

FALSE_POSITIVES = {
    "InvoiceId-C-005-C": (
        "Asks for an InvoiceId of charges that are on an invoice, and no rule can tell which are: "
        "the validator asks it of every row. Its opposite, C-004 (null where there is no invoice), "
        "passes on the same rows, so does C-003 (one of both holds): nothing could satisfy both."
    ),
}


def charges() -> list[CostRow]:
    """Whatever a table may hold: each lifecycle, each cloud, rests, several prices, rounding."""
    zones = ("us-east-1a", "us-central1-ai1a", "eastus2-1", "cellar", "unknown")
    lifecycles = ("spot", "on-demand", "unknown")
    nodes = [Node("i-1", "g6.xlarge", zone, kind) for zone in zones for kind in lifecycles]
    rows = [cost_row(node=node, shard_id=number) for number, node in enumerate(nodes)]
    rest = cost_row(shard_id=None, epoch=None, end=None, rows=0, tokens=TokenCounts(wasted=5))
    left, grain = replace(rest, buckets=Buckets(), tokens=TokenCounts()), Decimal("0.000000000001")
    third = NodePrice(Decimal("0.333333"), "a market", None)
    micros = Buckets(useful=12_345_678_901)
    odd = cost_row(price=third, buckets=micros, useful=Decimal("1.143117273240"))
    return [
        *rows,
        rest,
        replace(rest, node=Node()),
        replace(left, useful=Decimal(0), wasted=Decimal(0), overhead=-grain),
        replace(odd, wasted=Decimal(0), overhead=Decimal(0), portion=2, take=1),
        replace(rest, node=Node("host:box-7", "laptop", "desk", "on-demand")),
        replace(rest, node=Node(AZURE_VM, "Standard_NC24ads_A100_v4", "eastus2", "spot")),
        cost_row(
            started_at=datetime(2026, 12, 31, 22, tzinfo=UTC),
            ended_at=datetime(2027, 1, 1, 4, tzinfo=UTC),
        ),
    ]


@installed
def test_the_validator_finds_nothing_but_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "focus.parquet"
    path.write_bytes(encode_focus(charges()))
    verdict = validate(path)
    assert set(verdict.failed) == set(FALSE_POSITIVES), verdict.failed
    assert len(verdict.passed) >= 302, "rules it checked when this was written"
    assert {"InvoiceId-C-003-C", "InvoiceId-C-004-C"} <= verdict.passed


@installed
def test_it_finds_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "focus.parquet"
    path.write_bytes(encode_focus(charges()))
    table = pq.read_table(path)

    def put(name: str, value: object) -> None:
        nonlocal table
        place = table.schema.names.index(name)
        values = [value, *table.column(name).to_pylist()[1:]]
        kind = table.schema.field(name).type
        table = table.set_column(place, pa.field(name, kind), pa.array(values, kind))

    put("EffectiveCost", None)
    put("Tags", "no JSON")
    put("BillingCurrency", "Talers")
    put("PricingUnit", None)
    put("ConsumedUnit", None)
    table = table.drop_columns(["ServiceName"])
    pq.write_table(table, path)
    failed = validate(path).failed.keys() - FALSE_POSITIVES.keys()
    wrong = ("EffectiveCost", "Tags", "BillingCurrency", "PricingUnit", "ConsumedUnit")
    for column in wrong:
        assert any(rule.startswith(f"{column}-") for rule in failed), (column, sorted(failed))
    assert any(rule.startswith("CostAndUsage-D-") for rule in failed), "a column is missing"


@installed
def test_an_unknown_price_does_not_pass_for_a_known_one(tmp_path: Path) -> None:
    path = tmp_path / "focus.parquet"
    unknown = replace(
        cost_row(price=NodePrice(None, "unknown")), useful=None, wasted=None, overhead=None
    )
    path.write_bytes(encode_focus([*charges(), unknown]))
    failed = validate(path).failed
    assert "EffectiveCost-C-003-M" in failed, sorted(failed)


def test_ci_does_not_pass_for_want_of_the_validator(tmp_path: Path) -> None:
    nowhere = tmp_path / ".installed"
    assert f"export {REQUIRED}=1\n" in (ROOT / ".ci/run").read_text()
    assert may_be_skipped(nowhere, {})
    assert not may_be_skipped(nowhere, {REQUIRED: "1"})
    with pytest.raises(NothingValidated, match="make focus"):
        validate(tmp_path / "focus.parquet", nowhere)


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 2)])
def test_make_says_whether_it_could_install_it(tmp_path: Path, required: str, code: int) -> None:
    """On a machine that has no Python 3.12."""
    make = shutil.which("make")
    assert make is not None
    command = [make, "focus", f"FOCUS={tmp_path / 'focus'}", "FOCUS_PYTHON=no-such-python"]
    environment = {**os.environ, "PYENV_ROOT": str(tmp_path), REQUIRED: required}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "no Python 3.12" in done.stdout


PRINTED = """
=== Validation Results ===
Total: 3 | Pass: 1 | Fail: 1 | Skipped: 1
⏭️ AvailabilityZone-C-001-M: SKIPPED  (violations=0, reason=rule not applicable)
✅ BilledCost-C-001-M: PASS  (violations=0, 7.6ms)
❌ InvoiceId-C-005-C: FAIL  (violations=12, msg=InvoiceId MUST NOT be NULL., 10.7ms)

--- Failures ---
- InvoiceId-C-005-C: violations=12; InvoiceId MUST NOT be NULL.
  MustSatisfy: InvoiceId MUST NOT be null when the charge is associated with an invoice.
"""


def test_a_verdict_is_read_from_what_is_printed() -> None:
    verdict = verdict_of(PRINTED)
    assert verdict.passed == {"BilledCost-C-001-M"}
    assert verdict.skipped == {"AvailabilityZone-C-001-M"}
    assert list(verdict.failed) == ["InvoiceId-C-005-C"]
    assert "MUST NOT be NULL" in verdict.failed["InvoiceId-C-005-C"]


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Traceback (most recent call last):",
        PRINTED.replace("Fail: 1", "Fail: 2"),
        PRINTED.replace("InvoiceId-C-005-C: FAIL", "InvoiceId-C-005-C: GAVE UP"),
        "Total: 0 | Pass: 0 | Fail: 0 | Skipped: 0",
    ],
    ids=["silent", "broken", "miscounted", "another word", "nothing checked"],
)
def test_what_is_no_verdict_is_not_taken_for_one(printed: str) -> None:
    with pytest.raises(NothingValidated):
        verdict_of(printed)
