"""Which columns a job reads and carries, checked against the dataset before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import InputInvalid, JobInvalid
from pipeline.dataset.carriers import carrier_schema
from pipeline.dataset.outputs import ROW_KEY, output_schema
from pipeline.dataset.prompts import check_prompt_type, check_template, prompt_columns
from pipeline.job import JobSpec
from pipeline.yaml_lines import closest

_ROW = "__spotmill_row"
# DuckDB reads these words as functions when no column is called so.
_FICKLE_WORDS = frozenset(
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)


@dataclass(frozen=True, slots=True)
class Columns:
    """`read` are fetched from the input: among them what `where` asks for, and what is `carried`
    through to the output."""

    read: tuple[str, ...]
    asked: tuple[str, ...]
    carried: pa.Schema


def resolve_columns(job: JobSpec, schema: pa.Schema, uri: str) -> Columns:
    """What this job takes from a dataset of this schema. Raises `JobInvalid`."""
    _unambiguous(schema, uri)
    check_template(job.input)
    for_prompt = prompt_columns(job.input)
    carried = list(job.input.columns) if job.input.columns is not None else schema.names
    if job.shards.order == "prefix" and ROW_KEY in schema.names and ROW_KEY not in carried:
        # The schema is that of an ordered copy.
        carried.append(ROW_KEY)
    needed = {
        "input.prompt"
        if job.input.prompt
        else "input.messages"
        if job.input.messages
        else "input.template": for_prompt,
        "input.columns": carried,
        "sampling.columns": list(job.sampling.columns.values()),
    }
    for where, names in needed.items():
        for name in names:
            if name not in schema.names:
                raise JobInvalid(
                    f"no column {name!r}{closest(name, schema.names)}", where=f"{where}, {uri}"
                )
    clash = sorted(set(carried) & set(output_schema(job.sampling).names))
    if clash:
        raise JobInvalid(
            f"the input's column {clash[0]!r} has the name of an output column",
            where=f"input.columns, {uri}",
            hint="list the columns to carry in input.columns, without it",
        )
    check_prompt_type(job.input, schema, uri)
    read = list(dict.fromkeys([*carried, *(n for names in needed.values() for n in names)]))
    asked: list[str] = []
    if job.input.where is not None:
        asked = columns_of(job.input.where, schema)
        matching_rows(schema.empty_table().select(asked), job.input.where)
        read = list(dict.fromkeys([*read, *asked]))
    # A table without any column would have lost its number of rows.
    read = read or schema.names[:1]
    return Columns(tuple(read), tuple(asked), pa.schema([schema.field(n) for n in carried]))


def copied_columns(job: JobSpec, schema: pa.Schema, uri: str) -> Columns:
    """What a copy in another order takes from the dataset itself. Raises `JobInvalid`.

    `resolve_columns` then finds the same in the copy, and the rows' numbers beside.
    """
    shards = job.shards.model_copy(update={"order": "input"})
    columns = resolve_columns(job.model_copy(update={"shards": shards}), schema, uri)
    if ROW_KEY in columns.read:
        raise JobInvalid(
            f"the input has a column {ROW_KEY!r}, which order: prefix keeps rows' numbers in",
            where=f"shards.order, {uri}",
            hint="list the columns to carry in input.columns, without it, or rename it",
        )
    if job.input.where is not None and looks_beyond_its_row(job.input.where):
        raise JobInvalid(
            "a condition with a subquery chooses other rows in other shards",
            where="input.where",
            hint="write it without SELECT, or plan with order: input",
        )
    carrier_schema(pa.schema([schema.field(name) for name in columns.read]))
    return columns


def check_same(schema: pa.Schema, columns: Columns, first: pa.Schema, uri: str) -> None:
    """Every file must agree with the first on what is read. Raises `InputInvalid`."""
    _unambiguous(schema, uri)
    for name in columns.read:
        expected = first.field(name).type
        if name not in schema.names:
            raise InputInvalid(f"column {name!r} is missing, other files have it", where=uri)
        if schema.field(name).type != expected:
            raise InputInvalid(
                f"column {name!r} is {schema.field(name).type}, in the first file {expected}",
                where=uri,
                hint="write the files with one schema, or leave the column out of input.columns",
            )


def columns_of(where: str, schema: pa.Schema) -> list[str]:
    """The dataset's columns that an SQL condition reads. Raises `JobInvalid`.

    Functions that answer differently another time are refused: a successor reads the shard again,
    and a row's index must mean the same row.
    """
    if not where.strip():
        raise _unworkable("it is empty")
    with sandbox() as database:
        tree = _parsed(database, where)
        fickle = {
            name
            for (name,) in database.execute(
                "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> "
                "'CONSISTENT'"
            ).fetchall()
        }
    named: set[str] = set()
    whole = False
    for node in _nodes(tree):
        if node.get("class") == "FUNCTION" and node["function_name"].lower() in fickle:
            raise _unworkable(f"{node['function_name']}() answers differently every time")
        if node.get("sample"):
            raise _unworkable("a sample is another one every time")
        if node.get("class") == "COLUMN_REF":
            named.update(name.lower() for name in node["column_names"])
        whole = whole or node.get("class") == "STAR" or node.get("type") == "BASE_TABLE"
    if named & _FICKLE_WORDS - {name.lower() for name in schema.names}:
        raise _unworkable("the present time is another one every time")
    return [name for name in schema.names if whole or name.lower() in named]


@lru_cache(16)
def looks_beyond_its_row(where: str) -> bool:
    """Whether a condition may depend on other rows of the shard than the one it is asked of."""
    with sandbox() as database:
        return any(node.get("class") == "SUBQUERY" for node in _nodes(_parsed(database, where)))


@lru_cache(16)
def depends_on_cells_alone(where: str) -> bool:
    """Whether a condition is the same for like cells, wherever in a shard their row is."""
    with sandbox() as database:
        nodes = list(_nodes(_parsed(database, where)))
    named = {name.lower() for node in nodes for name in node.get("column_names", ())}
    kinds = {node.get("class") for node in nodes}
    return not kinds & {"SUBQUERY", "STAR"} and _ROW not in named


def _parsed(database: duckdb.DuckDBPyConnection, where: str) -> object:
    [[text]] = database.execute(
        "SELECT json_serialize_sql(?)", [f"SELECT 1 WHERE (\n{where}\n)"]
    ).fetchall()
    tree = json.loads(text)
    if tree["error"]:
        raise _unworkable(tree.get("error_message", ""))
    return tree["statements"]


@contextmanager
def sandbox() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of nothing but what is handed to it, that answers alike on every machine."""
    # The condition is only ever a filter over a table: no files, no network, no extensions.
    with duckdb.connect(config={"enable_external_access": "false"}) as database:
        # Its default is the machine's, so that another worker would choose other rows.
        database.execute("SET TimeZone = 'UTC'")
        yield database


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from _nodes(branch)


def _unworkable(why: str) -> JobInvalid:
    return JobInvalid(
        "the condition does not work on this dataset",
        where="input.where",
        why=why,
        hint="write it as after WHERE in SQL, for example \"lang = 'en'\"",
    )


def matching_rows(table: pa.Table, where: str) -> pa.Array:
    """Indices of the rows for which the SQL condition is true, ascending."""
    with condition(where) as matching:
        return matching(table, 0)


@contextmanager
def condition(where: str) -> Iterator[Callable[[pa.Table, int], pa.Array]]:
    """`matching_rows` for table after table; the second argument is the first row's number."""
    with sandbox() as database:
        yield lambda table, first: _matching(database, table, where, first)


def _matching(
    database: duckdb.DuckDBPyConnection, table: pa.Table, where: str, first: int
) -> pa.Array:
    # A condition may see this column too, so it numbers the shard's rows and not the table's.
    numbers = pa.array(range(first, first + len(table)), pa.int64())
    try:
        database.register("rows_of_shard", table.append_column(_ROW, numbers))
        found = database.sql(
            f'SELECT "{_ROW}" FROM rows_of_shard WHERE (\n{where}\n) ORDER BY 1'  # noqa: S608
        ).to_arrow_table()
    except duckdb.Error as problem:
        raise _unworkable(str(problem).splitlines()[0]) from problem
    return pc.subtract(found.column(0).combine_chunks(), first)


def _unambiguous(schema: pa.Schema, uri: str) -> None:
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    if twice:
        raise InputInvalid(f"two columns are named {sorted(twice)[0]!r}", where=uri)
