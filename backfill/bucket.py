"""One bucket of one view: states of all windows, then features, at each spine row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unskew.backfill.kernels import (
    Bools,
    Ints,
    known_positions,
    newest_entries,
    running_maximum,
    sliding_distinct,
    sliding_extreme,
    window_bounds,
)
from unskew.pipelines.aggregates import Finish, StateField, Values
from unskew.pipelines.arrow import to_arrow
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import FeaturePlan, ViewPlan
from unskew.pipelines.timegrid import Window
from unskew.pipelines.types import VALUE_LIMIT

SAFE_ROWS = 2**22  # fewer summed inputs of at most 2**40 cannot overflow int64


@dataclass(frozen=True)
class Column:
    """The lifts of one state field, (e,): numbers, or codes of `strings`; `valid` is False for null."""

    data: Ints
    valid: Bools
    strings: pa.Array | None = None

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


@dataclass(frozen=True)
class Events:
    """A bucket's events sorted by (entity, ts, id): codes of entities, instants in ms, one column per field.

    Where a source counts every copy, `tie` numbers the runs of equal (ts, id): their order is by value.
    """

    entity: Ints
    ts: Ints
    known: Ints | None
    fields: Sequence[Column]
    tie: Ints | None = None


@dataclass(frozen=True)
class Spine:
    """A bucket's spine rows sorted by (entity, t); an event counts where its `known` is at most `asof`."""

    entity: Ints
    t: Ints
    asof: Ints


def prefix_sums(values: NDArray[np.generic]) -> Ints:
    """Return the sums of the first 0, 1 ... n values, (n + 1,)."""
    found = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, dtype=np.int64, out=found[1:])
    return found


def bucket_features(view: ViewPlan, events: Events, spine: Spine) -> list[pa.Array]:
    """Compute a view's features.

    Returns
    -------
    list of pyarrow.Array
        One (s,) array for each feature of the view.

    Raises
    ------
    EngineError
        If a sum could pass int64.
    """
    states: dict[tuple[Window, int], Values] = {}
    for window in dict.fromkeys(each.window for each in view.features):
        needed = sorted({field for each in view.features if each.window == window for field in each.fields})
        bounds = window_bounds(events.entity, events.ts, spine.entity, window.tail(spine.t), window.head(spine.t))
        for field, state in zip(needed, window_states(view, needed, events, spine, bounds), strict=True):
            states[window, field] = state
    return [finished(view, each, events, spine, states) for each in view.features]


def finished(
    view: ViewPlan, feature: FeaturePlan, events: Events, spine: Spine, states: dict[tuple[Window, int], Values]
) -> pa.Array:
    """Apply the aggregate's finish and give the values their Arrow type."""
    found = feature.spec.finish(
        [states[feature.window, each] for each in feature.fields], Finish(spine.t, feature.units)
    )
    kind = view.fields[feature.fields[0]].kind
    strings = events.fields[feature.fields[0]].strings if kind in ("first", "last", "list") else None
    return to_arrow(found, feature.type, strings)


def window_states(
    view: ViewPlan, needed: Sequence[int], events: Events, spine: Spine, bounds: tuple[Ints, Ints]
) -> list[Values]:
    """Return the state of each needed field; rows that may not know all their events are computed apart."""
    lo, hi = bounds
    columns = [events.fields[each] for each in needed]
    fields = [view.fields[each] for each in needed]
    fast = [field_state(*pair, lo, hi, events.tie) for pair in zip(fields, columns, strict=True)]
    if events.known is None or not len(events.known):
        return fast
    newest = running_maximum(events.entity, events.known)
    unsure = np.flatnonzero((hi > lo) & (newest[np.maximum(hi - 1, 0)] > spine.asof))
    if not len(unsure):
        return fast
    offsets, positions = known_positions(events.known, lo[unsure], hi[unsure], spine.asof[unsure])
    taken = [Column(each.data[positions], each.valid[positions], each.strings) for each in columns]
    tie = None
    if events.tie is not None:
        row = np.repeat(np.arange(len(unsure)), np.diff(offsets))
        tie = row * (len(events.tie) + 1) + events.tie[positions]
    slow = [field_state(*pair, offsets[:-1], offsets[1:], tie) for pair in zip(fields, taken, strict=True)]
    return [replaced(whole, unsure, part) for whole, part in zip(fast, slow, strict=True)]


def field_state(field: StateField, column: Column, lo: Ints, hi: Ints, tie: Ints | None) -> Values:
    """Return the state of one field over the windows ``lo:hi``."""
    if field.kind == "add":
        return sums(column, lo, hi)
    if field.kind in ("min", "max"):
        return Values(*sliding_extreme(column.data, column.valid, lo, hi, field.kind == "max"))
    if field.kind == "multiset":
        return Values(sliding_distinct(*column.codes, lo, hi), np.ones(len(lo), np.bool_))
    return ordered_state(field, column if tie is None else by_value(column, tie), lo, hi)


def by_value(column: Column, tie: Ints) -> Column:
    """Return the column with the values of each run of equal (ts, id) in ascending order."""
    rank = column.data
    if column.strings is not None and len(column.strings):
        places = np.argsort(np.array([(each or "").encode() for each in column.strings.to_pylist()], dtype=object))
        rank = np.argsort(places)[column.data]
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
    """Return first, last or the k newest of the values that are not null."""
    present = column.data[column.valid]
    start, stop = column.present[lo], column.present[hi]
    if field.kind == "list":
        offsets, entries = newest_entries(start, stop, field.k)
        return Values(present[entries], stop > start, offsets)
    if not len(present):
        return Values(np.zeros(len(lo), np.int64), np.zeros(len(lo), np.bool_))
    at = start if field.kind == "first" else stop - 1
    return Values(present[np.clip(at, 0, len(present) - 1)], stop > start)


def replaced(whole: Values, rows: Ints, part: Values) -> Values:
    """Return `whole` with the given rows taken from `part`."""
    valid = whole.valid.copy()
    valid[rows] = part.valid
    if whole.offsets is None or part.offsets is None:
        data = whole.data.copy()
        data[rows] = part.data
        return Values(data, valid)
    lengths, starts = np.diff(whole.offsets), whole.offsets[:-1].copy()
    lengths[rows], starts[rows] = np.diff(part.offsets), part.offsets[:-1] + len(whole.data)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    entries = np.concatenate((whole.data, part.data))[np.repeat(starts, lengths) + within]
    return Values(entries, valid, offsets)
