"""One view's part of an online read: from packed records to features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from unskew.online.columns import Column, coded, typed
from unskew.online.kernels import (
    AHEAD,
    BEHIND,
    HEAD_SEQ,
    KNOWLEDGE,
    NEWEST,
    NONE,
    Bools,
    Ints,
    outer_values,
    scalar_states,
)
from unskew.online.multisets import Sides, Texts, common_texts, window_counts
from unskew.online.program import Program
from unskew.online.store import Records
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.records import record_strings
from unskew.pipelines.states import LISTS, Values

WORD = 8  # bytes
NO_TEXTS = (np.zeros(0, np.int64),) * 3


class ViewRead:
    """One view's states and features over the records of R requests.

    Parameters
    ----------
    batch_end
        Tiles that start before it are closed, ms.
    t
        (R,) instants, ms.

    Attributes
    ----------
    known
        (R, KNOWLEDGE) what is known of the open tiles, once `states`, then `columns` were called.
    """

    def __init__(self, program: Program, batch_end: int, records: Records, t: Ints) -> None:
        self.program = program
        self.records = records
        self.t = t
        self.batch_end = batch_end
        self.known = np.zeros((len(t), KNOWLEDGE), np.int64)

    @cached_property
    def sides(self) -> Sides:
        """The records, with the widths of their sections."""
        closed, opened = (joined(each) for each in zip(*self.records, strict=True))
        return (*closed, self.program.widths[0], *opened, self.program.widths[1])

    @property
    def knowledge(self) -> Ints:
        """(R, 3) by `HEAD_SEQ`, `AHEAD`, `BEHIND`."""
        return self.known[:, HEAD_SEQ : BEHIND + 1]

    @property
    def newest(self) -> Ints:
        """(R, 3) the newest open tile before each instant: whether there is one, its start (ms), the sequence read."""
        return self.known[:, NEWEST:]

    def states(self) -> tuple[Ints, Bools]:
        """Return (Q, R) the states of the program's pairs, and whether they are known.

        Raises
        ------
        EngineError
            If a sum passes int64.
        """
        program = self.program
        aliases = (self.texts.alias, self.texts.closed, self.texts.open) if program.distinct_texts else NO_TEXTS
        states, known, self.known, overflow = scalar_states(
            *self.sides, self.t, self.batch_end, program.hop, program.window_table, program.table, *aliases
        )
        if overflow:
            message = f"a sum of view `{program.view.stored}` passes int64; declare a tighter range or a shorter window"
            raise EngineError(message)
        return states, known

    def columns(self) -> dict[str, Column]:
        """Return the features that need more than a state for each field: lists, and those of multisets' values."""
        fields = self.program.view.fields
        return {
            each.name: self.list_column(each) if fields[each.fields[0]].kind in LISTS else self.counted_column(each)
            for each in self.program.others
        }

    def list_column(self, feature: FeaturePlan) -> Column:
        """Return a list feature."""
        text = self.program.is_text(feature)
        k = self.program.view.fields[feature.fields[0]].k
        sections = self.program.sections[feature.name]
        window = self.program.window_rows[feature.name]
        kind = LISTS.index(self.program.view.fields[feature.fields[0]].kind)
        offsets, data = outer_values(*self.sides, self.t, self.batch_end, window, sections, text, kind, k)
        state = feature.value([Values(data, np.diff(offsets) > 0, offsets)], self.t)
        return coded(state, self.strings) if text else Column(typed(state, feature))

    def counted_column(self, feature: FeaturePlan) -> Column:
        """Return a feature over a multiset's values and counts."""
        texts = self.texts if self.program.is_text(feature) else None
        state, flags = window_counts(self.program, feature, self.sides, self.t, self.batch_end, texts)
        self.known[:, AHEAD : BEHIND + 1] |= flags
        found = feature.value([state], self.t)
        return coded(found, texts.strings) if texts is not None and feature.has_text else Column(typed(found, feature))

    @cached_property
    def strings(self) -> list[list[str]]:
        """Each request's closed strings, then its open ones: what scalar texts and lists of texts are places in."""
        return [[text for each in pair if each for text in record_strings(each)] for pair in self.records]

    @cached_property
    def texts(self) -> Texts:
        """The strings of each request's records."""
        return common_texts(self.records)


def joined(records: Sequence[bytes | None]) -> tuple[Ints, Ints]:
    """Return records end to end as words, and where each begins; -1 for one that is not there."""
    at: list[int] = []
    end = 0
    for each in records:
        at.append(end if each else NONE)
        end += len(each or b"") // WORD
    return np.frombuffer(b"".join([each for each in records if each]), np.int64), np.array(at, np.int64)
