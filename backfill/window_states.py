"""States over windows of sorted events: one field, many windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.backfill.kernels import (
    Bools,
    Ints,
    outer_entries,
    sliding_counts,
    sliding_distinct,
    sliding_extreme,
    sliding_top,
)
from unskew.pipelines.errors import EngineError
from unskew.pipelines.states import StateField, Values, prefix_sums
from unskew.pipelines.types import VALUE_LIMIT

SAFE_ROWS = 2**22  # fewer summed inputs of at most 2**40 cannot overflow int64


@dataclass(frozen=True)
class Column:
    """The lifts of one state field, (e,): numbers, or codes of `strings`; `valid` is False for null.

    `inner` are the lifts of a multiset's further fields.
    """

    data: Ints
    valid: Bools
    strings: pa.Array | None = None
    inner: tuple[Column, ...] = ()

    def rows(self, taken: Ints) -> Column:
        """Return the lifts of the given events."""
        inner = tuple(each.rows(taken) for each in self.inner)
        return Column(self.data[taken], self.valid[taken], self.strings, inner)

    @cached_property
    def prefix(self) -> Ints:
        """Sums of the first 0, 1 ... e values, null as 0, (e + 1,); they may wrap."""
        return prefix_sums(self.data if self.valid.all() else np.where(self.valid, self.data, 0))

    @cached_property
    def present(self) -> Ints:
        """Numbers of valid values among the first 0, 1 ... e, (e + 1,)."""
        return prefix_sums(self.valid)

    @cached_property
    def codes(self) -> tuple[Ints, int]:
        """The values as 0..size-1, null as -1, and how many there are."""
        encoded = pa.array(self.data).dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        return (codes if self.valid.all() else np.where(self.valid, codes, -1)), len(encoded.dictionary)

    @cached_property
    def ranked(self) -> tuple[Ints, Ints]:
        """The values as 0..size-1 in ascending order, null as -1, and what stands for each."""
        order = self.ascending
        values, codes = np.unique(order[self.data] if len(order) else self.data, return_inverse=True)
        back = np.argsort(order)[values] if len(order) else values
        return np.where(self.valid, codes, -1).astype(np.int64), back.astype(np.int64)

    @cached_property
    def ascending(self) -> Ints:
        """The place of each string among all by their UTF-8 bytes; of numbers nothing."""
        if self.strings is None or not len(self.strings):
            return np.zeros(0, np.int64)
        places = np.empty(len(self.strings), np.int64)
        places[pc.array_sort_indices(self.strings).to_numpy()] = np.arange(len(places))
        return places


@dataclass(frozen=True)
class Events:
    """A bucket's events sorted by (entity, ts, id): codes of entities, instants in ms, one column per field.

    Where a source counts every copy, `tie` numbers the runs of equal (ts, id): their order is by value. An event counts
    from `known` on until `until`, exclusive.
    """

    entity: Ints
    ts: Ints
    known: Ints | None
    fields: Sequence[Column]
    tie: Ints | None = None
    until: Ints | None = None


@dataclass(frozen=True)
class Spine:
    """A bucket's spine rows sorted by (entity, t), each with what may be known at it."""

    entity: Ints
    t: Ints
    asof: Ints


def field_state(
    field: StateField, column: Column, lo: Ints, hi: Ints, tie: Ints | None = None, counts: bool = False
) -> Values:
    """Return the state of one field over the windows ``lo:hi``; of a multiset its values, or how many they are."""
    if field.kind == "add":
        return sums(column, lo, hi)
    if field.kind in ("min", "max"):
        return Values(*sliding_extreme(column.data, column.valid, lo, hi, field.kind == "max"))
    if field.kind == "multiset" and counts:
        return multisets(field, column, lo, hi)
    if field.kind == "multiset":
        return Values(sliding_distinct(*column.codes, lo, hi), np.ones(len(lo), np.bool_))
    if field.kind in ("top_k", "bottom_k"):
        codes, values = column.ranked
        offsets, entries = sliding_top(codes, len(values), lo, hi, field.k, field.kind == "top_k")
        return Values(values[entries], np.diff(offsets) > 0, offsets)
    return ordered_state(field, column if tie is None else by_value(column, tie), lo, hi)


def multisets(field: StateField, column: Column, lo: Ints, hi: Ints) -> Values:
    """Return each window's values, ascending, with their counts and further fields."""
    codes, values = column.ranked
    sizes = sliding_distinct(codes, len(values), lo, hi)
    offsets = prefix_sums(sizes)
    entries, counts = sliding_counts(codes, len(values), lo, hi, offsets)
    row = np.repeat(np.arange(len(lo)), sizes)
    return Values(values[entries], sizes > 0, offsets, counts, inner_states(field, column, entries, lo[row], hi[row]))


def inner_states(field: StateField, column: Column, entries: Ints, lo: Ints, hi: Ints) -> tuple[Values, ...]:
    """Return a multiset's further fields: over the events of one value (m,) in a window (m,)."""
    if not field.inner:
        return ()
    codes, _ = column.ranked
    order = np.argsort(codes, kind="stable")
    step = len(codes) + 1
    keys = codes[order] * step + order  # ascending: by value, then as the events stand
    forward = np.argsort(entries, kind="stable")  # by value, so that both ends of the windows only move forward
    first, last = (np.searchsorted(keys, (entries * step + each)[forward]) for each in (lo, hi))
    back = np.empty(len(entries), np.int64)
    back[forward] = np.arange(len(entries))
    found = []
    for each, own in zip(field.inner, column.inner, strict=True):
        state = field_state(each, own.rows(order), first, last)
        found.append(Values(state.data[back], state.valid[back]))
    return tuple(found)


def by_value(column: Column, tie: Ints) -> Column:
    """Return the column with the values of each run of equal (ts, id) in ascending order."""
    rank = column.data
    if len(column.ascending):
        rank = column.ascending[column.data]
    order = np.lexsort((rank, tie))
    return Column(column.data[order], column.valid[order], column.strings)


def sums(column: Column, lo: Ints, hi: Ints) -> Values:
    """Return differences of prefix sums: wrapping cancels out while the true sum fits int64."""
    prefix = column.prefix
    if len(lo) and int((hi - lo).max()) >= SAFE_ROWS:
        data = np.where(column.valid, column.data, 0)
        rough = np.concatenate((np.zeros(1), np.cumsum(data, dtype=np.float64)))
        if np.abs(rough[hi] - rough[lo]).max() > VALUE_LIMIT:
            message = f"a sum over more than {SAFE_ROWS} rows passes 2**62; declare a tighter range or a shorter window"
            raise EngineError(message)
    return Values(prefix[hi] - prefix[lo], np.ones(len(lo), np.bool_))


def ordered_state(field: StateField, column: Column, lo: Ints, hi: Ints) -> Values:
    """Return first, last or the k oldest or newest of the values that are not null."""
    present = column.data[column.valid]
    start, stop = column.present[lo], column.present[hi]
    if field.kind in ("first_k", "last_k"):
        offsets, entries = outer_entries(start, stop, field.k, field.kind == "last_k")
        return Values(present[entries], stop > start, offsets)
    if not len(present):
        return Values(np.zeros(len(lo), np.int64), np.zeros(len(lo), np.bool_))
    at = start if field.kind == "first" else stop - 1
    return Values(present[np.clip(at, 0, len(present) - 1)], stop > start)
