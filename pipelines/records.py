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

from unskew.pipelines.plan import ViewPlan, fingerprint
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
    """Rows of one section of many records: (m,) ascending record numbers, (m,) columns by name."""

    record: Ints
    columns: Mapping[str, Ints]


def field_prints(fields: Sequence[StateField]) -> tuple[str, ...]:
    """Return the fingerprint of each state field."""
    return tuple(fingerprint(each.to_json()) for each in fields)


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
    local, pairs = local_places(layout, rows, max(len(strings), 1))
    counts = [np.bincount(each.record, minlength=records) for each in rows]
    lengths = np.bincount(pairs[0], minlength=records)  # strings of each record
    encoded = [strings[place].encode() for place in pairs[1]]
    size = np.array([len(each) for each in encoded], np.int64)
    text = -(-np.bincount(pairs[0], weights=size, minlength=records).astype(np.int64) // 8)
    words = len(rows) + sum(n * len(each.columns) for n, each in zip(counts, layout.sections, strict=True))
    offsets = prefix_sums(HEADER + words + lengths + text)
    at = offsets[:-1]
    out = np.zeros(int(offsets[-1]), np.int64)
    out[at], out[at + 1] = words, lengths
    place = at + HEADER + len(rows)
    for index, (n, each, section) in enumerate(zip(counts, rows, layout.sections, strict=True)):
        out[at + HEADER + index] = n
        within = np.arange(len(each.record)) - np.repeat(np.cumsum(n) - n, n)
        for name in section.columns:
            out[place[each.record] + within] = local.get((index, name), each.columns[name])
            place = place + n
    if encoded:
        first = np.repeat(np.cumsum(lengths) - lengths, lengths)
        out[place[pairs[0]] + np.arange(len(size)) - first] = size
        write_strings(out.view(np.uint8), (place + lengths) * 8, lengths, encoded)
    raw = out.tobytes()
    return [raw[a * 8 : b * 8] for a, b in pairwise(offsets.tolist())]


def write_strings(out: NDArray[np.uint8], at: Ints, lengths: Ints, encoded: Sequence[bytes]) -> None:
    """Write each record's strings end to end, from byte `at` on."""
    bounds = prefix_sums(lengths)
    for record in np.flatnonzero(lengths):
        joined = b"".join(encoded[bounds[record] : bounds[record + 1]])
        out[at[record] : at[record] + len(joined)] = np.frombuffer(joined, np.uint8)


def local_places(
    layout: Layout, rows: Sequence[Rows], size: int
) -> tuple[dict[tuple[int, str], Ints], tuple[Ints, Ints]]:
    """Return the columns of strings as places among each record's own, and the (record, place) pairs in order."""
    texts = [
        (index, name, each)
        for index, (each, section) in enumerate(zip(rows, layout.sections, strict=True))
        for name in section.strings
    ]
    keys = [each.record * size + each.columns[name] for _, name, each in texts]
    used = [key[each.columns[name] >= 0] for key, (_, name, each) in zip(keys, texts, strict=True)]
    unique = np.unique(np.concatenate(used)) if used else np.zeros(0, np.int64)
    record = unique // size
    first = np.searchsorted(record, record)
    local = {}
    for (index, name, each), key in zip(texts, keys, strict=True):
        at = np.minimum(np.searchsorted(unique, key), max(len(unique) - 1, 0))
        local[index, name] = (
            np.where(each.columns[name] >= 0, at - first[at], NO_STRING) if len(unique) else each.columns[name]
        )
    return local, (record, unique % size)


def unpack(layout: Layout, records: Sequence[bytes]) -> tuple[list[Rows], list[str]]:
    """Unpack records into rows by section and the strings that they name, ascending.

    Parameters
    ----------
    records
        As `pack` wrote them; an empty blob is a record without rows.
    """
    words = np.frombuffer(b"".join(records), np.int64)
    size = np.array([len(each) // 8 for each in records], np.int64)
    full = np.flatnonzero(size)
    at = (np.cumsum(size) - size)[full]
    strings, renumber, first = shared_places([record_strings(records[each]) for each in full])
    found: list[Rows] = []
    place = at + HEADER + len(layout.sections)
    for index, section in enumerate(layout.sections):
        n = words[at + HEADER + index]
        owner = np.repeat(np.arange(len(full)), n)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(n) - n, n)
        columns: dict[str, Ints] = {}
        for name in section.columns:
            column = words[place[owner] + within]
            if name in section.strings and len(renumber):
                column = np.where(column >= 0, renumber[np.maximum(first[owner] + column, 0)], NO_STRING)
            columns[name] = column
            place = place + n
        found.append(Rows(full[owner], columns))
    return found, strings


def shared_places(own: Sequence[Sequence[str]]) -> tuple[list[str], Ints, Ints]:
    """Return all strings ascending, the place of each record's strings among them, where each record's begin."""
    together = ascending([text for each in own for text in each])
    places = {each: place for place, each in enumerate(together)}
    count = np.array([len(each) for each in own], np.int64)
    return together, np.array([places[text] for each in own for text in each], np.int64), np.cumsum(count) - count


def record_strings(record: bytes) -> list[str]:
    """Return the strings of one record, ascending."""
    words, count = WORDS.unpack_from(record)
    if not count:
        return []
    at = 8 * (HEADER + words)
    lengths = np.frombuffer(record, np.int64, count, at)
    ends = (np.cumsum(lengths) + at + 8 * count).tolist()
    return [record[a:b].decode() for a, b in zip([at + 8 * count, *ends], ends, strict=False)]
