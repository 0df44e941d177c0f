"""Multisets over windows, out of packed records: each value with its count and further fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unskew.online.kernels import COUNT, NONE, Bools, Ints, value_rows
from unskew.online.program import Program, validity_place
from unskew.online.store import Records
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.records import ascending, field_prints, record_strings
from unskew.pipelines.states import Values, prefix_sums
from unskew.pipelines.types import INT64_MAX, INT64_MIN, VALUE_LIMIT

Sides = tuple[Ints, Ints, Ints, Ints, Ints, Ints]  # closed words, where records begin, widths; the same of open ones


@dataclass(frozen=True)
class Texts:
    """The strings of each request's records under common places, ascending.

    Parameters
    ----------
    strings
        For each request its strings.
    alias, closed, open
        What stands for each string of each record, and where those of a request's two records begin.
    """

    strings: Sequence[Sequence[str]]
    alias: Ints
    closed: Ints
    open: Ints


def common_texts(records: Records) -> Texts:
    """Return the strings of each request's records."""
    strings: list[list[str]] = []
    alias: list[int] = []
    begin: list[int] = []
    for pair in records:
        own = [record_strings(each) if each else [] for each in pair]
        together = ascending([*own[0], *own[1]])
        places = {text: place for place, text in enumerate(together)}
        strings.append(together)
        for side in own:
            begin.append(len(alias))
            alias += [places[text] for text in side]
    at = np.array(begin, np.int64).reshape(-1, 2)
    # one more, so that a request without strings is not taken for one of numbers
    return Texts(strings, np.array([*alias, 0], np.int64), at[:, 0].copy(), at[:, 1].copy())


def window_counts(
    program: Program, feature: FeaturePlan, sides: Sides, t: Ints, batch_end: int, texts: Texts | None
) -> tuple[Values, Ints]:
    """Return the state of a multiset feature, and (R, 2) whether rows of the head tile were ahead, behind.

    Parameters
    ----------
    sides
        Records of R requests.
    t
        (R,) instants, ms.
    texts
        Where the values are strings: what the codes of the state stand for.

    Raises
    ------
    EngineError
        If a sum could pass int64.
    """
    none = np.zeros(0, np.int64)
    field = program.view.fields[feature.fields[0]]
    aliases = (none, none, none) if texts is None else (texts.alias, texts.closed, texts.open)
    window, sections = program.window_rows[feature.name], program.own_sections[feature.name]
    owner, values, is_open, place, rows, flags = value_rows(
        *sides, t, batch_end, program.hop, window, sections, *aliases
    )
    order = np.lexsort((values, owner))
    owner, values = owner[order], values[order]
    found = Found(sides, is_open[order] > 0, place[order], rows[order])
    new = np.ones(len(order), np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (values[1:] != values[:-1])
    at = np.flatnonzero(new)
    sizes = np.bincount(owner[at], minlength=len(t))
    offsets = prefix_sums(sizes)
    counts, _ = merged("add", found.column(COUNT, COUNT), np.ones(len(order), np.bool_), at)
    inner = tuple(
        Values(*merged(each.kind, *found.field(program, sections, name), at))
        for each, name in zip(field.inner, field_prints(field.inner), strict=True)
    )
    return Values(values[at], sizes > 0, offsets, counts, inner), flags


@dataclass(frozen=True)
class Found:
    """Rows of multisets: whether each is open, where it stands in its words, and how many rows its section has, (m,)."""

    sides: Sides
    is_open: Bools
    place: Ints
    rows: Ints

    def column(self, closed: int, opened: int) -> Ints:
        """Return one column, which has another number in closed and in open sections."""
        out = np.empty(len(self.place), np.int64)
        for words, number, mine in ((self.sides[0], closed, ~self.is_open), (self.sides[3], opened, self.is_open)):
            out[mine] = words[self.place[mine] + number * self.rows[mine]]
        return out

    def field(self, program: Program, sections: Ints, name: str) -> tuple[Ints, Bools]:
        """Return a further field of the multiset, and where it is not null."""
        pairs = zip((program.closed, program.opened), sections.tolist(), strict=True)
        own = [layout.sections[at] if at != NONE else None for layout, at in pairs]
        columns = [0 if each is None else each.columns.index(name) for each in own]
        flags = [(0, 0) if each is None else validity_place(each, name) for each in own]
        words = self.column(*(column for column, _ in flags))
        bits = np.where(self.is_open, flags[1][1], flags[0][1])
        return self.column(*columns), (words >> bits & 1) > 0


def merged(kind: str, data: Ints, valid: Bools, at: Ints) -> tuple[Ints, Bools]:
    """Merge the states of each run that begins at `at`."""
    if not len(at):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    known = np.logical_or.reduceat(valid, at)
    if kind == "min":
        return np.minimum.reduceat(np.where(valid, data, INT64_MAX), at), known
    if kind == "max":
        return np.maximum.reduceat(np.where(valid, data, INT64_MIN), at), known
    if np.abs(np.add.reduceat(data.astype(np.float64), at)).max() > VALUE_LIMIT:
        message = "a sum by category passes 2**62; declare a tighter range or a shorter window"
        raise EngineError(message)
    return np.add.reduceat(data, at), known
