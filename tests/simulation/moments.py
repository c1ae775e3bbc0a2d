"""Trying something at every moment of a worker's life."""

from __future__ import annotations

from collections.abc import Callable


def failures_of(attempts: int, attempt: Callable[[int], None]) -> dict[int, str]:
    """Which of the attempts fail, and why: one test tells all the moments that are wrong."""
    failures: dict[int, str] = {}
    for number in range(attempts):
        try:
            attempt(number)
        except Exception as problem:
            failures[number] = repr(problem)
    return failures
