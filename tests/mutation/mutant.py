"""A bug on order: one piece of the library's source, and what a tired engineer made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

ROOT = Path(__file__).resolve().parents[2]

Needs: TypeAlias = Literal["nothing", "a failing store", "retries", "poison", "strikes unsaved"]
World: TypeAlias = Literal["nights", "budgets"]


class Rotten(Exception):
    """The source that a mutant changes is not there any more, or there more than once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`text` stands exactly once in `file`, and is replaced by `by`; `helpers` are put at its end.

    `breaks` says what comes of it where the bug ships. Only in nights with what it `needs` does the
    changed code run, or differ: the others are as good as they are without it, and not lived. Its
    `world` are the usual nights, or those with a budget.
    """

    name: str
    breaks: str
    file: str
    text: str
    by: str
    helpers: str = ""
    needs: Needs = "nothing"
    world: World = "nights"

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """The whole mutated file. Raises `Rotten`."""
        original = (ROOT / self.file).read_text(encoding="utf-8")
        if (found := original.count(self.text)) != 1:
            raise Rotten(
                f"mutant {self.name}: its text stands {found} times in {self.file}, not once; "
                "the code has changed, so plant the same bug in what it is now"
            )
        return original.replace(self.text, self.by) + self.helpers
