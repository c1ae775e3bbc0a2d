"""How a published part differs from the rows it should hold."""

from __future__ import annotations

import pyarrow as pa


def schema_difference(published: pa.Schema, expected: pa.Schema) -> str | None:
    for name in expected.names:
        if name not in published.names:
            return f"column {name!r} is missing"
    for name in published.names:
        if name not in expected.names:
            return f"column {name!r} is neither carried nor an output"
    if published.names != expected.names:
        return f"its columns are {published.names}, not {expected.names}"
    for is_, should in zip(published.types, expected, strict=True):
        if is_ != should.type:
            return f"column {should.name!r} is {is_}, not {should.type}"
    return None


def first_unlike(one: pa.ChunkedArray, other: pa.ChunkedArray) -> int | None:
    """The first row that differs, where not-a-number equals itself, as it does not to pyarrow."""
    if one.equals(other):
        return None
    pairs = enumerate(zip(one, other, strict=True))
    return next((row for row, cells in pairs if not _same_cell(*cells)), None)


def _same_cell(one: pa.Scalar, other: pa.Scalar) -> bool:
    if one.equals(other) or not (one.is_valid and other.is_valid):
        return bool(one.is_valid == other.is_valid)
    # Down to the leaves, since a neighbour of the not-a-number may be what Python cannot hold.
    if isinstance(one, pa.DictionaryScalar) and isinstance(other, pa.DictionaryScalar):
        return _same_cell(one.value, other.value)
    if isinstance(one, pa.ListScalar) and isinstance(other, pa.ListScalar):
        return len(one) == len(other) and all(map(_same_cell, one.values, other.values))
    if isinstance(one, pa.StructScalar) and isinstance(other, pa.StructScalar):
        return one.type.names == other.type.names and all(
            _same_cell(one[i], other[i]) for i in range(len(one.type.names))
        )
    try:
        return repr(one.as_py()) == repr(other.as_py())
    except Exception:
        # Unequal to Arrow and unreadable to Python: it is no number, so Arrow's word stands.
        return False
