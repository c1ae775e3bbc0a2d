"""From a row's cells to a prompt. What cannot be one is rejected, that row alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import pyarrow as pa
from jinja2 import meta
from jinja2.sandbox import SandboxedEnvironment

from pipeline.core.errors import JobInvalid, RowRejected
from pipeline.core.rows import ChatPrompt, Message, Prompt, TextPrompt
from pipeline.job import InputSpec

Cells = Mapping[str, Any]
PromptMaker = Callable[[Cells], Prompt]


def prompt_columns(spec: InputSpec) -> list[str]:
    """The columns a prompt is made of, in a fixed order."""
    if spec.template is not None:
        tree = _environment().parse(spec.template)
        return sorted(meta.find_undeclared_variables(tree))
    column = spec.prompt if spec.prompt is not None else spec.messages
    assert column is not None  # noqa: S101 - InputSpec holds exactly one
    return [column]


def check_template(spec: InputSpec) -> None:
    """Raises `JobInvalid` with the line inside the template."""
    if spec.template is None:
        return
    try:
        # Compiled, not only parsed: that finds unknown filters and tests.
        _environment().from_string(spec.template)
    except jinja2.TemplateSyntaxError as problem:
        raise JobInvalid(
            "the template is no valid Jinja",
            where=f"input.template, line {problem.lineno}",
            why=problem.message or "",
        ) from problem


def check_prompt_type(spec: InputSpec, schema: pa.Schema, uri: str) -> None:
    """Raises `JobInvalid` when the column's type can never be a prompt."""
    if spec.prompt is not None and not _is_text(schema.field(spec.prompt).type):
        raise JobInvalid(
            f"column {spec.prompt!r} is {schema.field(spec.prompt).type}, not text",
            where=f"input.prompt, {uri}",
            hint=f"name a string column, or write template: '{{{{ {spec.prompt} }}}}'",
        )
    if spec.messages is not None:
        kind = schema.field(spec.messages).type
        if not (_is_text(kind) or _is_message_list(kind)):
            raise JobInvalid(
                f"column {spec.messages!r} is {kind}, not a list of messages",
                where=f"input.messages, {uri}",
                hint="a list of structs with role and content, or the same as JSON text",
            )


def prompt_maker(spec: InputSpec) -> PromptMaker:
    """Cells of `prompt_columns` to a prompt; the returned function raises `RowRejected`."""
    if spec.prompt is not None:
        column = spec.prompt
        return lambda cells: _text_prompt(cells[column], column)
    if spec.messages is not None:
        column = spec.messages
        return lambda cells: _chat_prompt(cells[column], column)
    template = _environment().from_string(spec.template or "")

    def render(cells: Cells) -> Prompt:
        try:
            return _text_prompt(template.render(cells), "the rendered template")
        except RowRejected:
            raise
        except Exception as problem:
            # A template is a program over cells of any kind: it may raise anything.
            raise RowRejected(f"the template fails on this row: {problem}") from problem

    return render


def _text_prompt(value: object, what: str) -> TextPrompt:
    if value is None:
        raise RowRejected(f"{what} is null")
    if not isinstance(value, str):
        raise RowRejected(f"{what} is {type(value).__name__}, not text")
    if not value.strip():
        raise RowRejected(f"{what} is empty")
    return TextPrompt(value)


def _chat_prompt(value: object, column: str) -> ChatPrompt:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as problem:
            raise RowRejected(f"{column} is not JSON: {problem}") from problem
    if value is None:
        raise RowRejected(f"{column} is null")
    if not isinstance(value, list) or not value:
        raise RowRejected(f"{column} holds no messages")
    return ChatPrompt(tuple(_message(entry, column, i) for i, entry in enumerate(value)))


def _message(entry: object, column: str, index: int) -> Message:
    if not isinstance(entry, dict):
        raise RowRejected(f"{column}[{index}] is no message of role and content")
    role, content = entry.get("role"), entry.get("content")
    if not isinstance(role, str) or not role:
        raise RowRejected(f"{column}[{index}] has no role")
    if not isinstance(content, str):
        raise RowRejected(f"{column}[{index}] has no text content")
    return {"role": role, "content": content}


def _environment() -> SandboxedEnvironment:
    # Prompts are plain text for a model, not HTML: escaping would change them.
    return SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=_no_null,
        autoescape=False,
        keep_trailing_newline=True,
    )


def _no_null(value: object) -> object:
    if value is None:
        raise RowRejected("the template prints a null")
    return value


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_message_list(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    entry = kind.value_type
    return pa.types.is_struct(entry) and {"role", "content"} <= {field.name for field in entry}
