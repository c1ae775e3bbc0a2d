"""YAML that remembers on which line each key stood, so that an error can say where to look."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml
from yaml.constructor import SafeConstructor

from pipeline.core.errors import JobInvalid

Path = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class LinedYaml:
    """`data` is what YAML makes of a file, `as_written` the same with every value as the text that
    stands there, but for null: to YAML, 1:30 is 90, and 010 is 8."""

    data: dict[str, Any]
    as_written: dict[str, Any]
    _lines: dict[Path, int]

    @staticmethod
    def parse(text: str, source: str) -> LinedYaml:
        """Raises `JobInvalid` on bad YAML, on a key given twice, or when it is no mapping."""
        lines: dict[Path, int] = {}
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            _walk(root, (), lines, source, set())
            data = None if root is None else _constructed(root, source)
        except yaml.YAMLError as problem:
            mark = getattr(problem, "problem_mark", None)
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise JobInvalid(
                "not valid YAML",
                where=source + place,
                why=getattr(problem, "problem", "") or getattr(problem, "reason", "") or "",
            ) from problem
        if root is None or not isinstance(data, dict):
            raise JobInvalid(
                "the file is empty" if data is None else "the file holds no mapping of keys",
                where=source,
                hint="see the examples in sample_data/, job.yaml and prices.yaml",
            )
        return LinedYaml(data, _as_written(root, {}), lines)

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


class _Constructor(SafeConstructor):
    """With a table of its own: lm-format-enforcer, which vLLM imports, makes text of every date for
    all who share PyYAML's."""

    yaml_constructors: ClassVar = SafeConstructor.yaml_constructors | {
        "tag:yaml.org,2002:timestamp": SafeConstructor.construct_yaml_timestamp
    }


_NO_VALUE = (ValueError, KeyError, AttributeError, OverflowError)
"""What PyYAML lets pass of what is no value of the kind it looks like, such as 2026-11-31."""


def _constructed(root: yaml.Node, source: str) -> Any:
    try:
        return _Constructor().construct_document(root)
    except _NO_VALUE:
        for node in _scalars(root, set()):
            try:
                _Constructor().construct_document(node)
            except _NO_VALUE as problem:
                raise JobInvalid(
                    f"{node.value!r} looks like a {node.tag.rpartition(':')[2]} and is none",
                    where=f"{source}, line {node.start_mark.line + 1}",
                    why=str(problem),
                    hint="correct it, or put it in quotes where it is meant as text",
                ) from problem
        raise


def _scalars(node: yaml.Node, seen: set[int]) -> Iterator[yaml.ScalarNode]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _scalars(entry, seen)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for entry in pair:
                yield from _scalars(entry, seen)


def _as_written(node: yaml.Node, made: dict[int, Any]) -> Any:
    """Of a node that was constructed, so that what it merges in stands before its own keys."""
    if id(node) in made:
        return made[id(node)]
    if isinstance(node, yaml.MappingNode):
        mapping = made[id(node)] = {}
        for key, value in node.value:
            mapping[str(key.value)] = _as_written(value, made)
    elif isinstance(node, yaml.SequenceNode):
        sequence = made[id(node)] = []
        sequence += [_as_written(entry, made) for entry in node.value]
    else:
        made[id(node)] = None if node.tag == "tag:yaml.org,2002:null" else node.value
    return made[id(node)]
