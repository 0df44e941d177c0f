"""The order of events as text: MIN and MAX of it are the `first` and `last` fields of a tile."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.pipelines.backends.flink_pieces import long, quoted
from unskew.pipelines.plan import SourcePlan
from unskew.pipelines.types import INT64_MAX, INT64_MIN


def ordered_integer(value: str) -> str:
    """Write a BIGINT as 20 characters in numeric order: 0 or 1 for the sign, then 19 digits."""
    negative = f"'0' || LPAD(CAST({value} + {long(INT64_MAX)} + {long(1)} AS STRING), 19, '0')"
    return f"CASE WHEN {value} < 0 THEN {negative} ELSE '1' || LPAD(CAST({value} AS STRING), 19, '0') END"


def ordered_text(value: str, kind: str) -> str:
    """Write a value as text whose order is the value's; strings as the hex of their UTF-8 bytes."""
    if kind == "string":
        return f"HEX({value})"
    return f"CAST({value} AS STRING)" if kind == "bool" else ordered_integer(value)


def ordered_sql(source: SourcePlan, value: str, kind: str) -> str:
    """Write (event time, ids, value) as one text in order; null for a null value.

    The parts end with a space, which sorts before every hex digit: a shorter string comes first.
    """
    parts = [ordered_integer(quoted(source.event_time))]
    parts += [ordered_text(quoted(each), source.column(each).type.kind) for each in source.event_id]
    return " || ' ' || ".join(f"({each})" for each in [*parts, ordered_text(value, kind)])


def decode_ordered(
    order: str, source: SourcePlan, kind: str
) -> tuple[int, tuple[int | str | bool, ...], int | str | bool]:
    """Read a `first` or `last` field back.

    Parameters
    ----------
    order
        Text of the field.
    source
        Whose ids it holds.
    kind
        Kind of the value's type: ``string``, ``bool`` or a number's.

    Returns
    -------
    tuple
        Event time (ms), ids, encoded value.
    """
    kinds = ["int", *(source.column(each).type.kind for each in source.event_id), kind]
    ts, *ids, value = (decode_part(each, of) for each, of in zip(order.split(" "), kinds, strict=True))
    return int(ts), tuple(ids), value


def decode_part(part: str, kind: str) -> int | str | bool:
    """Read one part of an ordered text.

    Examples
    --------
    >>> decode_part("09223372036854775807", "int"), decode_part("C3A9", "string")
    (-1, 'é')
    """
    if kind == "string":
        return bytes.fromhex(part).decode()
    if kind == "bool":
        return part.upper() == "TRUE"
    return int(part[1:]) + (INT64_MIN if part[0] == "0" else 0)


def ordered_values(column: pa.ChunkedArray, source: SourcePlan, kind: str) -> pa.Array:
    """Return the values of a whole column of `first` or `last` fields, as `decode_ordered` reads each.

    Parameters
    ----------
    column
        (n,) ordered texts, null where there was no value.
    source, kind
        As in `decode_ordered`.

    Returns
    -------
    pyarrow.Array
        (n,) of string, bool or int64.
    """
    texts = whole(column)
    before = rf"^(?:[^ ]* ){{{1 + len(source.event_id)}}}"  # the event time and the ids
    value = pc.replace_substring_regex(texts, before, "")
    if kind == "bool":
        return pc.equal(pc.ascii_upper(value), "TRUE")
    if kind == "string":
        return unhexed(value)
    digits = pc.cast(pc.utf8_slice_codeunits(value, 1), pa.int64())
    smallest = pc.if_else(pc.starts_with(value, "0"), pa.scalar(INT64_MIN), pa.scalar(0))
    return pc.add(digits, smallest)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    found = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def unhexed(column: pa.StringArray) -> pa.StringArray:
    """Decode hex digits to the strings whose UTF-8 they are."""
    filled = pc.fill_null(column, "").cast(pa.large_string())
    _, places, digits = filled.buffers()
    offsets = np.frombuffer(places, np.int64)[filled.offset :][: len(filled) + 1]
    whole = memoryview(digits or b"")[offsets[0] : offsets[-1]]  # the strings stand end to end
    data = bytes.fromhex(str(whole, "ascii"))
    offsets = (offsets - offsets[0]) // 2
    found = pa.LargeStringArray.from_buffers(len(filled), pa.py_buffer(offsets), pa.py_buffer(data))
    return pc.if_else(column.is_valid(), found, None).cast(pa.string())
