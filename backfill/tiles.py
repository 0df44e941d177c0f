"""Closed tiles of one bucket: its sorted events become one packed record for each entity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unskew.backfill.kernels import Bools, Ints
from unskew.backfill.window_states import SAFE_ROWS, Column, Events, by_value
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import ViewPlan
from unskew.pipelines.records import (
    EARLIER,
    NO_STRING,
    Rows,
    Section,
    ascending,
    closed_layout,
    field_prints,
    pack,
    validity,
)
from unskew.pipelines.states import NEEDS_ORDER, StateField
from unskew.pipelines.timegrid import LIFETIME, floor_hop
from unskew.pipelines.types import INT64_MAX, INT64_MIN, VALUE_LIMIT


def closed_records(view: ViewPlan, events: Events, entities: int, batch_end: int) -> list[bytes]:
    """Pack the tiles that windows can still reach at `batch_end` and after.

    Parameters
    ----------
    events
        Sorted by (entity, ts, id), copies dropped, all before `batch_end`; entities are 0..entities-1.
    batch_end
        Start of a day, ms.

    Returns
    -------
    list of bytes
        One record for each entity, laid out by `closed_layout`; one without rows may be among them.

    Raises
    ------
    EngineError
        If a tile's sum could pass int64.
    """
    layout = closed_layout(view)
    strings, columns = shared_strings(events.fields)
    named = dict(zip(field_prints(view.fields), zip(view.fields, columns, strict=True), strict=True))
    rows = [section_rows(each, named, events, reach_of(view, each.hop, batch_end)) for each in layout.sections]
    return pack(layout, rows, entities, strings)


@dataclass(frozen=True)
class Reach:
    """How far back the windows of a grid read once tiles end at `batch_end`, ms.

    Parameters
    ----------
    oldest
        Earlier events are in no window.
    together
        Earlier tiles are read all or none, and become one.
    """

    oldest: int
    together: int


def reach_of(view: ViewPlan, hop: int, batch_end: int) -> Reach:
    """Return the reach of a view's windows on a grid."""
    windows = [each.window for each in view.features if each.window.hop == hop]
    oldest = min(each.tail(batch_end) for each in windows)
    edges = [each.head(batch_end) if each.size == LIFETIME else each.tail(batch_end) for each in windows]
    return Reach(oldest, floor_hop(min(edges), hop))


def shared_strings(fields: Sequence[Column]) -> tuple[list[str], list[Column]]:
    """Return one ascending list of all fields' strings, and the fields renumbered to it."""
    lists = [None if each.strings is None else each.strings.to_pylist() for each in fields]
    strings = ascending([text for each in lists if each for text in each if text is not None])
    places = {each: place for place, each in enumerate(strings)}
    found = []
    for column, texts in zip(fields, lists, strict=True):
        if texts is None:
            found.append(column)
            continue
        renumber = np.array([*(places.get(each, NO_STRING) for each in texts), NO_STRING], np.int64)
        found.append(Column(renumber[np.where(column.valid, column.data, -1)], column.valid, None, column.inner))
    return strings, found


def section_rows(section: Section, named: dict[str, tuple[StateField, Column]], events: Events, reach: Reach) -> Rows:
    """Return a section's rows over the events that windows reach."""
    kept = events.ts >= reach.oldest
    entity, ts = events.entity[kept], events.ts[kept]
    start = np.where(ts < reach.together, EARLIER, floor_hop(ts, section.hop))
    new = np.ones(len(entity), np.bool_)
    new[1:] = (entity[1:] != entity[:-1]) | (start[1:] != start[:-1])
    tie = None if events.tie is None else events.tie[kept]
    if section.kind == "tiles":
        return tile_rows(section, named, kept, tie, (entity, start, new))
    field, column = named[section.field]
    data, valid = taken(column, kept, tie if field.kind in NEEDS_ORDER else None)
    group = np.cumsum(new) - 1
    entity, start, group, data = entity[valid], start[valid], group[valid], data[valid]
    if section.kind == "entries":
        chosen = best_of_each(field, group, data)
        return Rows.of(entity[chosen], {"start": start[chosen], "value": data[chosen]})
    order = np.lexsort((data, group))
    first = np.ones(len(order), np.bool_)
    first[1:] = (group[order][1:] != group[order][:-1]) | (data[order][1:] != data[order][:-1])
    at = np.flatnonzero(first)
    counts = np.diff(np.append(at, len(order)))
    rows = order[at]
    inner = inner_rows(field, column.rows(np.flatnonzero(kept)).rows(np.flatnonzero(valid)).rows(order), at)
    return Rows.of(entity[rows], {"start": start[rows], "value": data[rows], "count": counts.astype(np.int64), **inner})


def best_of_each(field: StateField, group: Ints, data: Ints) -> Ints:
    """Return the positions of each group's `k` best entries, ascending; entries stand by (ts, id)."""
    if field.kind in ("top_k", "bottom_k"):
        rank = data if field.kind == "bottom_k" else ~data  # ~ reverses the order of any int64
        order = np.lexsort((rank, group))
        return np.sort(order[np.arange(len(order)) - np.searchsorted(group, group) < field.k])
    side: Literal["left", "right"] = "left" if field.kind == "first_k" else "right"
    away = np.abs(np.arange(len(group)) - np.searchsorted(group, group, side=side) + (field.kind == "last_k"))
    return np.flatnonzero(away < field.k)


def inner_rows(field: StateField, column: Column, at: Ints) -> dict[str, Ints]:
    """Return the further fields of a multiset over the runs of events that begin at `at`."""
    states = [tile_state(each, own.data, own.valid, at) for each, own in zip(field.inner, column.inner, strict=True)]
    names = field_prints(field.inner)
    return {name: data for name, (data, _) in zip(names, states, strict=True)} | validity(
        [known for _, known in states]
    )


def taken(column: Column, kept: Bools, tie: Ints | None) -> tuple[Ints, Bools]:
    """Return the kept values; where every copy counts, those of equal (ts, id) in the order of their values."""
    found = Column(column.data[kept], column.valid[kept])
    if tie is not None:
        found = by_value(found, tie)
    return found.data, found.valid


def tile_rows(
    section: Section, named: dict[str, tuple[StateField, Column]], kept: Bools, tie: Ints | None,
    tiles: tuple[Ints, Ints, Bools],
) -> Rows:  # fmt: skip
    """Return the scalar state of each tile."""
    entity, start, new = tiles
    at = np.flatnonzero(new)
    columns, valid = {}, []
    for name in section.fields():
        field, column = named[name]
        ordered = field.kind in ("first", "last")
        data, present = taken(column, kept, tie if ordered else None)
        columns[name], known = tile_state(field, data, present, at)
        valid.append(known)
    return Rows.of(entity[at], {"start": start[at], **validity(valid), **columns})


def tile_state(field: StateField, data: Ints, valid: Bools, at: Ints) -> tuple[Ints, Bools]:
    """Return a field's state over the runs of events that begin at `at`."""
    if not len(at):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    if field.kind == "add":
        return tile_sums(np.where(valid, data, 0), at), np.ones(len(at), np.bool_)
    known = np.logical_or.reduceat(valid, at)
    if field.kind == "min":
        return np.minimum.reduceat(np.where(valid, data, INT64_MAX), at), known
    if field.kind == "max":
        return np.maximum.reduceat(np.where(valid, data, INT64_MIN), at), known
    places = np.arange(len(data))
    if field.kind == "first":
        chosen = np.minimum.reduceat(np.where(valid, places, len(data) - 1), at)
    else:
        chosen = np.maximum.reduceat(np.where(valid, places, 0), at)
    return np.where(known, data[chosen], NO_STRING), known


def tile_sums(data: Ints, at: Ints) -> Ints:
    """Return the sum of each run; one of 2**22 rows or more is checked against overflow."""
    if np.diff(np.append(at, len(data))).max() >= SAFE_ROWS:
        rough = np.add.reduceat(data.astype(np.float64), at)
        if np.abs(rough).max() > VALUE_LIMIT:
            message = f"the sum of a tile of over {SAFE_ROWS} rows passes 2**62; declare a tighter range"
            raise EngineError(message)
    found: Ints = np.add.reduceat(data, at)
    return found
