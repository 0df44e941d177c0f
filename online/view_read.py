"""One view's part of an online read: from packed records to features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np

from unskew.online.kernels import AHEAD, BEHIND, Ints, distinct_values, newest_tiles, outer_values, scalar_states
from unskew.online.multisets import Texts, common_texts, window_counts
from unskew.online.program import Program
from unskew.online.store import Records
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.records import record_strings
from unskew.pipelines.states import LISTS, Values


@dataclass(frozen=True)
class Column:
    """One feature's values over the rows of a request; `texts` are what the codes of a text stand for."""

    values: Values
    texts: Sequence[str] | None = None

    def with_texts(self) -> Values:
        """Return the values; strings themselves instead of their codes."""
        if self.texts is None:
            return self.values
        texts = np.array([*self.texts, ""], object)
        return Values(texts[self.values.data.astype(np.int64)], self.values.valid, self.values.offsets)

    def cells(self, rows: int | None = None) -> list[Any]:
        """Return the first rows' values, or all, as Python objects: instants in ms, lists, maps as dictionaries."""
        valid: list[bool] = self.values.valid[:rows].tolist()
        if self.values.offsets is not None:
            return self.lists(valid, self.values.offsets[: len(valid) + 1].tolist())
        data: list[Any] = self.values.data[: len(valid)].tolist()
        if self.texts is not None:
            return [self.texts[int(each)] if known else None for each, known in zip(data, valid, strict=True)]
        return data if all(valid) else [each if known else None for each, known in zip(data, valid, strict=True)]

    def taken(self, rows: Sequence[int]) -> Column:
        """Return the column of some of the rows."""
        values, own = self.values, list(rows)
        if values.offsets is None:
            return Column(Values(values.data[own], values.valid[own]), self.texts)
        starts, sizes = values.offsets[own], np.diff(values.offsets)[own]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        inner = tuple(Values(each.data[places], each.valid[places]) for each in values.inner)
        return Column(Values(values.data[places], values.valid[own], offsets, None, inner), self.texts)

    def lists(self, valid: Sequence[bool], offsets: Sequence[int]) -> list[Any]:
        """Return lists, or maps where the values have an inner column."""
        data: list[Any] = self.values.data[: offsets[-1]].tolist()
        if self.texts is not None:
            data = [self.texts[int(each)] for each in data]
        if not self.values.inner:
            return [data[lo:hi] if known else None for known, (lo, hi) in zip(valid, pairwise(offsets), strict=True)]
        items: list[Any] = self.values.inner[0].data[: offsets[-1]].tolist()
        return [
            dict(zip(data[lo:hi], items[lo:hi], strict=True)) if known else None
            for known, (lo, hi) in zip(valid, pairwise(offsets), strict=True)
        ]


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
    knowledge
        (R, 3) by `HEAD_SEQ`, `AHEAD`, `BEHIND`, once `columns` was called.
    """

    def __init__(self, program: Program, batch_end: int, records: Records, t: Ints) -> None:
        self.program = program
        self.records = records
        self.t = t
        self.batch_end = batch_end
        closed, closed_at = joined([each for each, _ in records])
        opened, open_at = joined([each for _, each in records])
        self.sides = (closed, closed_at, program.widths[0], opened, open_at, program.widths[1])
        self.knowledge = np.zeros((len(t), 3), np.int64)

    def columns(self) -> dict[str, Column]:
        """Return the view's features by name."""
        view = self.program.view
        found = self.scalar_columns()
        for each in view.features:
            kind = view.fields[each.fields[0]].kind
            if kind in LISTS:
                found[each.name] = self.list_column(each)
            if kind == "multiset":
                found[each.name] = self.distinct_column(each) if each.sized else self.counted_column(each)
        return found

    def scalar_columns(self) -> dict[str, Column]:
        """Return the features made of scalar fields; those that share a finish are finished together."""
        program, rows = self.program, len(self.t)
        states, valid, self.knowledge, overflow = scalar_states(
            *self.sides, self.t, self.batch_end, program.hop, program.window_table, program.table
        )
        if overflow:
            message = f"a sum of view `{program.view.name}` passes int64; declare a tighter range or a shorter window"
            raise EngineError(message)
        found = {}
        for group in program.groups:
            first, count = group.features[0], len(group.features)
            inputs = [Values(states[:, at].ravel(), valid[:, at].ravel()) for at in group.places]
            value = first.finish(inputs, np.repeat(self.t, count))
            data, known = value.data.reshape(rows, count), value.valid.reshape(rows, count)
            for nth, each in enumerate(group.features):
                own = Values(data[:, nth], known[:, nth])
                if group.as_it_is[nth]:
                    found[each.name] = Column(own)
                    continue
                own = each.since_start(own, self.t)
                found[each.name] = self.with_texts(own) if program.is_text(each) else Column(typed(own, each))
        return found

    def with_texts(self, values: Values) -> Column:
        """Return texts that are places in each request's closed strings, then its open ones."""
        texts = [[text for each in pair if each for text in record_strings(each)] for pair in self.records]
        return coded(values, texts)

    def list_column(self, feature: FeaturePlan) -> Column:
        """Return a list feature."""
        text = self.program.is_text(feature)
        k = self.program.view.fields[feature.fields[0]].k
        sections = self.program.sections[feature.name]
        window = self.program.window_rows[feature.name]
        kind = LISTS.index(self.program.view.fields[feature.fields[0]].kind)
        offsets, data = outer_values(*self.sides, self.t, self.batch_end, window, sections, text, kind, k)
        state = feature.value([Values(data, np.diff(offsets) > 0, offsets)], self.t)
        return self.with_texts(state) if text else Column(typed(state, feature))

    def counted_column(self, feature: FeaturePlan) -> Column:
        """Return a feature over a multiset's values and counts."""
        texts = self.texts if self.program.is_text(feature) else None
        state, flags = window_counts(self.program, feature, self.sides, self.t, self.batch_end, texts)
        self.knowledge[:, [AHEAD, BEHIND]] |= flags
        found = feature.value([state], self.t)
        return coded(found, texts.strings) if texts is not None and feature.has_text else Column(typed(found, feature))

    def distinct_column(self, feature: FeaturePlan) -> Column:
        """Return a feature over a multiset."""
        none = np.zeros(0, np.int64)
        texts = self.texts if self.program.is_text(feature) else None
        aliases = (none, none, none) if texts is None else (texts.alias, texts.closed, texts.open)
        window, sections = self.program.window_rows[feature.name], self.program.own_sections[feature.name]
        counts, flags = distinct_values(
            *self.sides, self.t, self.batch_end, self.program.hop, window, sections, *aliases
        )
        self.knowledge[:, [AHEAD, BEHIND]] |= flags
        state = Values(counts, np.ones(len(counts), np.bool_))
        return Column(feature.value([state], self.t))

    @cached_property
    def newest(self) -> Ints:
        """(R, 3) the newest open tile before each instant: whether there is one, its start (ms), the sequence read."""
        _, _, _, opened, open_at, widths = self.sides
        return newest_tiles(opened, open_at, widths, self.t, self.program.hop)

    @cached_property
    def texts(self) -> Texts:
        """The strings of each request's records."""
        return common_texts(self.records)


def null_column(feature: FeaturePlan, rows: int) -> Column:
    """Return a feature that is null in all rows."""
    null, none = np.zeros(rows, np.bool_), Values(np.zeros(0, np.int64), np.zeros(0, np.bool_))
    if feature.type.scalar:
        return Column(Values(np.zeros(rows, np.int64), null), [] if feature.has_text else None)
    inner = (none,) if feature.type.key else ()
    return Column(Values(none.data, null, np.zeros(rows + 1, np.int64), None, inner), [] if feature.has_text else None)


def coded(values: Values, texts: Sequence[Sequence[str]]) -> Column:
    """Return a column whose codes, places in each request's texts, become places in one list."""
    sizes = np.array([len(each) for each in texts], np.int64)
    first = np.cumsum(sizes) - sizes
    codes = values.data.astype(np.int64)
    if values.offsets is None:
        codes = np.where(values.valid, codes + first, 0)
    else:
        codes = codes + np.repeat(first, np.diff(values.offsets))
    return Column(Values(codes, values.valid, values.offsets, None, values.inner), list(chain.from_iterable(texts)))


def typed(values: Values, feature: FeaturePlan) -> Values:
    """Return booleans as such; instants and numbers stay what they are."""
    kind = feature.type.key or feature.type.kind  # a map's values are numbers
    return Values(values.data != 0, values.valid, values.offsets, None, values.inner) if kind == "bool" else values


def joined(records: Sequence[bytes | None]) -> tuple[Ints, Ints]:
    """Return records end to end as words, and where each begins; -1 for one that is not there."""
    size = np.array([len(each) // 8 if each else 0 for each in records], np.int64)
    at = np.where(size > 0, np.cumsum(size) - size, -1)
    return np.frombuffer(b"".join([each for each in records if each]), np.int64), at
