"""Speculation that never hurts; measured by `benchmarks.speculation`."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import child
from benchmarks.figure import Failure, Figure, Json, Record, Target
from benchmarks.setting import Setting

_CASES = {
    "tickets": "the sample's tickets with its draft model, where speculation pays",
    "random": "random letters with n-gram and a profile that praises it, where speculation loses",
}


def measure(setting: Setting) -> Iterator[Record]:
    if not setting.sample:
        yield Failure("speculation", f"has the sample's models alone, not {setting.model}")
        return
    rows, rounds = setting.rows(300, 2_000, 6_000), setting.of_size(1, 3, 5)
    cases = [*_CASES, *setting.of_size((), (), ("zero",))]
    found = child.run(
        child.module(
            "benchmarks.speculation",
            *("--rows", str(rows), "--rounds", str(rounds), "--cases", *cases),
        ),
        child.environment(setting.device),
    ).document()
    for case, what in _CASES.items():
        yield from _figures(case, found[case], f"{what}; {rows} rows", rounds)
    if "depth_zero_to_none" in found:
        yield _spread(
            "speculation.depth-zero",
            "drafts loaded and switched off / no drafts",
            found["depth_zero_to_none"],
            "output tokens a second: what `auto` pays for being able to draft",
            rounds,
        )


def _figures(case: str, found: Json, what: str, rounds: int) -> Iterator[Record]:
    yield _spread(
        f"speculation.{case}-auto",
        f"{case}: auto / the better of always and never",
        found["auto_to_better"],
        f"output tokens a second; {what}; the better one was {found['better']}",
        rounds,
        Target(0.98),
    )
    yield _spread(
        f"speculation.{case}-always",
        f"{case}: always / never",
        found["always_to_never"],
        f"output tokens a second; {found['acceptance']:.3f} of the draft tokens accepted",
        rounds,
    )


def _spread(
    key: str, name: str, found: Json, how: str, rounds: int, target: Target | None = None
) -> Figure:
    return Figure(
        key,
        name,
        found["median"],
        how,
        low=found["lowest"],
        high=found["highest"],
        samples=rounds,
        target=target,
    )
