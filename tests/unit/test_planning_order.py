"""Shards by prefix: every row once, prefixes together, the input's order found again."""

from __future__ import annotations

import fcntl
import io
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import InputChanged, InputInvalid, JobInvalid, StoreUnavailable
from pipeline.core.rows import FinishedRow
from pipeline.core.shards import FileVersion
from pipeline.dataset import ordered_copy, prefix_order, row_stream
from pipeline.dataset.external_sort import MEMORY_VARIABLE, externally_sorted
from pipeline.dataset.files import current_version
from pipeline.dataset.footers import SharedFilesystem
from pipeline.dataset.ordered_copy import copy_difference, plan_in_order
from pipeline.dataset.outputs import ROW_KEY
from pipeline.dataset.plan_file import Plan, decode_plan, encode_plan
from pipeline.dataset.planning import input_fingerprint, plan_job, plan_problems
from pipeline.dataset.row_stream import stream_rows
from pipeline.dataset.source import ParquetSource
from pipeline.job import JobSpec, fingerprint
from tests.unit.datasets import OPTIONS, job_over, text_or_error, written

PREFIXES, EACH = 40, 50


def by_prefix(job: JobSpec) -> JobSpec:
    shards = job.shards.model_copy(update={"order": "prefix"})
    return job.model_copy(update={"shards": shards})


@dataclass
class Shelf:
    """Where a copy is kept on this disk, under names made of numbers and hashes."""

    place: Path
    names: list[str] = field(default_factory=list)

    def keep(self, number: int, digest: str, body: bytes) -> FileVersion:
        path = self.place / f"{number:05d}-{digest}.parquet"
        self.names.append(path.name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        kept = current_version(str(path), OPTIONS)
        assert kept is not None
        return kept


@dataclass
class Ordered:
    job: JobSpec
    plan: Plan
    shelf: Shelf

    def column(self, name: str) -> list[Any]:
        """A carried column in the order of the plan, as published."""
        source = ParquetSource(self.job, self.plan.schema, OPTIONS)
        cells: list[Any] = []
        for shard in self.plan.shards:
            rows = source.open(shard)
            finished = [FinishedRow(row, "a", "stop") for row in range(rows.rows)]
            with rows.part(finished, b"{}") as part:
                body = part if isinstance(part, bytes) else part.read_bytes()
            cells += pq.read_table(io.BytesIO(body))[name].to_pylist()
        return cells

    def prompts(self) -> list[str]:
        return text_or_error_of(self.job, self.plan)


def text_or_error_of(job: JobSpec, plan: Plan) -> list[str]:
    source = ParquetSource(job, plan.schema, OPTIONS)
    found = []
    for shard in plan.shards:
        rows = source.open(shard)
        for row in range(rows.rows):
            try:
                found.append(str(rows.prompt(row).text))  # type: ignore[union-attr]
            except Exception as problem:
                found.append(f"! {problem}")
    return found


def ordered(job: JobSpec, place: Path) -> Ordered:
    job, shelf = by_prefix(job), Shelf(place)
    return Ordered(job, plan_in_order(job, plan_job(job, OPTIONS), OPTIONS, shelf.keep), shelf)


@pytest.fixture
def shuffled(tmp_path: Path) -> Path:
    """Forty prefixes of fifty rows each, shuffled over five files of several row groups."""
    rows = [
        (prefix, f"Instruction {prefix:02d}. " * 5 + f"Question {row}")
        for prefix in range(PREFIXES)
        for row in range(EACH)
    ]
    random.Random(4).shuffle(rows)
    for number in range(5):
        part = rows[number * 400 : (number + 1) * 400]
        columns = {"id": [number * 400 + i for i in range(400)], "prefix": [p for p, _ in part]}
        path = tmp_path / f"in/{number}.parquet"
        written(path, columns | {"q": [text for _, text in part]}, row_group_size=150)
    return tmp_path / "in"


def test_the_rows_of_a_prefix_come_together(shuffled: Path, tmp_path: Path) -> None:
    made = ordered(job_over(shuffled, shard_rows=300), tmp_path / "copy")
    runs = [(prefix, len(list(rows))) for prefix, rows in groupby(made.column("prefix"))]
    assert sorted(runs) == [(prefix, EACH) for prefix in range(PREFIXES)]
    assert [shard.rows for shard in made.plan.shards] == [*[300] * 6, 200]
    assert sorted(made.column(ROW_KEY)) == list(range(PREFIXES * EACH))
    assert made.column("id") == made.column(ROW_KEY)


def test_the_inputs_order_is_found_again(shuffled: Path, tmp_path: Path) -> None:
    job = job_over(shuffled, shard_rows=300)
    made = ordered(job, tmp_path / "copy")
    places = dict(zip(made.column(ROW_KEY), made.prompts(), strict=True))
    assert [places[row] for row in sorted(places)] == text_or_error(job)


def test_rows_are_sorted_by_prompt_and_then_by_place(tmp_path: Path) -> None:
    questions = ["b", "a\x00", None, "a", "ä", "a", " ", "ab", "\U0001f600", "", "a"]
    job = job_over(written(tmp_path / "a.parquet", {"q": questions}, row_group_size=3))
    made = ordered(job, tmp_path / "copy")
    assert made.column(ROW_KEY) == [3, 5, 10, 1, 7, 0, 4, 8, 2, 6, 9]
    assert made.prompts()[-3:] == ["! q is null", "! q is empty", "! q is empty"]


def test_chats_are_sorted_by_what_was_said_first(tmp_path: Path) -> None:
    chats = [
        [{"role": "system", "content": "B"}, {"role": "user", "content": "x"}],
        [{"role": "system", "content": "A"}, {"role": "user", "content": "z"}],
        None,
        [{"role": "system", "content": "A"}, {"role": "user", "content": "y"}],
    ]
    path = written(tmp_path / "a.parquet", {"chat": chats})
    assert ordered(job_over(path, messages="chat"), tmp_path / "copy").column(ROW_KEY) == [
        3,
        1,
        0,
        2,
    ]


def test_a_template_is_rendered_before_rows_are_sorted(tmp_path: Path) -> None:
    columns = {"topic": ["z", "y", "z", None], "text": ["1", "2", "0", "3"], "n": [1, 2, 3, 4]}
    path = written(tmp_path / "a.parquet", columns)
    job = job_over(path, template="{{ topic }}: {{ text }}", columns=["n"])
    made = ordered(job, tmp_path / "copy")
    assert made.column(ROW_KEY) == [1, 2, 0, 3]
    assert made.prompts()[0] == "y: 2"
    assert made.plan.schema.names == ["n", "text", "topic", ROW_KEY]


def test_rows_left_out_keep_their_numbers_and_no_place(tmp_path: Path) -> None:
    columns = {"q": ["d", "c", "b", "a"] * 30, "lang": ["en", "de", "en", None] * 30}
    path = written(tmp_path / "a.parquet", columns, row_group_size=7)
    job = job_over(path, where="lang = 'en'", shard_rows=25)
    made = ordered(job, tmp_path / "copy")
    numbers = made.column(ROW_KEY)
    assert numbers == [*range(2, 120, 4), *range(0, 120, 4)]
    assert made.plan.rows == 60
    assert made.plan.copied_from is not None
    assert made.plan.copied_from.rows == 120


def test_a_condition_that_no_row_fulfils_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"]})
    with pytest.raises(InputInvalid, match="no row of the dataset"):
        ordered(job_over(path, where="q = 'y'"), tmp_path / "copy")


# The copy.


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of many files, each of one shard."""
    monkeypatch.setattr(ordered_copy, "_FILE_BYTES", 1)


@pytest.mark.usefixtures("small_files")
def test_the_same_dataset_gives_the_same_copy(shuffled: Path, tmp_path: Path) -> None:
    job = job_over(shuffled, shard_rows=300)
    first, again = ordered(job, tmp_path / "copy"), ordered(job, tmp_path / "copy")
    elsewhere = ordered(job, tmp_path / "elsewhere")
    assert len(first.shelf.names) == 7
    assert first.shelf.names == again.shelf.names == elsewhere.shelf.names
    assert encode_plan(first.plan) == encode_plan(again.plan)


@pytest.mark.usefixtures("small_files")
def test_a_copy_cut_off_in_the_middle_is_made_whole(shuffled: Path, tmp_path: Path) -> None:
    job = by_prefix(job_over(shuffled, shard_rows=300))
    shelf = Shelf(tmp_path / "copy")

    def dying(number: int, digest: str, body: bytes) -> FileVersion:
        if number == 3:
            raise KeyboardInterrupt
        return shelf.keep(number, digest, body)

    with pytest.raises(KeyboardInterrupt):
        plan_in_order(job, plan_job(job, OPTIONS), OPTIONS, dying)
    assert len(shelf.names) == 3
    made = ordered(job, shelf.place)
    assert made.shelf.names[:3] == shelf.names
    assert sorted(made.column(ROW_KEY)) == list(range(PREFIXES * EACH))
    assert not list(plan_problems(job, made.plan, input_fingerprint(made.plan), OPTIONS))


def test_shards_are_whole_whatever_row_groups_and_files_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.parquet", {"q": [f"{n:04d}" for n in range(1_000)]})
    for group_rows, file_bytes, largest in ((7, 1, 2**30), (100, 2**30, 2**30), (64, 1, 1)):
        monkeypatch.setattr(ordered_copy, "_GROUP_ROWS", group_rows)
        monkeypatch.setattr(ordered_copy, "_FILE_BYTES", file_bytes)
        monkeypatch.setattr(ordered_copy, "_LARGEST_FILE_BYTES", largest)
        made = ordered(job_over(path, shard_rows=150), tmp_path / f"copy-{group_rows}")
        rows = [shard.rows for shard in made.plan.shards]
        assert made.column(ROW_KEY) == list(range(1_000))
        # A file that is full before its shard is, ends the shard.
        expected = [64, 64, 22] * 6 + [64, 36] if largest == 1 else [*[150] * 6, 100]
        assert rows == expected


def test_an_ordered_plan_survives_its_file(shuffled: Path, tmp_path: Path) -> None:
    plan = ordered(job_over(shuffled), tmp_path / "copy").plan
    again = decode_plan(encode_plan(plan))
    assert again == plan
    assert again.schema.equals(plan.schema, check_metadata=True)
    assert input_fingerprint(again) == input_fingerprint(plan_job(job_over(shuffled), OPTIONS))


NOT_UTF8 = pa.array([b"x", b"\xff\xfe", None], pa.binary()).view(pa.string())
NUMBERS = pa.array([1, None, 2**62], pa.int64())
CELLS = [
    pa.nulls(3),
    pa.array([True, None, False]),
    pa.array([1, None, 2**64 - 1], pa.uint64()),
    pa.array([1.5, None, -0.25], pa.float16()),
    pa.array([1, None, -3], pa.decimal128(38, 10)),
    pa.array([1, None, 3], pa.int32()).view(pa.time32("ms")),
    *(
        NUMBERS.view(kind)
        for kind in (
            pa.time64("ns"),
            pa.timestamp("ns"),
            pa.timestamp("us", "UTC"),
            pa.timestamp("ns", "Europe/Berlin"),
            pa.timestamp("us", "Mars/Base"),
            pa.duration("ns"),
        )
    ),
    NOT_UTF8,
    NOT_UTF8.cast(pa.binary()),
    pa.array([b"abcd", None, b"wxyz"], pa.binary(4)),
    pa.array(["a", None, "\0"], pa.large_string()),
    pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), ["u", "v"]),
    NOT_UTF8.dictionary_encode(),
    pa.StructArray.from_arrays([NOT_UTF8, pa.array([1.0, None, 2.0])], ["text", "number"]),
    pa.array(
        [[{"a": "x", "b": [1]}], None, []],
        pa.list_(pa.struct([("a", pa.string()), ("b", pa.list_(pa.int8()))])),
    ),
    pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.timestamp("us", "UTC"))),
    pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string(), 2)),
    pa.array([[1], None, []], pa.large_list(pa.timestamp("ns"))),
]


def test_cells_come_back_as_they_were(tmp_path: Path) -> None:
    columns = {f"{number} {cells.type}": cells for number, cells in enumerate(CELLS)}
    path = written(tmp_path / "a.parquet", {"q": ["c", "a", "b"], **columns})
    made = ordered(job_over(path), tmp_path / "copy")
    [copy] = (tmp_path / "copy").iterdir()
    there, here = pq.read_table(path), pq.read_table(copy)
    order = pa.array([1, 2, 0])
    for name in columns:
        assert here.schema.field(name).type == there.schema.field(name).type
        one = decoded(there.column(name).combine_chunks()).take(order)
        assert decoded(here.column(name).combine_chunks()).equals(one), name
    assert copy_difference(made.job, made.plan, OPTIONS) is None


def decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


# The dataset changes, and stores go away.


def test_a_file_that_changed_before_it_is_copied_stops_the_plan(
    shuffled: Path, tmp_path: Path
) -> None:
    job = by_prefix(job_over(shuffled))
    plan = plan_job(job, OPTIONS)
    os.utime(shuffled / "3.parquet", (1, 1))
    with pytest.raises(InputChanged) as stopped:
        plan_in_order(job, plan, OPTIONS, Shelf(tmp_path / "copy").keep)
    assert stopped.value.where == str(shuffled / "3.parquet")
    assert not (tmp_path / "copy").exists()


def test_a_file_that_changes_while_it_is_copied_stops_the_plan(
    shuffled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = prefix_order.selected_rows

    def rewriting(*arguments: Any) -> Iterator[pa.RecordBatch]:
        yield from read(*arguments)
        os.utime(shuffled / "0.parquet", (1, 1))

    monkeypatch.setattr(ordered_copy, "selected_rows", rewriting)
    with pytest.raises(InputChanged, match="changed since the run was planned"):
        ordered(job_over(shuffled), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_rows_go_on_where_they_were_after_a_store_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.parquet", {"n": list(range(100))}, row_group_size=30)
    monkeypatch.setattr(row_stream, "_LARGEST_BATCH_ROWS", 8)
    opened = 0

    class Failing:
        """A file that breaks off after a while, twice."""

        def __init__(self, parquet: pq.ParquetFile) -> None:
            self._parquet, self.metadata = parquet, parquet.metadata

        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            self._parquet.close()

        def iter_batches(self, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
            for number, batch in enumerate(self._parquet.iter_batches(*arguments, **options)):
                if opened == 1 and number == 6:
                    raise OSError("connection reset")
                if opened == 2 and number == 1:
                    raise StoreUnavailable("away")
                yield batch

    def failing(*arguments: Any) -> Failing:
        nonlocal opened
        opened += 1
        return Failing(pq.ParquetFile(path))

    monkeypatch.setattr(row_stream, "open_parquet", failing)
    batches = stream_rows(str(path), ["n"], OPTIONS, SharedFilesystem())
    assert [n for batch in batches for n in batch.column("n").to_pylist()] == list(range(100))
    assert opened == 3


@pytest.mark.parametrize("memory", ["2MB", "16MB"])
def test_rows_are_sorted_in_a_fraction_of_their_memory(
    monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    """Long shared beginnings, doubles, rows without a key: split or not, they come out sorted."""
    monkeypatch.setenv(MEMORY_VARIABLE, memory)
    random_ = random.Random(5)
    starts = [random_.randbytes(300) for _ in range(20)]
    keys = [
        None if random_.random() < 0.05 else random_.choice(starts) + random_.randbytes(1) * 200
        for _ in range(12_000)
    ]
    schema = pa.schema([("n", pa.int64()), ("payload", pa.binary()), ("key", pa.binary())])
    batches = (
        pa.record_batch(
            [
                pa.array(range(first, first + 500), pa.int64()),
                pa.array([random_.randbytes(100) for _ in range(500)]),
                pa.array(keys[first : first + 500], pa.binary()),
            ],
            schema=schema,
        )
        for first in range(0, len(keys), 500)
    )
    found = [
        number
        for batch in externally_sorted(batches, schema, "key", "n")
        for number in batch.column("n").to_pylist()
    ]
    order = sorted(range(len(keys)), key=lambda n: (keys[n] is None, keys[n] or b"", n))
    assert found == order


# What verify asks.


def swapped(table: pa.Table) -> pa.Table:
    return table.set_column(0, "q", table.column("q").take(pa.array([1, 0, *range(2, len(table))])))


def renumbered(table: pa.Table) -> pa.Table:
    numbers = table.column(ROW_KEY).take(pa.array([1, 0, *range(2, len(table))]))
    return table.set_column(table.schema.get_field_index(ROW_KEY), ROW_KEY, numbers)


def doubled(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1), table.slice(0, len(table) - 1)])


@pytest.mark.parametrize("change", [None, swapped, renumbered, doubled])
def test_a_copy_of_other_rows_is_found(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table] | None
) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["c", "a", "b", "d"], "x": [1, 2, 3, None]})
    made = ordered(job_over(path), tmp_path / "copy")
    [copy] = (tmp_path / "copy").iterdir()
    if change is not None:
        pq.write_table(change(pq.read_table(copy)), copy)
    now = current_version(str(copy), OPTIONS)
    assert now is not None
    shards = [
        replace(shard, etag=now.etag, size=now.size, bytes=group_bytes(copy))
        for shard in made.plan.shards
    ]
    plan = replace(made.plan, shards=shards)
    found = list(plan_problems(made.job, plan, input_fingerprint(plan), OPTIONS))
    if change is None:
        assert found == []
    else:
        assert found == [
            "plan.parquet: its copy's 4 rows are not the 4 that the job selects of its input"
        ]


def group_bytes(path: Path) -> int:
    return int(pq.read_metadata(path).row_group(0).total_byte_size)


def test_a_dataset_that_changed_since_is_said_not_to_be_compared(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["c", "a"]})
    made = ordered(job_over(path), tmp_path / "copy")
    os.utime(path, (1, 1))
    [found] = plan_problems(made.job, made.plan, input_fingerprint(made.plan), OPTIONS)
    assert "its copy is not compared with the input" in found


def test_the_dataset_itself_can_be_read_before_there_is_a_copy(tmp_path: Path) -> None:
    job = by_prefix(job_over(written(tmp_path / "a.parquet", {"q": ["b", "a"], "n": [1, 2]})))
    assert text_or_error_of(job, plan_job(job, OPTIONS)) == ["b", "a"]


# What is refused, and how.


def test_the_rows_numbers_need_their_name(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"], ROW_KEY: [7]})
    with pytest.raises(JobInvalid, match="the input has a column 'spotmill_row'") as refused:
        ordered(job_over(path), tmp_path / "copy")
    assert "input.columns" in refused.value.hint
    made = ordered(job_over(path, columns=["q"]), tmp_path / "copy")
    assert made.column(ROW_KEY) == [0]


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"odd": pa.array([1], pa.decimal256(50, 2))}, "decimal256"),
        ({"odd": pa.array([{"a": 1, "A": 2}])}, "struct"),
    ],
)
def test_a_column_that_would_come_back_another_is_refused(
    tmp_path: Path, columns: dict[str, pa.Array], kind: str
) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"], **columns})
    with pytest.raises(JobInvalid, match=f"column 'odd' is {kind}"):
        plan_job(by_prefix(job_over(path)), OPTIONS)
    assert ordered(job_over(path, columns=["q"]), tmp_path / "copy").plan.rows == 1


def test_a_condition_on_other_rows_of_the_shard_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"], "n": [1]})
    where = "n >= (SELECT max(n) FROM rows_of_shard)"
    assert plan_job(job_over(path, where=where), OPTIONS).rows == 1
    with pytest.raises(JobInvalid, match="subquery"):
        plan_job(by_prefix(job_over(path, where=where)), OPTIONS)


@pytest.mark.parametrize(
    ("memory", "said"),
    [("a lot", "no size of memory"), ("0GB", "no size of memory"), ("100KB", "cannot be sorted")],
)
def test_memory_that_is_none_or_too_little_is_said(
    shuffled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, said: str
) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, memory)
    with pytest.raises(JobInvalid, match=said) as refused:
        ordered(job_over(shuffled), tmp_path / "copy")
    assert MEMORY_VARIABLE in str(refused.value)


def test_what_a_killed_planner_left_on_the_disk_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive, new = (tmp_path / f"spotmill-sort-{name}" for name in ("dead", "alive", "new"))
    for folder in (dead, alive, new):
        folder.mkdir()
        (folder / "lock").touch()
        if folder is not new:
            os.utime(folder / "lock", (1, 1))
    path = written(tmp_path / "in/a.parquet", {"q": ["x"]})
    with (alive / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ordered(job_over(path), tmp_path / "copy")
    assert sorted(tmp_path.glob("spotmill-sort-*")) == [alive, new]


# The job.


def test_the_order_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    job = job_over(tmp_path)
    assert job.shards.order == "input"
    assert by_prefix(job).settings_fingerprint() != job.settings_fingerprint()


def test_a_run_from_before_there_were_orders_can_be_gone_on_with(tmp_path: Path) -> None:
    job = job_over(tmp_path)
    decisive = job.model_dump(mode="json", include={"input", "model", "sampling", "shards"})
    decisive["input"].pop("uri")
    decisive["shards"] = {"rows": job.shards.rows}
    decisive["model"]["speculative"] = job.model.speculative.decisive()
    assert job.settings_fingerprint() == fingerprint(decisive)
