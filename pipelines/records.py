"""Records: all tiles of one entity of a view, packed into one blob.

An upload writes closed records, the store keeps open ones beside them; one read takes both. A record is
int64 words, little endian, then strings::

    words before the lengths | number of strings | rows of section 0 .. S-1 | columns, section by section | lengths | UTF-8

The words of a section stand column by column, its rows ascending. A string is the number of its place among
the record's strings, which ascend by their UTF-8 bytes, so that numbers order as strings do. The blob is
padded to whole words.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.plan import ViewPlan
from unskew.pipelines.states import LISTS, SCALARS, StateField, prefix_sums
from unskew.pipelines.timegrid import LIFETIME

Ints = NDArray[np.int64]
SectionKind = Literal["tiles", "values", "entries"]
HEADER = 2  # words before the row counts
WORDS = struct.Struct("<qq")
NO_STRING = -1  # the place that stands for null
BITS = 62  # of a word of validity
EARLIER = -LIFETIME // 2  # start of the closed tile that holds all before the reach of finite windows, ms
VERSION = ("n", "ts", "max_ts", "arrival", "min_arrival", "set_hash", "seq")
VALUE = ("value", "count")  # of a multiset's rows


@dataclass(frozen=True)
class Section:
    """Rows of one kind, ascending by `start`.

    Parameters
    ----------
    kind
        `tiles`: one row a tile (open: one a version); `values`: a multiset's counts; `entries`: a list's.
    hop
        Grid of `start`, ms.
    columns
        Names of the int64 columns, ``start`` first; a scalar field's column is named by its fingerprint.
    strings
        Those of the columns that hold places of strings.
    field
        Fingerprint of the multiset or list, else empty.
    """

    kind: SectionKind
    hop: int
    columns: tuple[str, ...]
    strings: tuple[str, ...] = ()
    field: str = ""

    def fields(self) -> tuple[str, ...]:
        """Return the columns of scalar fields, in the order of their bits of validity."""
        known = ("start", *VALUE, *VERSION)
        return tuple(each for each in self.columns if each not in known and not each.startswith("valid"))

    def to_json(self) -> list[object]:
        """Return the canonical form."""
        return [self.kind, self.hop, list(self.columns), list(self.strings), self.field]


@dataclass(frozen=True)
class Layout:
    """The sections of a view's records."""

    sections: tuple[Section, ...]

    def to_json(self) -> list[object]:
        """Return the canonical form, which the store keeps beside the records."""
        return [each.to_json() for each in self.sections]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> Layout:
        """Read `to_json` back."""
        return cls(tuple(Section(a, b, tuple(c), tuple(d), e) for a, b, c, d, e in content))


@dataclass(frozen=True)
class Rows:
    """Rows of one section of many records.

    Parameters
    ----------
    record
        (m,) ascending record numbers.
    names
        Of the columns.
    cells
        (columns, m).
    """

    record: Ints
    names: tuple[str, ...]
    cells: Ints

    @classmethod
    def of(cls, record: Ints, columns: Mapping[str, Ints]) -> Rows:
        """Return rows of (m,) columns by name."""
        return cls(
            record, tuple(columns), np.array(list(columns.values()), np.int64).reshape(len(columns), len(record))
        )

    def column(self, name: str) -> Ints:
        """Return one column."""
        found: Ints = self.cells[self.names.index(name)]
        return found

    def taken(self, places: Ints) -> Rows:
        """Return the rows at the given places."""
        return Rows(self.record[places], self.names, np.take(self.cells, places, axis=1))

    def replaced(self, columns: Mapping[str, Ints]) -> Rows:
        """Return the rows with other columns in the place of some."""
        if not columns:
            return self
        cells = self.cells.copy()
        for name, column in columns.items():
            cells[self.names.index(name)] = column
        return Rows(self.record, self.names, cells)

    def in_order(self, names: tuple[str, ...]) -> Ints:
        """Return the cells of the columns in this order."""
        found: Ints = self.cells if names == self.names else self.cells[[self.names.index(each) for each in names]]
        return found


def field_prints(fields: Sequence[StateField]) -> tuple[str, ...]:
    """Return the fingerprint of each state field."""
    return tuple(each.fingerprint for each in fields)


def closed_layout(view: ViewPlan) -> Layout:
    """Return the sections of closed records: each hop holds the fields that its windows read."""
    sections: list[Section] = []
    for hop in view.hops:
        read = sorted({each for feature in view.features if feature.window.hop == hop for each in feature.fields})
        sections += sections_of(view, hop, read, (), ("start", "value"), ())
    return Layout(tuple(sections))


def open_layout(view: ViewPlan, ids: Sequence[bool]) -> Layout:
    """Return the sections of open records, on the finest hop; `ids` tells which event ids are strings."""
    named = tuple(f"id{index}" for index in range(len(ids)))
    entries = ("start", "ts", *named, "value", "arrival", "seq")
    texts = tuple(name for name, text in zip(named, ids, strict=True) if text)
    return Layout(tuple(sections_of(view, view.hop, range(len(view.fields)), VERSION, entries, texts)))


def sections_of(
    view: ViewPlan, hop: int, read: Sequence[int], version: tuple[str, ...], entries: tuple[str, ...],
    texts: tuple[str, ...],
) -> list[Section]:  # fmt: skip
    """Return one section for the scalar fields that are read, and one for each multiset and list."""
    prints = field_prints(view.fields)
    text = {index for index in read if view.fields[index].lift.type.kind == "string"}
    scalars = [index for index in read if view.fields[index].kind in SCALARS]
    columns = ("start", *version, *flags(len(scalars)), *(prints[index] for index in scalars))
    found = [Section("tiles", hop, columns, tuple(prints[index] for index in scalars if index in text))]
    for index in read:
        own = ("value",) if index in text else ()
        if view.fields[index].kind == "multiset":
            inner = field_prints(view.fields[index].inner)
            counted = tuple(each for each in version if each not in ("n", "set_hash"))
            columns = ("start", *VALUE, *counted, *flags(len(inner)), *inner)
            found.append(Section("values", hop, columns, own, prints[index]))
        if view.fields[index].kind in LISTS:
            found.append(Section("entries", hop, entries, (*texts, *own), prints[index]))
    return found


def flags(fields: int) -> tuple[str, ...]:
    """Return the names of the words of validity of so many fields."""
    return tuple(f"valid{index}" for index in range(-(-fields // BITS)))


def validity(valid: Sequence[NDArray[np.bool_]]) -> dict[str, Ints]:
    """Return the words of validity of a section's scalar fields, by name."""
    found: dict[str, Ints] = {}
    for index, each in enumerate(valid):
        name = f"valid{index // BITS}"
        bits = each.astype(np.int64) << (index % BITS)
        found[name] = found[name] | bits if name in found else bits
    return found


def ascending(strings: Sequence[str]) -> list[str]:
    """Return the distinct strings by their UTF-8 bytes, which is how they are ordered everywhere."""
    return sorted(set(strings), key=str.encode)


def pack(layout: Layout, rows: Sequence[Rows], records: int, strings: Sequence[str] = ()) -> list[bytes]:
    """Pack rows of many records.

    Parameters
    ----------
    rows
        For each section its rows; columns of strings hold places in `strings`.
    records
        Number of records; one without rows is packed too.
    strings
        Ascending by their UTF-8 bytes.
    """
    rows, pairs = local_places(layout, rows, max(len(strings), 1))
    counts = [np.bincount(each.record, minlength=records) for each in rows]
    lengths = np.bincount(pairs[0], minlength=records)  # strings of each record
    encoded = [strings[place].encode() for place in pairs[1]]
    size = np.array([len(each) for each in encoded], np.int64)
    padded = -(-np.bincount(pairs[0], weights=size, minlength=records).astype(np.int64) // 8)
    words = len(rows) + sum(n * len(each.columns) for n, each in zip(counts, layout.sections, strict=True))
    offsets = prefix_sums(HEADER + words + lengths + padded)
    at = offsets[:-1]
    out = np.zeros(int(offsets[-1]), np.int64)
    out[at], out[at + 1] = words, lengths
    place = at + HEADER + len(rows)
    for index, (n, each, section) in enumerate(zip(counts, rows, layout.sections, strict=True)):
        out[at + HEADER + index] = n
        out[cell_places(section, place, n, each.record)] = each.in_order(section.columns)
        place = place + n * len(section.columns)
    if encoded:
        first = prefix_sums(lengths)[:-1]
        out[(place - first)[pairs[0]] + np.arange(len(size))] = size
        text = np.frombuffer(b"".join(encoded), np.uint8)
        begin = (place + lengths) * 8 - prefix_sums(size)[first]
        out.view(np.uint8)[np.repeat(begin[pairs[0]], size) + np.arange(len(text))] = text
    raw = out.tobytes()
    return [raw[a * 8 : b * 8] for a, b in pairwise(offsets.tolist())]


def cell_places(section: Section, place: Ints, n: Ints, record: Ints) -> Ints:
    """Return where the cells of a section stand among the words, (columns, m).

    Parameters
    ----------
    place, n
        Where each record's section begins, and how many rows it has.
    record
        (m,) of each row, ascending.
    """
    first = place[record] + np.arange(len(record)) - (np.cumsum(n) - n)[record]
    found: Ints = first + np.arange(len(section.columns))[:, None] * n[record]
    return found


def local_places(layout: Layout, rows: Sequence[Rows], size: int) -> tuple[list[Rows], tuple[Ints, Ints]]:
    """Return the rows with strings as places among each record's own, and the (record, place) pairs in order."""
    keys = [
        np.where(column >= 0, each.record * size + column, NO_STRING)
        for each, section in zip(rows, layout.sections, strict=True)
        for column in map(each.column, section.strings)
    ]
    unique = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    unique = unique[np.searchsorted(unique, 0) :]
    record = unique // size
    within = np.append(np.arange(len(unique)) - np.searchsorted(record, record), NO_STRING)
    left = iter(keys)
    found = []
    for each, section in zip(rows, layout.sections, strict=True):
        own = {name: next(left) for name in section.strings}
        found.append(
            each.replaced({n: within[np.where(key < 0, -1, np.searchsorted(unique, key))] for n, key in own.items()})
        )
    return found, (record, unique % size)


def unpack(layout: Layout, records: Sequence[bytes]) -> tuple[list[Rows], list[str]]:
    """Unpack records into rows by section and the strings that they name, ascending.

    Parameters
    ----------
    records
        As `pack` wrote them; an empty blob is a record without rows.
    """
    blob = b"".join(records)
    words = np.frombuffer(blob, np.int64)
    size = np.array([len(each) // 8 for each in records], np.int64)
    full = np.flatnonzero(size)
    at = (np.cumsum(size) - size)[full]
    texts, first = strings_of(blob, words, at)
    strings = ascending(texts)
    places = {each: place for place, each in enumerate(strings)}
    renumber = np.array([*(places[each] for each in texts), NO_STRING], np.int64)
    found: list[Rows] = []
    place = at + HEADER + len(layout.sections)
    for index, section in enumerate(layout.sections):
        n = words[at + HEADER + index]
        owner = np.repeat(np.arange(len(full)), n)
        rows = Rows(full[owner], section.columns, words[cell_places(section, place, n, owner)])
        own = {name: rows.column(name) for name in section.strings}
        found.append(
            rows.replaced({name: renumber[np.where(each < 0, -1, first[owner] + each)] for name, each in own.items()})
        )
        place = place + n * len(section.columns)
    return found, strings


def strings_of(blob: bytes, words: Ints, at: Ints) -> tuple[list[str], Ints]:
    """Return the strings of all records, record by record, and which is the first of each.

    Parameters
    ----------
    blob, words
        All records.
    at
        Where each begins.
    """
    count = words[at + 1]
    first = np.cumsum(count) - count
    owner = np.repeat(np.arange(len(at)), count)
    begin = at + HEADER + words[at]
    lengths = words[(begin - first)[owner] + np.arange(len(owner))]
    before = prefix_sums(lengths)
    starts = ((begin + count) * 8 - before[first])[owner] + before[:-1]
    return [blob[a:b].decode() for a, b in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)], first


def record_strings(record: bytes) -> list[str]:
    """Return the strings of one record, ascending."""
    words, count = WORDS.unpack_from(record)
    if not count:
        return []
    at = 8 * (HEADER + words)
    lengths = np.frombuffer(record, np.int64, count, at)
    ends = (np.cumsum(lengths) + at + 8 * count).tolist()
    return [record[a:b].decode() for a, b in zip([at + 8 * count, *ends], ends, strict=False)]
