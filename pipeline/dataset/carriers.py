"""How columns pass through DuckDB, which knows fewer types than Arrow, and come back the same."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import JobInvalid

_WHOLE = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_date32,
)
_BYTES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_LONG_NUMBERS = (
    pa.types.is_timestamp,
    pa.types.is_time64,
    pa.types.is_duration,
    pa.types.is_date64,
)


def carrier_schema(schema: pa.Schema) -> pa.Schema:
    """What these columns are sent as. Raises `JobInvalid` for one that would come back another."""
    fields = []
    for field in schema:
        kind = _carrier(field.type)
        if kind is None:
            raise JobInvalid(
                f"column {field.name!r} is {field.type}, which cannot be sorted along",
                where="shards.order",
                hint="leave it out of input.columns, or plan with order: input",
            )
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def packed(array: pa.Array) -> pa.Array:
    """A column as its carrier."""
    kind = _carrier(array.type)
    if array.type.equals(kind):
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if array.offset and pa.types.is_nested(array.type):
        # pyarrow cannot cast a slice of some nested types.
        array = array.take(pa.array(range(len(array)), pa.int64()))
    return array.cast(kind)


def unpacked(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of this type, from its carrier."""
    if pa.types.is_null(kind):
        return pa.nulls(len(array))
    if pa.types.is_dictionary(kind):
        coded = array.dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            coded.indices.cast(kind.index_type),
            unpacked(coded.dictionary, kind.value_type),
            ordered=kind.ordered,
        )
    # Text that is not UTF-8 is published as it is, so it is carried as it is.
    return pc.cast(array, options=pc.CastOptions(target_type=kind, allow_invalid_utf8=True))


def _carrier(kind: pa.DataType, nested: bool = False) -> pa.DataType | None:
    if any(is_such(kind) for is_such in _WHOLE):
        return kind
    if pa.types.is_decimal128(kind) and kind.scale >= 0:
        return kind
    if any(is_such(kind) for is_such in _BYTES):
        return pa.binary()
    if any(is_such(kind) for is_such in _LONG_NUMBERS):
        return pa.int64()
    if pa.types.is_time32(kind):
        return pa.int32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_null(kind) and not nested:
        return pa.int8()
    if pa.types.is_dictionary(kind) and not nested:
        return _carrier(kind.value_type, nested=True)
    return _nested_carrier(kind)


def _nested_carrier(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_struct(kind):
        inner = [(field.name, _carrier(field.type, nested=True)) for field in kind]
        # DuckDB takes names that differ in case alone for the same.
        apart = len({name.lower() for name, _ in inner}) == len(inner)
        whole = inner and apart and all(carrier is not None for _, carrier in inner)
        return pa.struct(inner) if whole else None
    if pa.types.is_map(kind):
        key, item = _carrier(kind.key_type, nested=True), _carrier(kind.item_type, nested=True)
        return None if key is None or item is None else pa.map_(key, item)
    if pa.types.is_fixed_size_list(kind):
        inner_type = _carrier(kind.value_type, nested=True)
        return None if inner_type is None else pa.list_(inner_type, kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner_type = _carrier(kind.value_type, nested=True)
        return None if inner_type is None else pa.list_(inner_type)
    return None
