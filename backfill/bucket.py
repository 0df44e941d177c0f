"""One bucket of one view: states of all windows, then features, at each spine row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from unskew.backfill.kernels import Ints, known_positions, running_maximum, sliding_distinct, window_bounds
from unskew.backfill.window_states import Column, Events, Spine, field_state
from unskew.pipelines.arrow import to_arrow
from unskew.pipelines.plan import FeaturePlan, ViewPlan
from unskew.pipelines.states import LISTS, StateField, Values, prefix_sums
from unskew.pipelines.timegrid import Window
from unskew.pipelines.types import INT64_MAX

ENTRIES_AT_ONCE = 1 << 22  # of multisets that are in memory together
TEXTS = ("first", "last", "multiset", *LISTS)  # fields whose value is one of the input's


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
    bounds: dict[Window, tuple[Ints, Ints]] = {}
    for window in dict.fromkeys(each.window for each in view.features):
        bounds[window] = window_bounds(
            events.entity, events.ts, spine.entity, window.tail(spine.t), window.head(spine.t)
        )
        simple = [each for each in view.features if each.window == window and not counted(view, each)]
        needed = sorted({field for each in simple for field in each.fields})
        found = window_states([view.fields[each] for each in needed], needed, events, spine, bounds[window])
        states |= {(window, field): state for field, state in zip(needed, found, strict=True)}
    return [
        counted_feature(view, each, events, spine, bounds[each.window])
        if counted(view, each)
        else finished(view, each, events, spine.t, [states[each.window, field] for field in each.fields])
        for each in view.features
    ]


def counted(view: ViewPlan, feature: FeaturePlan) -> bool:
    """Return whether a feature needs the values of a multiset and their counts."""
    return view.fields[feature.fields[0]].kind == "multiset" and not feature.sized


def finished(
    view: ViewPlan, feature: FeaturePlan, events: Events, at: Ints, states: Sequence[Values]
) -> pa.Array:  # fmt: skip
    """Apply the aggregate's finish and give the values their Arrow type."""
    field = feature.fields[0]
    wanted = view.fields[field].kind in TEXTS and feature.has_text
    return to_arrow(feature.value(states, at), feature.type, events.fields[field].strings if wanted else None)


def counted_feature(
    view: ViewPlan, feature: FeaturePlan, events: Events, spine: Spine, bounds: tuple[Ints, Ints]
) -> pa.Array:
    """Compute a feature of a multiset some rows at a time: all rows' values together may be many."""
    field = feature.fields[0]
    parts = []
    for lo, hi in runs_of_rows(events.fields[field], bounds):
        some = Spine(spine.entity[lo:hi], spine.t[lo:hi], spine.asof[lo:hi])
        own = (bounds[0][lo:hi], bounds[1][lo:hi])
        state = window_states([view.fields[field]], [field], events, some, own, counts=True)
        parts.append(finished(view, feature, events, some.t, state))
    return pa.concat_arrays(parts)


def runs_of_rows(column: Column, bounds: tuple[Ints, Ints]) -> Iterator[tuple[int, int]]:
    """Yield ranges of spine rows whose windows hold at most `ENTRIES_AT_ONCE` values, or that are one row."""
    sizes = np.cumsum(sliding_distinct(*column.codes, *bounds))
    lo = 0
    while True:
        before = sizes[lo - 1] if lo else 0
        hi = max(int(np.searchsorted(sizes, before + ENTRIES_AT_ONCE, side="right")), lo + 1)
        yield lo, min(hi, len(sizes))
        if hi >= len(sizes):
            return
        lo = hi


def window_states(
    fields: Sequence[StateField], needed: Sequence[int], events: Events, spine: Spine, bounds: tuple[Ints, Ints],
    *, counts: bool = False,
) -> list[Values]:  # fmt: skip
    """Return the state of each needed field; rows that may not know all their events are computed apart."""
    lo, hi = bounds
    columns = [events.fields[each] for each in needed]
    fast = [field_state(*pair, lo, hi, events.tie, counts) for pair in zip(fields, columns, strict=True)]
    if events.known is None or not len(events.known):
        return fast
    newest = running_maximum(events.entity, events.known)
    doubtful = (hi > lo) & (newest[np.maximum(hi - 1, 0)] > spine.asof)
    if events.until is not None:
        ends = prefix_sums(events.until < INT64_MAX)
        doubtful |= ends[hi] > ends[lo]
    unsure = np.flatnonzero(doubtful)
    if not len(unsure):
        return fast
    until = np.full(len(events.known), INT64_MAX) if events.until is None else events.until
    offsets, positions = known_positions(events.known, until, lo[unsure], hi[unsure], spine.asof[unsure])
    taken = [each.rows(positions) for each in columns]
    tie = None
    if events.tie is not None:
        row = np.repeat(np.arange(len(unsure)), np.diff(offsets))
        tie = row * (len(events.tie) + 1) + events.tie[positions]
    slow = [field_state(*pair, offsets[:-1], offsets[1:], tie, counts) for pair in zip(fields, taken, strict=True)]
    return [replaced(whole, unsure, part) for whole, part in zip(fast, slow, strict=True)]


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
    offsets = prefix_sums(lengths)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return together(whole, part).entries(np.repeat(starts, lengths) + within, offsets)


def together(a: Values, b: Values) -> Values:
    """Return the entries of both, one after the other."""
    counts = None if a.counts is None or b.counts is None else np.concatenate((a.counts, b.counts))
    inner = tuple(
        Values(np.concatenate((x.data, y.data)), np.concatenate((x.valid, y.valid)))
        for x, y in zip(a.inner, b.inner, strict=True)
    )
    return Values(np.concatenate((a.data, b.data)), np.zeros(0, np.bool_), None, counts, inner)
