"""Rows as they were served, with what each tile that was read knew: for `unskew parity --served`.

A row is one JSON object::

    set, fingerprint    of the definitions
    at                  the instant, ms
    row                 keys and request columns, encoded
    values              feature -> value; instants in ms, maps as pairs
    sources             source -> generation, epoch, cut, batch_end (ms)
    views               view -> section -> rows; a section is named by its kind and field
      tiles             start (ms), rows, set hash, sequence of the version that was read
      values:FIELD      start, value, count of each value of a multiset
      entries:FIELD     event time and ids of each entry of a list
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from unskew.online.asked import Asked, Form
from unskew.online.columns import Columns
from unskew.online.provenance import taken
from unskew.online.read import Reading
from unskew.online.view_read import ViewRead
from unskew.pipelines.plan import ViewPlan
from unskew.pipelines.records import Rows, Section, unpack
from unskew.pipelines.timegrid import floor_hop

WHOLE = 1 << 32
SERVED, PARITY = "served.jsonl", "parity.json"  # of a run that checks its own rows
COLUMNS = {"tiles": ("start", "n", "set_hash", "seq"), "values": ("start", "value", "count")}


def sampled(key: bytes, share: float) -> bool:
    """Return whether an entity's rows are logged: always, or never (CRC-32 of its key in the store)."""
    return zlib.crc32(key) < share * WHOLE


def served_row(
    reading: Reading, asked: Asked, form: Form, values: Mapping[str, Any], row: int, at: int, fingerprint: str
) -> bytes:
    """Return one row of a reading as JSON.

    Parameters
    ----------
    asked, form
        What the reading was asked, and the columns of its set.
    values
        The row's features by name.
    row
        Its number in the reading.
    at
        Its instant, ms.
    fingerprint
        Of the whole set, of which the reading may be a part.
    """
    views = {each.name: each for each in reading.plan.reads if each.name in reading.views}
    found = {
        "set": reading.plan.name,
        "fingerprint": fingerprint,
        "at": at,
        "row": encoded_row(asked, form, row),
        "values": {name: list(each.items()) if isinstance(each, dict) else each for name, each in values.items()},
        "sources": {
            name: [each.generation, each.epoch, each.cut, each.batch_end] for name, each in reading.pointers.items()
        },
        "views": {name: known_rows(view, reading.views[name], row, at) for name, view in views.items()},
    }
    return orjson.dumps(found)


def known_part(reading: Reading, rows: Sequence[int]) -> Reading:
    """Return what `served_row` takes of some rows of a reading, without their values: it keeps no other rows alive."""
    views = {
        name: ViewRead(each.program, each.batch_end, [(None, each.records[row][1]) for row in rows], each.t[list(rows)])
        for name, each in reading.views.items()
    }
    return Reading(reading.plan, Columns({}, (), {}), reading.pointers, views, reading.hidden, len(rows))


def encoded_row(asked: Asked, form: Form, row: int) -> dict[str, Any]:
    """Return a row's keys and request columns, encoded."""
    found: dict[str, Any] = {name: cells[row] for name, cells in asked.cells.items()}
    for columns, views in form.views.items():
        cells = orjson.loads(asked.keys[views[0]][row])
        found |= {each.name: cell for each, cell in zip(columns, cells, strict=True)}
    return found


def known_rows(view: ViewPlan, read: ViewRead, row: int, at: int) -> dict[str, list[list[Any]]]:
    """Return the rows of the stream that a read of one entity took, by section."""
    record = read.records[row][1]
    if not record:
        return {}
    tail = max(min(each.window.tail(at) for each in view.features), read.batch_end)
    head = max(each.window.head(at) for each in view.features)
    sections, strings = unpack(read.program.opened, [record])
    found = {}
    for section, rows in zip(read.program.opened.sections, sections, strict=True):
        inside = (rows.column("start") >= tail) & (rows.column("start") < head)
        own = taken(section, rows, inside, floor_hop(at, view.hop), at)
        name = f"{section.kind}:{section.field}" if section.field else section.kind
        found[name] = [cells(section, rows, each, strings) for each in own]
    return found


def cells(section: Section, rows: Rows, row: int, strings: Sequence[str]) -> list[Any]:
    """Return what is logged of one row."""
    names = COLUMNS.get(section.kind) or ("ts", *(each for each in section.columns if each.startswith("id")))
    found = [(name, int(rows.column(name)[row])) for name in names]
    return [strings[value] if name in section.strings else value for name, value in found]


def chosen(asked: Asked, share: float) -> list[int]:
    """Return the rows that are logged: those whose first entity is sampled."""
    first = next(iter(asked.keys.values()))
    return [row for row, key in enumerate(first) if sampled(key, share)]
