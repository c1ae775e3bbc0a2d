"""The FinOps Foundation's own validator, in the environment that `make focus` makes for it.

Its exit code is 0 whatever it finds, so what it prints is read, and must add up.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.house import ROOT

ENVIRONMENT = ROOT / "build" / "focus"
INSTALLED = ENVIRONMENT / ".installed"
REQUIRED = "SPOTMILL_FOCUS_REQUIRED"
"""Set where a test that is not run would pass for one that found nothing, as in CI."""
VERSION = "1.2"
# Conditions under which a column must be there and be right: all that the validator knows, but for
# commitment discounts and capacity reservations, which spotmill does not deal in.
CRITERIA = (
    "ACCOUNT_NAMING_SUPPORTED",
    "AVAILABILITY_ZONE_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "REGION_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED",
    "TAGGING_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
    "VIRTUAL_CURRENCY_SUPPORTED",
)
_SECONDS = 120
_TOTALS = re.compile(r"^Total: (\d+) \| Pass: (\d+) \| Fail: (\d+) \| Skipped: (\d+)$", re.M)
_RULE = re.compile(r"^\S+ ([A-Za-z]+-[A-Z]-\d+-[A-Z]): (PASS|FAIL|SKIPPED)\b(.*)$", re.M)


class NothingValidated(Exception):
    """The validator said nothing that could be a verdict."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Rules by how they went; those failed with the validator's reason."""

    passed: frozenset[str]
    failed: Mapping[str, str]
    skipped: frozenset[str]


def may_be_skipped(installed: Path, environment: Mapping[str, str]) -> bool:
    """Whether tests that need the validator need not be run."""
    return not installed.is_file() and not environment.get(REQUIRED)


def validate(table: Path, installed: Path = INSTALLED) -> Verdict:
    """What the validator has to say of a FOCUS table. Raises `NothingValidated`."""
    if not installed.is_file():
        raise NothingValidated("the FOCUS validator is not installed: `make focus`")
    [packages] = ENVIRONMENT.glob("lib/python3*/site-packages")
    done = subprocess.run(
        [
            str(ENVIRONMENT / "bin" / "focus-validator"),
            *(
                "--data-file",
                str(table.resolve()),
                "--validate-version",
                VERSION,
                "--block-download",
            ),
            *("--applicability-criteria", ",".join(CRITERIA)),
        ],
        # It looks for its rules below the folder that it is started in.
        cwd=packages,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    return verdict_of(done.stdout, done.stderr)


def verdict_of(printed: str, complaint: str = "") -> Verdict:
    """Raises `NothingValidated` unless the rules it tells of are as many as it counts."""
    rules = {rule: (state, words) for rule, state, words in _RULE.findall(printed)}
    states = [state for state, _ in rules.values()]
    told = [len(rules), *(states.count(state) for state in ("PASS", "FAIL", "SKIPPED"))]
    counted = _TOTALS.search(printed)
    if counted is None or [int(number) for number in counted.groups()] != told or not told[1]:
        raise NothingValidated(
            f"{told} rules in all, passed, failed and skipped, but it counts "
            f"{counted and counted[0]}\n{printed[-500:]}\n{complaint[-2000:]}"
        )
    return Verdict(
        frozenset(rule for rule, (state, _) in rules.items() if state == "PASS"),
        {rule: words.strip() for rule, (state, words) in rules.items() if state == "FAIL"},
        frozenset(rule for rule, (state, _) in rules.items() if state == "SKIPPED"),
    )
