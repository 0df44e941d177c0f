"""How a view's features are read out of stored records: a table of numbers for the compiled kernels.

A store may hold more fields than a reader asks for, in an order of its own: fields are found by their
fingerprints in the layouts that the store keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unskew.online.kernels import (
    ADD,
    CLOSED,
    DISTINCT,
    FIRST,
    KIND,
    LAST,
    MAX,
    MIN,
    NONE,
    OPEN,
    PROGRAM,
    TEXT,
    WINDOW,
    Ints,
)
from unskew.pipelines.errors import StoreError
from unskew.pipelines.plan import FeaturePlan, ViewPlan
from unskew.pipelines.records import BITS, Layout, Section, field_prints
from unskew.pipelines.states import SCALARS
from unskew.pipelines.timegrid import Window

KINDS = {"add": ADD, "min": MIN, "max": MAX, "first": FIRST, "last": LAST, "multiset": DISTINCT}


@dataclass(frozen=True)
class Program:
    """A view's reads, compiled against the layouts of one generation and one epoch."""

    view: ViewPlan
    closed: Layout
    opened: Layout

    @cached_property
    def widths(self) -> tuple[Ints, Ints]:
        """Number of columns of each section, closed and open."""
        return tuple(
            np.array([len(each.columns) for each in side.sections], np.int64) for side in (self.closed, self.opened)
        )  # type: ignore[return-value]

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The different windows."""
        return tuple(dict.fromkeys(each.window for each in self.view.features))

    @cached_property
    def hop(self) -> int:
        """The tile size of the stream, ms; a view finds it among its features each time."""
        return self.view.hop

    @cached_property
    def window_table(self) -> Ints:
        """(w, 4) size, hop, delay, grid of the head, ms."""
        rows = [[each.size, each.hop, each.delay, each.head_grid] for each in self.windows]
        return np.array(rows, np.int64).reshape(-1, 4)

    @cached_property
    def pairs(self) -> tuple[tuple[Window, int], ...]:
        """The pairs of a window and a field of which features need one state."""
        return tuple(dict.fromkeys((each.window, index) for each in self.scalar for index in each.fields))

    def of_one_state(self, feature: FeaturePlan) -> bool:
        """Return whether a feature needs one number of each of its fields: a merged value, or how many there are."""
        return feature.sized or all(self.view.fields[index].kind in SCALARS for index in feature.fields)

    @cached_property
    def table(self) -> Ints:
        """(Q, PROGRAM) the kernel's instructions."""
        out = np.full((len(self.pairs), PROGRAM), NONE, np.int64)
        for row, (window, index) in zip(out, self.pairs, strict=True):
            field = self.view.fields[index]
            row[KIND], row[WINDOW] = KINDS[field.kind], self.windows.index(window)
            row[TEXT] = field.lift.type.kind == "string"
            if field.kind == "multiset":
                row[CLOSED], row[OPEN] = self.value_places(window, index)[::2]
                continue
            for at, layout, hop in ((CLOSED, self.closed, window.hop), (OPEN, self.opened, self.hop)):
                if layout.sections:
                    row[at : at + 4] = scalar_place(layout, hop, self.prints[index])
        return out

    @cached_property
    def distinct_texts(self) -> bool:
        """Whether different texts are counted."""
        return bool(((self.table[:, KIND] == DISTINCT) & (self.table[:, TEXT] > 0)).any())

    @cached_property
    def scalar(self) -> tuple[FeaturePlan, ...]:
        """Features of one state for each of their fields."""
        return tuple(each for each in self.view.features if self.of_one_state(each))

    @cached_property
    def others(self) -> tuple[FeaturePlan, ...]:
        """Features of lists and of multisets' values."""
        return tuple(each for each in self.view.features if not self.of_one_state(each))

    def is_text(self, feature: FeaturePlan) -> bool:
        """Return whether a feature's states are places of strings."""
        return self.view.fields[feature.fields[0]].lift.type.kind == "string"

    @cached_property
    def prints(self) -> tuple[str, ...]:
        """The fingerprints of the view's fields."""
        return field_prints(self.view.fields)

    @cached_property
    def sections(self) -> dict[str, Ints]:
        """For each of the others: section and column of its values, closed, then open."""
        return {each.name: self.value_places(each.window, each.fields[0]) for each in self.others}

    @cached_property
    def own_sections(self) -> dict[str, Ints]:
        """For each of the others: the section of its values, closed, then open."""
        return {name: np.ascontiguousarray(each[::2]) for name, each in self.sections.items()}

    @cached_property
    def window_rows(self) -> dict[str, Ints]:
        """For each feature its row of `window_table`."""
        return {each.name: self.window_table[self.windows.index(each.window)] for each in self.view.features}

    def value_places(self, window: Window, field: int) -> Ints:
        """Return section and column of a list's or a multiset's values, closed, then open."""
        own = self.prints[field]
        found: list[int] = []
        for layout, hop in ((self.closed, window.hop), (self.opened, self.hop)):
            at = next((i for i, each in enumerate(layout.sections) if (each.field, each.hop) == (own, hop)), NONE)
            found += [at, layout.sections[at].columns.index("value") if at != NONE else NONE]
        return np.array(found, np.int64)


def scalar_place(layout: Layout, hop: int, own: str) -> tuple[int, int, int, int]:
    """Return section, column, column of validity and bit of a scalar field on a grid."""
    for index, section in enumerate(layout.sections):
        if section.kind == "tiles" and section.hop == hop and own in section.columns:
            return index, section.columns.index(own), *validity_place(section, own)
    message = (
        f"the store holds no tiles of {hop} ms with a field that is read; upload and stream the current definitions"
    )
    raise StoreError(message)


def validity_place(section: Section, own: str) -> tuple[int, int]:
    """Return the column and the bit that tell whether a field is null."""
    order = section.fields().index(own)
    return section.columns.index(f"valid{order // BITS}"), order % BITS
