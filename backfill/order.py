"""The order of a bucket's rows: codes for entities, then a sort by (entity, time, id, position).

Entities are few and logs arrive almost in order, so this is a check and one radix pass in most buckets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.backfill.kernels import Ints


def numbers(column: pa.ChunkedArray) -> Ints:
    """Return an integer or boolean column as int64, null as 0."""
    found: Ints = column.cast(pa.int64()).fill_null(0).to_numpy().astype(np.int64, copy=False)
    return found


def flat(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece; one that is needs no copy."""
    if column.num_chunks == 1:
        return column.chunk(0)
    whole = column.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def entity_codes(asked: Sequence[pa.ChunkedArray], events: Sequence[pa.ChunkedArray]) -> tuple[Ints, Ints]:
    """Return (s,) entities 0..n-1 of the spine's keys, null being a key of its own, and (e,) those of the events.

    An event of an entity that is not asked for has -1.
    """
    codes = found = None
    for left, right in zip(asked, events, strict=True):
        encoded = flat(left).dictionary_encode(null_encoding="encode")
        mine = numbers(encoded.indices)
        theirs = numbers(pc.index_in(flat(right), value_set=encoded.dictionary).fill_null(-1))
        if codes is None or found is None:
            codes, found = mine, theirs
            continue
        size = len(encoded.dictionary)
        pairs, codes = np.unique(codes * size + mine, return_inverse=True)
        found = looked_up(pairs, np.where((found < 0) | (theirs < 0), -1, found * size + theirs))
    if codes is None or found is None:
        message = "a view has no key"
        raise AssertionError(message)
    return codes, found


def looked_up(known: Ints, values: Ints) -> Ints:
    """Return the place of each value among the ascending known ones, or -1."""
    if not len(known):
        return np.full(len(values), -1, np.int64)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at, -1)


def ranks(column: pa.ChunkedArray) -> Ints:
    """Return numbers that order as the column does: strings by their UTF-8 bytes."""
    if not pa.types.is_string(column.type):
        return numbers(column)
    encoded = flat(column).dictionary_encode()
    place = np.empty(len(encoded.dictionary), np.int64)
    place[pc.array_sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(place))
    found: Ints = place[encoded.indices.to_numpy()]
    return found


def sorted_rows(entity: Ints, columns: Sequence[Ints]) -> Ints:
    """Return the rows in the order of (entity, *columns)."""
    by_columns = None if ascending(columns) else np.lexsort(tuple(reversed(columns)))
    keys = entity if by_columns is None else entity[by_columns]
    top = int(keys.max(initial=0))
    # NumPy sorts 16-bit keys by radix, wider ones by comparison
    narrow = keys.astype(np.uint16) if top < 1 << 16 else keys
    order = np.argsort(narrow, kind="stable")
    return order if by_columns is None else by_columns[order]


def ascending(columns: Sequence[Ints]) -> bool:
    """Return whether rows stand in the order of their columns already."""
    decided = np.zeros(max(len(columns[0]) - 1, 0), np.bool_)
    for each in columns:
        if bool((~decided & (each[1:] < each[:-1])).any()):
            return False
        decided |= each[1:] > each[:-1]
    return True


def repeated(columns: Sequence[pa.ChunkedArray]) -> bool:
    """Return whether some row of the columns occurs twice."""
    values = [ranks(each) for each in columns]
    order = np.lexsort(tuple(values)) if len(values[0]) else np.zeros(0, np.int64)
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for each in values:
        moved = each[order]
        same &= moved[1:] == moved[:-1]
    return bool(same.any())
