"""Values as Arrow arrays of a feature's type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unskew.pipelines.states import FeatureType, ValueKind, Values

TYPES = {"int": pa.int64(), "float": pa.float64(), "string": pa.string(), "bool": pa.bool_()}
TYPES |= {"timestamp": pa.timestamp("ms", "UTC")}


def to_arrow(values: Values, kind: FeatureType, strings: pa.Array | None) -> pa.Array:
    """Return values as an Arrow array of the feature's type.

    Parameters
    ----------
    strings
        What the codes of a text feature, or of a map's keys, stand for, else None.
    """
    if kind.scalar:
        return cells(values.data, values.valid, kind.kind, strings)
    offsets = np.zeros(1, np.int64) if values.offsets is None else values.offsets
    empty = np.zeros(len(offsets), np.bool_)
    np.equal(offsets[1:], offsets[:-1], out=empty[:-1])
    starts = pa.array(offsets.astype(np.int32), mask=empty)
    entries = cells(values.data, np.ones(len(values.data), np.bool_), kind.key or kind.kind, strings)
    if kind.key is None:
        return pa.ListArray.from_arrays(starts, entries)
    items = values.inner[0] if values.inner else Values(values.data, np.ones(len(values.data), np.bool_))
    return pa.MapArray.from_arrays(starts, entries, cells(items.data, items.valid, kind.kind, None))


def cells(data: NDArray[np.generic], valid: NDArray[np.bool_], kind: ValueKind, strings: pa.Array | None) -> pa.Array:
    """Return a flat array; strings are looked up by their codes."""
    if strings is not None:
        return strings.take(pa.array(data.astype(np.int64), mask=~valid))
    dtype = {"float": np.float64, "bool": np.bool_}.get(kind, np.int64)
    mask = None if np.count_nonzero(valid) == valid.size else ~valid  # without one, Arrow takes the memory as it is
    found = pa.array(data.astype(dtype, copy=False), mask=mask)
    return found.cast(TYPES[kind]) if kind == "timestamp" else found


def python_values(cells: pa.ChunkedArray) -> list[object]:
    """Return cells as the oracle gives them: instants as ms, maps as dictionaries."""
    if pa.types.is_map(cells.type):
        flat = pa.map_(
            *(
                pa.int64() if pa.types.is_timestamp(each) else each
                for each in (cells.type.key_type, cells.type.item_type)
            )
        )
        return [None if each is None else dict(each) for each in cells.cast(flat).to_pylist()]
    if pa.types.is_timestamp(cells.type):
        cells = cells.cast(pa.int64())
    if pa.types.is_list(cells.type) and pa.types.is_timestamp(cells.type.value_type):
        cells = cells.cast(pa.list_(pa.int64()))
    found: list[object] = cells.to_pylist()
    return found
