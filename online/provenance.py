"""Where an online value comes from: the tiles that a read of one feature merges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unskew.online.kernels import Ints
from unskew.online.program import Program, validity_place
from unskew.online.read import FeatureReader
from unskew.online.store import Pointer
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.plan import FeaturePlan, ViewPlan
from unskew.pipelines.records import EARLIER, Rows, Section, unpack
from unskew.pipelines.timegrid import floor_hop


@dataclass(frozen=True)
class TileRow:
    """One row that a read merges: of a tile, of a value in a tile, or an entry of a list.

    Parameters
    ----------
    side
        ``closed`` (from the upload) or ``open`` (from the stream).
    start, end
        The tile, ``start <= ts < end``, ms; `start` is None for the tile that holds all before the windows' reach.
    cells
        What it holds: the state by field, value, count or the entry's own event time.
    """

    side: str
    start: int | None
    end: int
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Provenance:
    """A value, its window (tail inclusive, head exclusive, ms), what was read of the source, and the rows merged."""

    feature: FeaturePlan
    value: Any
    tail: int
    head: int
    pointer: Pointer
    rows: Sequence[TileRow]


def provenance(reader: FeatureReader, row: Mapping[str, Any], at: int, name: str) -> Provenance:
    """Read one feature for one row of keys, and return the tiles that make up its value.

    Raises
    ------
    InputError
        If the set has no such feature, or it is derived.
    """
    views = {each.name: view for view in reader.plan.reads for each in view.features}
    if name not in views:
        derived = name in {each.name for each in reader.plan.derived}
        hint = "it is derived: explain what it is made of" if derived else nearest(name, list(views))
        message = f"feature `{name}` has no tiles; {hint}"
        raise InputError(message)
    view = views[name]
    feature = next(each for each in view.features if each.name == name)
    reading = reader.read([row], at)
    keys = reader.form.asked([row]).keys
    pointers, records, _ = reader.of_one_moment(keys)
    program = reader.program(view, pointers)
    ((closed, opened),) = records[view.name]
    pointer = pointers[view.source]
    found = [
        *closed_rows(view, feature, program, closed or b"", at, pointer.batch_end),
        *open_rows(view, feature, program, opened or b"", at, pointer.batch_end),
    ]
    return Provenance(feature, reading.row()[name], feature.window.tail(at), feature.window.head(at), pointer, found)


def closed_rows(
    view: ViewPlan, feature: FeaturePlan, program: Program, record: bytes, at: int, batch_end: int
) -> Iterator[TileRow]:
    """Yield the rows of the uploaded record that a read merges."""
    window = feature.window
    sections, strings = unpack(program.closed, [record])
    for section, rows in zip(program.closed.sections, sections, strict=True):
        if section.hop == window.hop and (names := fields_of(view, feature, program, section)):
            start = rows.column("start")
            for each in np.flatnonzero((start >= window.tail(at)) & (start < min(window.head(at), batch_end))):
                begin = int(start[each])
                held = cells(section, rows, each, names, strings)
                yield TileRow("closed", None if begin == EARLIER else begin, begin + window.hop, held)


def open_rows(
    view: ViewPlan, feature: FeaturePlan, program: Program, record: bytes, at: int, batch_end: int
) -> Iterator[TileRow]:
    """Yield the rows of the stream's record that a read merges: of each tile or value the version that it takes."""
    window = feature.window
    sections, strings = unpack(program.opened, [record])
    for section, rows in zip(program.opened.sections, sections, strict=True):
        if names := fields_of(view, feature, program, section):
            start = rows.column("start")
            inside = (start >= max(window.tail(at), batch_end)) & (start < window.head(at))
            for each in taken(section, rows, inside, floor_hop(at, view.hop), at):
                begin = int(start[each])
                yield TileRow("open", begin, begin + view.hop, cells(section, rows, each, names, strings))


def taken(section: Section, rows: Rows, inside: Any, head_tile: int, at: int) -> list[int]:
    """Return the rows that a read takes: entries before the instant, else the newest version that it may know."""
    if section.kind == "entries":
        return [int(each) for each in np.flatnonzero(inside & (rows.column("ts") < at))]
    known = inside & ((rows.column("start") != head_tile) | (rows.column("max_ts") < at))
    newest: dict[tuple[int, int], int] = {}
    for each in np.flatnonzero(known):
        value = int(rows.column("value")[each]) if section.kind == "values" else 0
        newest[int(rows.column("start")[each]), value] = int(each)
    return list(newest.values())


def fields_of(view: ViewPlan, feature: FeaturePlan, program: Program, section: Section) -> dict[str, str]:
    """Return the section's columns that the feature reads, and what to call them; none where it reads another."""
    prints = [program.prints[each] for each in feature.fields]
    if section.kind == "tiles":
        kinds = [view.fields[each].kind for each in feature.fields]
        return {
            own: f"{kind} {number}"
            for number, (own, kind) in enumerate(zip(prints, kinds, strict=True), 1)
            if own in section.columns
        }
    if section.field != prints[0]:
        return {}
    if section.kind == "entries":
        return {name: name for name in ("ts", "value") if name in section.columns}
    return {"value": "value", "count": "count"} | {
        name: f"field {number}" for number, name in enumerate(section.fields(), 1)
    }


def cells(section: Section, rows: Rows, row: int, names: Mapping[str, str], strings: Sequence[str]) -> dict[str, Any]:
    """Return a row's cells as Python values; strings by their text, null as None."""
    return {label: cell(section, rows, row, name, strings) for name, label in names.items()}


def cell(section: Section, rows: Rows, row: int, name: str, strings: Sequence[str]) -> Any:
    """Return one cell."""
    column: Ints = rows.column(name)
    value = int(column[row])
    if name in section.fields():
        flags, bit = validity_place(section, name)
        if not int(rows.column(section.columns[flags])[row]) >> bit & 1:
            return None
    if name in section.strings:
        return strings[value] if value >= 0 else None
    return value
