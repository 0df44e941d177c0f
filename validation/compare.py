"""Cells side by side, bit by bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unskew.pipelines.states import prefix_sums

Bools = NDArray[np.bool_]


def same_cells(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Bools:
    """Return (n,) whether cells are equal: nulls only to nulls, floats bit by bit, lists entry by entry."""
    a, b = left.combine_chunks(), right.combine_chunks()
    a, b = (each.combine_chunks() if isinstance(each, pa.ChunkedArray) else each for each in (a, b))
    if a.type != b.type:
        return np.zeros(len(a), np.bool_)
    if pa.types.is_map(a.type):
        a, b = (as_lists(each) for each in (a, b))
    if pa.types.is_list(a.type):
        return same_lists(a, b)
    if pa.types.is_struct(a.type):
        pairs = zip(a.flatten(), b.flatten(), strict=True)
        equal: Bools = np.logical_and.reduce(
            [same_cells(*(pa.chunked_array([side]) for side in pair)) for pair in pairs]
        )
        return equal
    valid = a.is_valid().to_numpy(zero_copy_only=False)
    both = valid == b.is_valid().to_numpy(zero_copy_only=False)
    codes = numbers(a, b)
    found: Bools = both & (~valid | (codes[0] == codes[1]))
    return found


def numbers(a: pa.Array, b: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both arrays as int64 that are equal where the values are the same bits; null as anything."""
    if pa.types.is_floating(a.type):
        return tuple(each.fill_null(0.0).to_numpy(zero_copy_only=False).view(np.int64) for each in (a, b))
    if pa.types.is_string(a.type):
        together = pa.concat_arrays([a, b]).dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return together[: len(a)].astype(np.int64), together[len(a) :].astype(np.int64)
    return tuple(each.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False) for each in (a, b))


def same_lists(a: pa.ListArray, b: pa.ListArray) -> Bools:
    """Compare lists: null and empty are not the same, and order counts."""
    lengths = [each.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False) for each in (a, b)]
    found: Bools = lengths[0] == lengths[1]
    common = pa.array(found)
    entries = [pa.chunked_array([each.filter(common).flatten()]) for each in (a, b)]
    wrong = prefix_sums(~same_cells(*entries))
    ends = np.cumsum(np.maximum(lengths[0][found], 0))
    starts = ends - np.maximum(lengths[0][found], 0)
    found[found] = wrong[ends] == wrong[starts]
    return found


def as_lists(maps: pa.MapArray) -> pa.ListArray:
    """Return maps as lists of pairs, in their order."""
    kind = maps.type
    return maps.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
