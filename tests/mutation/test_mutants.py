"""The simulator fails where it has to: every planted bug is found, and found soon."""

from __future__ import annotations

import pytest

from tests.mutation.catalogue import MUTANTS
from tests.mutation.hunt import Hunt, hunt, hunt_all
from tests.mutation.mutant import Mutant, Rotten
from tests.mutation.plant import SOUND
from tests.mutation.record import recorded

_AFTER = 20
"""Nights tried after the recorded one, for code that changed a little."""
_ANYWHERE = 400
"""Nights tried from seed 0 when seeds have come to mean other nights."""


_LONG_SECONDS = 20.0
_SELDOM = {
    name
    for number, name in enumerate(MUTANTS)
    if number % 3 or (name in recorded() and recorded()[name].seconds > _LONG_SECONDS)
}
"""All but every third, and all that took long to be found, are tried in `make nightly` alone."""


@pytest.fixture(scope="module")
def hunts(request: pytest.FixtureRequest) -> dict[str, Hunt]:
    # Those that are asked for, and no others.
    asked = {
        getattr(item, "callspec", None) and item.callspec.params.get("name")  # type: ignore[attr-defined]
        for item in request.session.items
    }
    found = {name: h.seed for name, h in recorded().items() if h.seed is not None}
    seeds = {name: seed for name, seed in found.items() if name in asked}
    tasks = [
        (name, f"{seed}-{seed + _AFTER},0-{_ANYWHERE - 1}", _AFTER + 1 + _ANYWHERE)
        for name, seed in seeds.items()
        if name in MUTANTS
    ]
    return {h.name: h for h in hunt_all(tasks, jobs=2)}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.nightly] * (name in _SELDOM)) for name in MUTANTS],
)
def test_a_planted_bug_is_found(name: str, hunts: dict[str, Hunt]) -> None:
    hint = f"`python -m tests.mutation --only {name} --record` searches for it again"
    assert name in hunts, f"never searched for: {hint}"
    assert not hunts[name].trouble, hunts[name].trouble
    assert hunts[name].found, f"no night of {hunts[name].nights} fails: {hint}"


def test_the_same_nights_are_good_ones_without_the_bugs() -> None:
    seeds = sorted({h.seed for h in recorded().values() if h.seed is not None})
    sound = hunt(SOUND, ",".join(map(str, seeds)), len(seeds))
    assert not sound.trouble, sound.trouble
    assert not sound.found, f"seed {sound.seed} fails without a mutant: {sound.sentence}"
    assert sound.nights == len(seeds)


@pytest.mark.parametrize("text", ["no such line", "import"])
def test_a_mutant_whose_code_has_changed_says_so(text: str) -> None:
    mutant = Mutant("made-up", "nothing", "pipeline/claims.py", text, "")
    with pytest.raises(Rotten, match="made-up: its text stands"):
        mutant.source()


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_a_mutant_is_sound_python_and_no_other_bug(mutant: Mutant) -> None:
    assert compile(mutant.source(), mutant.file, "exec")
    assert mutant.text != mutant.by
