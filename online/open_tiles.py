"""Open records and how rows of the stream merge into them: guarded, idempotent, with versions of the last seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unskew.online.kernels import Ints, guarded
from unskew.pipelines.records import NO_STRING, Layout, Rows, Section, ascending
from unskew.pipelines.states import StateField


class Merged(NamedTuple):
    """Rows by section; for each record what `store.Changed` counts."""

    sections: list[Rows]
    rejected: Ints
    applied: Ints
    overtaken: Ints


def merge(
    layout: Layout, old: Sequence[Rows], new: Sequence[Rows], *, records: int, fields: Mapping[str, StateField],
    copies: bool, superseded: int, batch_end: int,
) -> Merged:  # fmt: skip
    """Merge the stream's rows into records.

    Parameters
    ----------
    old, new
        For each section the rows of the same records; new ones in the order in which the stream wrote them.
    records
        How many there are.
    fields
        The view's state fields, by fingerprint.
    copies
        Whether the source counts every copy: then its entries are told apart by their sequence too.
    superseded
        Versions followed by one that arrived before this instant (ms) are dropped.
    batch_end
        Tiles that start before it are closed, and dropped here.
    """
    found: list[Rows] = []
    rejected, applied, overtaken = (np.zeros(records, np.int64) for _ in range(3))
    for section, before, after in zip(layout.sections, old, new, strict=True):
        rows = open_rows(section, before, after, batch_end)
        if section.kind == "entries":
            found.append(merge_entries(section, rows, fields[section.field], copies, superseded))
            continue
        rows, refused = merge_versions(section, rows, superseded)
        found.append(rows)
        rejected += np.bincount(refused, minlength=records)
        if section.kind == "tiles":
            stood = since(before, batch_end)
            applied += newest_counts(rows, records) - newest_counts(stood, records)
            overtaken += np.bincount(after.record[after.column("start") < batch_end], minlength=records)
    return Merged(found, rejected, applied, overtaken)


def newest_counts(rows: Rows, records: int) -> Ints:
    """Return the sum of the newest row counts of each record's tiles; rows stand by (record, tile), the newest last."""
    tile = groups(rows.record, rows.column("start"))
    newest = np.ones(len(tile), np.bool_)
    newest[:-1] = tile[:-1] != tile[1:]
    found = np.zeros(records, np.int64)
    np.add.at(found, rows.record[newest], rows.column("n")[newest])
    return found


def open_rows(section: Section, before: Rows, after: Rows, batch_end: int) -> Rows:
    """Return old and new rows one after the other, without those of closed tiles."""
    record = np.concatenate((before.record, after.record))
    cells = np.concatenate((before.in_order(section.columns), after.in_order(section.columns)), axis=1)
    return since(Rows(record, section.columns, cells), batch_end)


def since(rows: Rows, batch_end: int) -> Rows:
    """Return the rows of tiles that are open."""
    opened = rows.column("start") >= batch_end
    return rows if opened.all() else rows.taken(np.flatnonzero(opened))


def groups(*columns: Ints) -> Ints:
    """Return the number of each row's run of equal rows in sorted columns."""
    new = np.zeros(len(columns[0]), np.bool_)
    for each in columns:
        new[1:] |= each[1:] != each[:-1]
    return np.cumsum(new)


def merge_versions(section: Section, rows: Rows, superseded: int) -> tuple[Rows, Ints]:
    """Keep the newest version of each tile or value, and those that were the newest a moment ago.

    Returns
    -------
    tuple
        The rows, and the record of each row that the guard rejected.
    """
    count = "count" if section.kind == "values" else "n"
    keys = [rows.record, rows.column("start"), *([rows.column("value")] if section.kind == "values" else [])]
    order = np.lexsort(keys[::-1])  # stable: within a key in the order of the writes
    group = groups(*(each[order] for each in keys))
    stays, refused = guarded(group, rows.column(count)[order], rows.column("min_arrival")[order])
    rejected = rows.record[order[refused]]
    order, group = order[stays], group[stays]
    followed = np.zeros(len(group), np.bool_)
    followed[:-1] = (group[:-1] == group[1:]) & (rows.column("arrival")[order[1:]] < superseded)
    return rows.taken(order[~followed]), rejected


def merge_entries(section: Section, rows: Rows, field: StateField, copies: bool, superseded: int) -> Rows:
    """Keep each tile's `k` best entries, and those that were among them a moment ago; each entry once."""
    ids = [name for name in section.columns if name.startswith("id")]
    order = ["start", "ts", *ids, *(["value", "seq"] if copies else [])]
    keys = [rows.record, *map(rows.column, order)]
    place = np.lexsort(keys[::-1])
    entry = groups(*(each[place] for each in keys))
    first = np.ones(len(entry), np.bool_)
    first[1:] = entry[1:] != entry[:-1]
    rows = rows.taken(place[first])
    tile = groups(rows.record, rows.column("start"))
    best = best_first(field, tile, rows.column("value"))
    settled = np.append(0, np.cumsum((rows.column("arrival") < superseded)[best]))
    better = np.empty(len(tile), np.int64)
    better[best] = settled[:-1] - settled[np.searchsorted(tile, tile)]  # settled entries of the tile that are better
    return rows.taken(np.flatnonzero(better < field.k))


def best_first(field: StateField, tile: Ints, value: Ints) -> Ints:
    """Return the order of entries by tile, the best first; entries stand by (tile, ts, id)."""
    place = np.arange(len(tile))
    rank = {"first_k": place, "last_k": -place, "bottom_k": value, "top_k": ~value}[field.kind]  # ~ reverses any int64
    found: Ints = np.lexsort((rank, tile))
    return found


class Vocabulary:
    """Strings of old records and of new rows under common places, ascending."""

    def __init__(self, old: Sequence[str], new: Sequence[str]) -> None:
        self.strings = ascending([*old, *new])
        self.places = {each: place for place, each in enumerate(self.strings)}
        self.renumber = np.array([*(self.places[each] for each in old), NO_STRING], np.int64)

    def old_rows(self, section: Section, rows: Rows) -> Rows:
        """Return rows of old records under the common places."""
        return rows.replaced({name: self.renumber[rows.column(name)] for name in section.strings})
