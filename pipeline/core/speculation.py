"""Which way of speculating a job is given: the fastest that answers as the model alone does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

NONE: Mapping[str, Any] = {"method": "none"}
LEAST_GAIN = 0.02
"""Less than this is noise, and a drafter takes memory that the cache could use."""
_UNTOLD_SHARE = 0.1
"""Of the answers, how many may differ without anybody being able to say why; as `verify --deep`."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A candidate's greedy answers beside those of the engine without speculation.

    `untold` part where nobody can ask which token was as good, `unjudged` were too many to ask,
    `sampled` are drawn by chance, so that only their distribution is the same.
    """

    same: int = 0
    near_ties: int = 0
    untold: int = 0
    unjudged: int = 0
    differing: int = 0
    sampled: int = 0

    @property
    def exact(self) -> bool:
        compared = self.same + self.near_ties + self.untold + self.unjudged
        return self.differing == 0 and self.untold <= _UNTOLD_SHARE * compared

    def to_json(self) -> Json:
        return {
            "same": self.same,
            "near_ties": self.near_ties,
            "untold": self.untold,
            "unjudged": self.unjudged,
            "differing": self.differing,
            "sampled": self.sampled,
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """What one candidate did on the sample.

    `ratios` are its tokens a second over those without drafts, pair by pair. `problem` says why it
    could not be measured.
    """

    settings: Mapping[str, Any]
    ratios: tuple[float, ...] = ()
    tokens_per_second: float = 0.0
    decoded: int = 0
    draft_proposed: int = 0
    draft_accepted: int = 0
    agreement: Agreement = Agreement()
    problem: str | None = None

    @property
    def gain(self) -> float:
        """The median ratio; 0 when there is none."""
        return median(self.ratios) if self.ratios else 0.0

    @property
    def tokens_a_step(self) -> float | None:
        """What a row got in a step of the engine: 1, and the drafts that were accepted."""
        return tokens_a_step(self.decoded, self.draft_accepted)

    @property
    def acceptance(self) -> float | None:
        return self.draft_accepted / self.draft_proposed if self.draft_proposed else None

    def to_json(self) -> Json:
        return {
            "settings": dict(self.settings),
            "gain": round(self.gain, 4),
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "tokens_per_second": round(self.tokens_per_second, 1),
            "decoded": self.decoded,
            "draft_proposed": self.draft_proposed,
            "draft_accepted": self.draft_accepted,
            "acceptance": None if self.acceptance is None else round(self.acceptance, 4),
            "exact": self.problem is None and self.agreement.exact,
            "agreement": self.agreement.to_json(),
            "problem": self.problem,
        }


def tokens_a_step(decoded: int, accepted: int) -> float | None:
    """Of rows with so many tokens, so many of which were accepted drafts; None before the first."""
    return decoded / (decoded - accepted) if decoded > accepted >= 0 else None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the chosen candidate did when it was measured."""

    gain: float
    tokens_a_step: float

    def gain_now(self, decoded: int, accepted: int) -> float | None:
        """What it gains on rows like these, if a step takes as long as it did: drafts cost the same
        and bring less. None where nothing can be said yet."""
        now = tokens_a_step(decoded, accepted)
        return None if now is None else self.gain * now / self.tokens_a_step


def is_worth_reloading(gain: float, seconds_left: float, load_seconds: float) -> bool:
    """Whether loading the engine anew without drafts is paid back, twice over, by the work left;
    `gain` is the present speed over that without drafts, below 1 where they lose."""
    return gain < 1 - LEAST_GAIN and seconds_left * (1 - gain) > 2 * load_seconds


@dataclass(frozen=True, slots=True)
class Choice:
    """`settings` as in a job's `model.speculative`, and the reason in words."""

    settings: Mapping[str, Any]
    why: str


def choose(trials: Sequence[Trial], least_gain: float = LEAST_GAIN) -> Choice:
    """The fastest exact candidate that gains at least `least_gain`; without one, none."""
    measured = [trial for trial in trials if trial.problem is None]
    exact = [trial for trial in measured if trial.agreement.exact]
    if not exact:
        failed = len(trials) - len(measured)
        return Choice(
            NONE,
            f"no candidate is exact: {len(measured)} give other answers, "
            f"{failed} could not be measured",
        )
    best = max(exact, key=lambda trial: trial.gain)
    if best.gain < 1 + least_gain:
        return Choice(
            NONE,
            f"the fastest exact candidate, {best.settings['method']}, gains "
            f"{best.gain - 1:+.1%}, and {least_gain:.0%} is the least that is taken",
        )
    return Choice(
        best.settings,
        f"{best.settings['method']} gains {best.gain - 1:+.1%}, more than any other of "
        f"{len(exact)} exact candidates",
    )
