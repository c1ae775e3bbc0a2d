"""One tree of errors: each says what, where, why and what to do, and has its exit code."""

from __future__ import annotations

import pytest

from pipeline.core import errors
from pipeline.core.errors import SpotmillError, without_secrets

EXIT_CODES = {
    "JobInvalid": 2,
    "RunConflict": 2,
    "RunMissing": 2,
    "EngineRefused": 2,
    "BudgetReached": 4,
    "CostRefused": 4,
    "Interrupted": 75,
}


def tree(root: type[SpotmillError]) -> list[type[SpotmillError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in tree(child))]


def test_every_error_of_ours_is_in_the_tree() -> None:
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {kind for kind in defined if issubclass(kind, Exception)} <= set(tree(SpotmillError))


@pytest.mark.parametrize("kind", tree(SpotmillError))
def test_exit_codes_are_those_of_the_design(kind: type[SpotmillError]) -> None:
    assert kind.exit_code == EXIT_CODES.get(kind.__name__, 1)


@pytest.mark.parametrize("kind", tree(SpotmillError))
def test_an_error_says_what_where_why_and_what_to_do(kind: type[SpotmillError]) -> None:
    problem = kind("it broke", where="job.yaml, line 3", why="no reason", hint="mend it")
    assert str(problem) == "job.yaml, line 3: it broke\n  why: no reason\n  what to do: mend it"
    assert str(kind("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no route to http://host:4318/v1/metrics", "no route to http://host:4318/v1/metrics"),
        ("https://me:hush/1@host/a is away", "https://host/a is away"),
        ("Max retries with url: /v1/metrics?key=hush&a=b (Caused by", None),
        ("<a href='http://h/p#hush'> 'https://h/?hush'", None),
        ("is it there? #4 of /tmp/x", "is it there? #4 of /tmp/x"),
    ],
)
def test_what_is_said_holds_no_secret_of_a_url(said: str, shown: str | None) -> None:
    found = without_secrets(said)
    assert "hush" not in found
    assert shown in (None, found)
