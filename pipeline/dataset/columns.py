"""Which columns a job reads and carries, checked against the dataset before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pipeline.core.errors import InputInvalid, JobInvalid
from pipeline.dataset.prompts import check_prompt_type, check_template, prompt_columns
from pipeline.job import JobSpec
from pipeline.yaml_lines import closest

OUTPUT_SCHEMA = pa.schema(
    [
        pa.field("completion", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("error", pa.string()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("cached_tokens", pa.int64()),
    ]
)
_ROW = "__spotmill_row"


@dataclass(frozen=True, slots=True)
class Columns:
    """`read` are fetched from the input, `carried` (among them) go through to the output."""

    read: tuple[str, ...]
    carried: pa.Schema


def resolve_columns(job: JobSpec, schema: pa.Schema, uri: str) -> Columns:
    """What this job takes from a dataset of this schema. Raises `JobInvalid`."""
    _unambiguous(schema, uri)
    check_template(job.input)
    for_prompt = prompt_columns(job.input)
    carried = list(job.input.columns) if job.input.columns is not None else schema.names
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
    clash = sorted(set(carried) & set(OUTPUT_SCHEMA.names))
    if clash:
        raise JobInvalid(
            f"the input's column {clash[0]!r} has the name of an output column",
            where=f"input.columns, {uri}",
            hint="list the columns to carry in input.columns, without it",
        )
    check_prompt_type(job.input, schema, uri)
    if job.input.where is not None:
        # The condition may name any column, so all of them are read.
        matching_rows(schema.empty_table(), job.input.where)
        read = schema.names
    else:
        read = list(dict.fromkeys([*carried, *(n for names in needed.values() for n in names)]))
    return Columns(tuple(read), pa.schema([schema.field(name) for name in carried]))


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


def matching_rows(table: pa.Table, where: str) -> pa.Array:
    """Indices of the rows for which the SQL condition is true, ascending."""
    numbered = table.append_column(_ROW, pa.array(range(len(table)), pa.int64()))
    # The condition is only ever a filter over this table: no files, no network, no extensions.
    with duckdb.connect(config={"enable_external_access": "false"}) as database:
        database.register("rows_of_shard", numbered)
        try:
            found = database.sql(
                f'SELECT "{_ROW}" FROM rows_of_shard WHERE ({where}) ORDER BY 1'  # noqa: S608
            ).to_arrow_table()
        except duckdb.Error as problem:
            raise JobInvalid(
                "the condition does not work on this dataset",
                where="input.where",
                why=str(problem).splitlines()[0],
                hint="write it as after WHERE in SQL, for example \"lang = 'en'\"",
            ) from problem
    return found.column(0).combine_chunks()


def _unambiguous(schema: pa.Schema, uri: str) -> None:
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    if twice:
        raise InputInvalid(f"two columns are named {sorted(twice)[0]!r}", where=uri)
