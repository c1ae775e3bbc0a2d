"""YAML that remembers on which line each key stood, so that an error can say where to look."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.core.errors import JobInvalid

Path = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class LinedYaml:
    data: dict[str, Any]
    _lines: dict[Path, int]

    @staticmethod
    def parse(text: str, source: str) -> LinedYaml:
        """Raises `JobInvalid` on bad YAML, on a key given twice, or when it is no mapping."""
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            data = yaml.safe_load(text)
        except yaml.YAMLError as problem:
            mark = getattr(problem, "problem_mark", None)
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise JobInvalid(
                "not valid YAML",
                where=source + place,
                why=getattr(problem, "problem", "") or getattr(problem, "reason", "") or "",
            ) from problem
        if not isinstance(data, dict):
            raise JobInvalid(
                "the file is empty" if data is None else "the file holds no mapping of keys",
                where=source,
                hint="see sample_data/job.yaml for an example",
            )
        lines: dict[Path, int] = {}
        _walk(root, (), lines, source, set())
        return LinedYaml(data, lines)

    def line_of(self, path: Path) -> int:
        """The line of the deepest part of `path` that is in the file, counted from 1."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self._lines:
                return self._lines[path[:depth]]
        return 1


def closest(word: str, known: Sequence[str]) -> str:
    """`; did you mean ...?`, or the known words, or nothing to say."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known: {', '.join(known)}" if known else ""


def _walk(
    node: yaml.Node | None, path: Path, lines: dict[Path, int], source: str, seen: set[int]
) -> None:
    # An alias is the anchor's own node: what it holds is walked once, where it is written.
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            if here in lines:
                raise JobInvalid(
                    f"key {'.'.join(map(str, here))} is given twice",
                    where=f"{source}, line {key.start_mark.line + 1}",
                    why=f"first on line {lines[here]}",
                )
            lines[here] = key.start_mark.line + 1
            _walk(value, here, lines, source, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            lines[here] = value.start_mark.line + 1
            _walk(value, here, lines, source, seen)
