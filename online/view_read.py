"""One view's part of an online read: from packed records to features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from unskew.online.kernels import AHEAD, BEHIND, Ints, distinct_values, newest_values, scalar_states
from unskew.online.program import Program
from unskew.online.store import Records
from unskew.pipelines.aggregates import Finish, Values
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.records import record_strings


@dataclass(frozen=True)
class Column:
    """One feature's values over the rows of a request; `texts` are what the codes of a text stand for."""

    values: Values
    texts: Sequence[str] | None = None


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
            if kind == "list":
                found[each.name] = self.list_column(each)
            if kind == "multiset":
                found[each.name] = self.distinct_column(each)
        return found

    def scalar_columns(self) -> dict[str, Column]:
        """Return the features made of scalar fields; those that share a finish are finished together."""
        program, rows = self.program, len(self.t)
        states, valid, self.knowledge, overflow = scalar_states(
            *self.sides, self.t, self.batch_end, program.view.hop, program.window_table, program.table
        )
        if overflow:
            message = f"a sum of view `{program.view.name}` passes int64; declare a tighter range or a shorter window"
            raise EngineError(message)
        found = {}
        for group in program.groups:
            first, count = group.features[0], len(group.features)
            inputs = [Values(states[:, at].ravel(), valid[:, at].ravel()) for at in group.places]
            value = first.spec.finish(inputs, Finish(np.repeat(self.t, count), first.units))
            data, known = value.data.reshape(rows, count), value.valid.reshape(rows, count)
            for nth, each in enumerate(group.features):
                own = Values(data[:, nth], known[:, nth])
                found[each.name] = self.with_texts(own) if program.is_text(each) else Column(typed(own, each))
        return found

    def with_texts(self, values: Values) -> Column:
        """Return texts: places in each request's strings become places in one list."""
        texts = [record_strings(each) if each else [] for each in chain.from_iterable(self.records)]
        sizes = np.array([len(each) for each in texts], np.int64).reshape(-1, 2).sum(axis=1)
        first = np.cumsum(sizes) - sizes
        if values.offsets is not None:
            first = np.repeat(first, np.diff(values.offsets))
        data = np.where(values.valid, values.data + first, 0) if values.offsets is None else values.data + first
        return Column(Values(data, values.valid, values.offsets), list(chain.from_iterable(texts)))

    def list_column(self, feature: FeaturePlan) -> Column:
        """Return a list feature."""
        text = self.program.is_text(feature)
        k = self.program.view.fields[feature.fields[0]].k
        sections = self.program.sections[feature.name]
        window = self.program.window_table[self.program.windows.index(feature.window)]
        offsets, data = newest_values(*self.sides, self.t, self.batch_end, window, sections, text, k)
        state = feature.spec.finish([Values(data, np.diff(offsets) > 0, offsets)], Finish(self.t, feature.units))
        return self.with_texts(state) if text else Column(typed(state, feature))

    def distinct_column(self, feature: FeaturePlan) -> Column:
        """Return a feature over a multiset."""
        none = np.zeros(0, np.int64)
        alias, alias_at = self.aliases() if self.program.is_text(feature) else (none, none)
        window = self.program.window_table[self.program.windows.index(feature.window)]
        counts, flags = distinct_values(
            *self.sides,
            self.t,
            self.batch_end,
            self.program.view.hop,
            window,
            np.ascontiguousarray(self.program.sections[feature.name][::2]),
            alias,
            alias_at,
        )
        self.knowledge[:, [AHEAD, BEHIND]] |= flags
        state = Values(counts, np.ones(len(counts), np.bool_))
        return Column(feature.spec.finish([state], Finish(self.t, feature.units)))

    def aliases(self) -> tuple[Ints, Ints]:
        """Return what stands for each string of each open record: its place in the closed one, else one after."""
        found: list[int] = []
        first = []
        for closed, opened in self.records:
            own = record_strings(closed) if closed else []
            places = {text: place for place, text in enumerate(own)}
            first.append(len(found))
            found += [
                places.get(text, len(own) + place)
                for place, text in enumerate(record_strings(opened) if opened else [])
            ]
        return np.array(found, np.int64), np.array(first, np.int64)


def typed(values: Values, feature: FeaturePlan) -> Values:
    """Return booleans as such; instants and numbers stay what they are."""
    if feature.type.kind == "bool":
        return Values(values.data != 0, values.valid, values.offsets)
    return values


def joined(records: Sequence[bytes | None]) -> tuple[Ints, Ints]:
    """Return records end to end as words, and where each begins; -1 for one that is not there."""
    size = np.array([len(each) // 8 if each else 0 for each in records], np.int64)
    at = np.where(size > 0, np.cumsum(size) - size, -1)
    return np.frombuffer(b"".join([each for each in records if each]), np.int64), at
