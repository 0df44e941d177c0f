"""A bucket's Arrow rows as the kernels take them: copies dropped, sorted, strings as codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from unskew.backfill.order import flat, numbers, ranks, sorted_rows
from unskew.backfill.window_states import Column, Events
from unskew.pipelines.plan import SourcePlan, ViewPlan
from unskew.pipelines.states import NEEDS_ORDER, StateField
from unskew.pipelines.types import INT64_MAX


def without(events: pa.Table, copies: pa.Table | None) -> pa.Table:
    """Return the rows without copies that never count; ``__known`` and ``__until`` say when others do."""
    if copies is None:
        return events
    order = np.argsort(numbers(copies["__position"]))
    position, since, until = (numbers(copies[each])[order] for each in ("__position", "__from", "__until"))
    own = numbers(events["__position"])
    at = np.minimum(np.searchsorted(position, own), len(position) - 1)
    copied = position[at] == own
    never = copied & (until[at] <= since[at])
    if "__known" in events.column_names and bool((copied & ~never).any()):
        known = np.where(copied, since[at], numbers(events["__known"]))
        place = events.column_names.index("__known")
        ends = np.where(copied, until[at], INT64_MAX)
        events = events.set_column(place, "__known", pa.array(known)).append_column("__until", pa.array(ends))
    return events.filter(pa.array(~never))


def sorted_events(source: SourcePlan, events: pa.Table) -> pa.Table:
    """Return a bucket's rows by (entity, ts, id, position)."""
    ids = [ranks(events[f"__i{index}"]) for index in range(len(source.event_id))]
    order = sorted_rows(numbers(events["__entity"]), [numbers(events["__ts"]), *ids, numbers(events["__position"])])
    return events.combine_chunks().take(pa.array(order))


def bucket_events(
    view: ViewPlan, source: SourcePlan, events: pa.Table | None, fields: Sequence[Sequence[str]]
) -> Events:
    """Return sorted rows as the kernels take them; `fields` are the columns of each field's lifts."""
    if events is None:
        none = np.zeros(0, np.int64)
        return Events(none, none, None, [empty_column(each) for each in view.fields])
    columns = [field_column(events, *each) for each in fields]
    known, until = (numbers(events[each]) if each in events.column_names else None for each in ("__known", "__until"))
    tie = None
    if not source.deduplicate and any(each.kind in NEEDS_ORDER for each in view.fields):
        tie = runs(events.select(["__entity", "__ts", *(f"__i{index}" for index in range(len(source.event_id)))]))
    return Events(numbers(events["__entity"]), numbers(events["__ts"]), known, columns, tie, until)


def empty_column(field: StateField) -> Column:
    """Return a field's column over no events."""
    strings = pa.array([], pa.string()) if field.lift.type.kind == "string" else None
    inner = tuple(empty_column(each) for each in field.inner)
    return Column(np.zeros(0, np.int64), np.zeros(0, np.bool_), strings, inner)


def field_column(events: pa.Table, lift: str, *inner: str) -> Column:
    """Return a field's lifts; strings as codes."""
    column = events[lift]
    valid = column.is_valid().to_numpy().astype(np.bool_, copy=False)
    if not pa.types.is_string(column.type):
        return Column(numbers(column), valid, None, tuple(field_column(events, each) for each in inner))
    encoded = flat(column).dictionary_encode()
    codes = numbers(pa.chunked_array([encoded.indices]))
    return Column(codes, valid, encoded.dictionary, tuple(field_column(events, each) for each in inner))


def runs(keys: pa.Table) -> Any:
    """Return the number of each row's run of equal rows in a sorted table."""
    new = np.zeros(keys.num_rows, np.bool_)
    for each in keys.columns:
        values = flat(each).dictionary_encode().indices.to_numpy()
        new[1:] |= values[1:] != values[:-1]
    return np.cumsum(new).astype(np.int64)
