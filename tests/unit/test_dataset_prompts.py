"""One bad row is that row's error, whatever is in it; its neighbours have their prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.datasets import job_over, messages_or_error, prompts, text_or_error, written

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("cell", "why"),
    [(None, "q is null"), ("", "q is empty"), ("   ", "q is empty"), ("\n\t\u00a0", "q is empty")],
)
def test_an_empty_prompt_is_that_rows_error(tmp_path: Path, cell: str | None, why: str) -> None:
    path = written(tmp_path / "a.parquet", {"q": pa.array(["before", cell, "after"], pa.string())})
    assert text_or_error(job_over(path)) == ["before", f"! {why}", "after"]


def test_a_prompt_goes_to_the_model_as_it_is(tmp_path: Path) -> None:
    odd = ["  spaces  ", "{{ 7 * 7 }}", "<b>&amp;</b>", "a\r\nb\n", "\u202e\U0001f600\x00"]
    path = written(tmp_path / "a.parquet", {"q": odd})
    assert prompts(job_over(path)) == odd
    assert prompts(job_over(path, template="{{ q }}")) == odd


MESSAGES = [
    (json.dumps([USER]), None),
    (json.dumps([{"role": "system", "content": "s"}, USER]), None),
    (json.dumps([{**USER, "name": "n"}]), None),
    (json.dumps([{"role": "user", "content": ""}]), None),
    (None, "m is null"),
    ("null", "m is null"),
    ("", "m is not JSON"),
    ("[{", "m is not JSON"),
    ("[" * 100_000, "m is not JSON"),
    ("[]", "m holds no messages"),
    ("{}", "m holds no messages"),
    ('"hi"', "m holds no messages"),
    ("[1]", "m[0] is no message"),
    (json.dumps([USER, {"content": "x"}]), "m[1] has no role"),
    (json.dumps([{"role": "", "content": "x"}]), "m[0] has no role"),
    (json.dumps([{"role": "user", "content": None}]), "m[0] has no text content"),
    (json.dumps([{"role": "user", "content": [{"text": "x"}]}]), "m[0] has no text content"),
]


@pytest.mark.parametrize(("cell", "why"), MESSAGES, ids=range(len(MESSAGES)))
def test_messages_as_json_text(tmp_path: Path, cell: str | None, why: str | None) -> None:
    good = json.dumps([USER])
    path = written(tmp_path / "a.parquet", {"m": pa.array([good, cell, good], pa.string())})
    before, found, after = messages_or_error(job_over(path, messages="m"))
    assert before == after == (USER,)
    if why is None:
        assert cell is not None
        sent = [{"role": m["role"], "content": m["content"]} for m in json.loads(cell)]
        assert found == tuple(sent)
    else:
        assert isinstance(found, str)
        assert found.startswith(why)


@pytest.mark.parametrize("large", [False, True])
def test_messages_as_structs(tmp_path: Path, large: bool) -> None:
    entry = pa.struct([("role", pa.string()), ("content", pa.string()), ("extra", pa.int64())])
    kind = pa.large_list(entry) if large else pa.list_(entry)
    cells = [[USER], None, [], [USER, None], [{"role": "user"}], [{"content": "x"}], [USER, USER]]
    path = written(tmp_path / "a.parquet", {"m": pa.array(cells, kind)})
    assert messages_or_error(job_over(path, messages="m")) == [
        (USER,),
        "m is null",
        "m holds no messages",
        "m[1] is no message of role and content",
        "m[0] has no text content",
        "m[0] has no role",
        (USER, USER),
    ]


def rendered(tmp_path: Path, template: str, **columns: object) -> list[str]:
    path = written(tmp_path / "a.parquet", columns)
    return text_or_error(job_over(path, template=template))


def test_a_template_prints_cells_of_any_type(tmp_path: Path) -> None:
    template = "{{ n }} {{ x }} {{ s.a }} {{ l | join('+') }} {{ b }}\n"
    found = rendered(tmp_path, template, n=[1], x=[0.5], s=[{"a": "z"}], l=[["p", "q"]], b=[True])
    assert found == ["1 0.5 z p+q True\n"]


def test_a_template_that_prints_a_null_is_that_rows_error(tmp_path: Path) -> None:
    found = rendered(tmp_path, "Say {{ a }}", a=["x", None, "y"])
    assert found == ["Say x", "! the template prints a null", "Say y"]
    guarded = rendered(
        tmp_path, "Say {{ a or 'nothing' }}{% if a is none %}!{% endif %}", a=[None, "y"]
    )
    assert guarded == ["Say nothing!", "Say y"]


def test_a_template_that_prints_nothing_is_that_rows_error(tmp_path: Path) -> None:
    found = rendered(tmp_path, "{% if a %}{{ a }}{% endif %}", a=["x", "", "y"])
    assert found == ["x", "! the rendered template is empty", "y"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ s.nothing }}",
        "{{ s.a.nothing }}",
        "{{ 1 // (s.n - 2) }}",
        "{{ s.a + s.n }}",
        "{{ [1][s.n] }}",
        "{{ s.a | dictsort }}",
        "{{ s.a | sum }}",
        "{{ range(10 ** (s.n * 5)) | length }}",
        "{{ s.a.encode('ascii') }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{% include s.a %}",
    ],
)
def test_a_template_that_fails_on_a_row_is_that_rows_error(tmp_path: Path, template: str) -> None:
    [found] = rendered(tmp_path, template, s=[{"a": "ä", "n": 2}])
    assert found.startswith("! the template fails on this row: ")


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ a.__init__.__globals__ }}",
        "{{ a.format.__self__.__class__ }}",
        "{{ ''['__cl' ~ 'ass__'] }}",
        "{{ '{0.__class__}'.format(a) }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(tmp_path: Path, attack: str) -> None:
    [found] = rendered(tmp_path, attack + "{{ a }}", a=["x"])
    assert found.startswith("! the template fails on this row: ")


def test_what_a_row_says_is_never_run(tmp_path: Path) -> None:
    evil = "{{ ''.__class__ }}{% for x in range(9) %}x{% endfor %}"
    assert rendered(tmp_path, "Say {{ a }}", a=[evil]) == [f"Say {evil}"]


def not_utf8(*cells: bytes | None) -> pa.Array:
    return pa.array(cells, pa.binary()).view(pa.string())


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "dictionary"])
def test_a_cell_that_is_not_utf8_is_that_rows_error(tmp_path: Path, encoded: bool) -> None:
    cells = not_utf8(b"x", b"\xff\xfe", b"y")
    cells = cells.dictionary_encode() if encoded else cells
    path = written(tmp_path / "a.parquet", {"q": cells})
    before, broken, after = text_or_error(job_over(path))
    assert (before, after) == ("x", "y")
    assert broken.startswith("! column 'q' cannot be read: ")
    assert "\n" not in broken


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([0, 2**61], pa.timestamp("us")),
        pa.array([0, 2**61], pa.timestamp("us", tz="UTC")),
        pa.array([0, 2**30], pa.date32()),
    ],
)
def test_a_moment_beyond_pythons_is_that_rows_error(tmp_path: Path, cells: pa.Array) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x", "y"], "at": cells})
    good, broken = text_or_error(job_over(path, template="{{ q }} {{ at.year }}"))
    assert good == "x 1970"
    assert broken.startswith("! column 'at' cannot be read: ")
