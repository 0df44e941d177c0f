"""Events made to break parity, from the definitions alone: each kind of trouble that the contract decides.

Ties, copies, disorder, late rows on both sides of the allowed lateness, rows ahead of their arrival, rows on
and one millisecond beside the edges of tiles, windows, days and closed tiles; null keys, nulls, NaN and
infinities, values at and past both ends of their range, empty and astral strings; a hot key, entities that
fall silent. Many seeds share one log: the seed is part of every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan
from unskew.pipelines.timegrid import DAY, MINUTE
from unskew.pipelines.types import INT64_MAX, INT64_MIN
from unskew.validation.log import Ints
from unskew.validation.probes import UPLOADS

START = (
    1_700_006_400_000  # 2023-11-15, a day's start, ms; where a view has a feature_start_time, half the span before it
)
SPAN = 50 * DAY
SILENT = SPAN // 2  # ms after the start: from when on the last entity of a seed has no events
STRINGS = ("", "a", "A", "é", "\uffff", "😀", "x'\"\\", "straße", "null", "0")
NAMES = ("", "😀", "\uffff", "é")  # of entities, before the seed
AMENDED = 0.2
COPIES, OUT_OF_RANGE, WRONG, NULLS = 0.06, 0.01, 0.005, 0.06


def adversarial(plan: SetPlan, seeds: Sequence[int], events: int = 400) -> dict[str, pa.Table]:
    """Make the events of all sources.

    Parameters
    ----------
    seeds
        Worlds that share the log; none sees another's entities.
    events
        Rows of each seed and source, copies not counted.

    Returns
    -------
    dict of str to pyarrow.Table
        For each source its raw rows in order of arrival.
    """
    return {each.name: source_events(plan, each, seeds, events) for each in plan.sources}


def source_events(plan: SetPlan, source: SourcePlan, seeds: Sequence[int], events: int) -> pa.Table:
    """Return one source's rows in order of arrival."""
    parts = [World(plan, source, seed, events).rows() for seed in seeds]
    arrival = np.concatenate([each for each, _ in parts])
    table = pa.concat_tables([each for _, each in parts])
    return table.take(pa.array(np.argsort(arrival, kind="stable")))


class World:
    """One seed's rows of one source."""

    def __init__(self, plan: SetPlan, source: SourcePlan, seed: int, events: int) -> None:
        self.plan = plan
        self.source = source
        self.seed = seed
        self.rng = np.random.default_rng([seed, len(source.name), *source.name.encode()])
        self.events = events
        self.keys = {key.name for view in plan.views if view.source == source.name for key in view.keys}
        starts = [each.start for each in plan.features().values() if each.start is not None]
        self.start = min(starts) // DAY * DAY - SPAN // 2 if starts else START
        self.ts = self.event_times()

    def rows(self) -> tuple[Ints, pa.Table]:
        """Return arrivals, and the rows."""
        ts = self.ts
        arrival = ts + self.lags(len(ts))
        order = self.copies(len(ts))
        late = self.rng.integers(0, 2 * self.source.allowed_lateness, len(order)) * (np.arange(len(order)) >= len(ts))
        ts = ts[order]
        arrival = np.minimum(arrival[order] + late, self.start + SPAN - 1)  # so that the uploads' cuts are known
        columns = {each.name: self.column(each, order) for each in self.source.columns}
        columns[self.source.event_time] = self.instant_column(ts)
        if self.source.arrival is not None:
            columns[self.source.arrival] = pa.array(arrival, pa.timestamp("ms", "UTC"), mask=self.share(len(ts), 0.02))
        else:
            arrival = ts
        return arrival, pa.table({each.name: columns[each.name] for each in self.source.columns})

    def share(self, n: int, share: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Draw a mask that is true for about this share of n rows."""
        return self.rng.random(n) < share

    def event_times(self) -> Ints:
        """Draw event times, ms: most within a millisecond of an edge of something, some in one tile."""
        anchors, ends = self.anchors()
        steps = self.edges()
        picked = np.where(
            self.share(self.events, 0.5), self.rng.choice(anchors, self.events), self.rng.choice(ends, self.events)
        )
        near = picked - self.rng.choice(steps, self.events) * self.share(self.events, 0.7)
        anywhere = self.start + self.rng.integers(0, SPAN, self.events)
        crowd = self.rng.choice(anywhere, max(self.events // 20, 1))
        crowded = self.rng.choice(crowd, self.events) // MINUTE * MINUTE + self.rng.integers(0, 5, self.events)
        ts = np.choose(self.rng.integers(0, 4, self.events), [near, near, crowded, anywhere])
        ts = np.asarray(
            np.clip(ts + self.rng.integers(-1, 2, self.events), self.start, self.start + SPAN - 1), np.int64
        )
        ts[:2] = self.start, self.start + SPAN - 1
        return ts

    def anchors(self) -> tuple[Ints, Ints]:
        """Return midnights; and where the closed tiles of the uploads end, and their cuts."""
        midnights = self.start + np.arange(SPAN // DAY + 1) * DAY
        cuts = np.array([self.start + int((SPAN - 1) * share) for share in UPLOADS])
        return midnights, np.concatenate(((cuts - self.source.allowed_lateness) // DAY * DAY, cuts))

    def edges(self) -> Ints:
        """Return how far before an instant windows and tiles begin and end, ms."""
        windows = {each.window for view in self.plan.views for each in view.features}
        found = {0} | {
            value
            for each in windows
            for value in (each.hop, each.delay, each.finite_size, each.finite_size + each.delay)
        }
        return np.array(sorted(found), np.int64)

    def lags(self, n: int) -> Ints:
        """Draw how long after its event time a row arrives, ms; on and beside each limit."""
        late, ahead = self.source.allowed_lateness, self.source.max_future_skew
        limits = np.array([late, late + 1, -ahead, -ahead - 1, late - 1, 3 * late, -ahead // 2, 0])
        usual = np.array(self.rng.exponential(2_000, n), np.int64)
        slow = self.rng.integers(0, 2 * MINUTE, n)
        found: Ints = np.choose(
            self.rng.integers(0, 8, n),
            [usual, usual, usual, usual, slow, slow, self.rng.choice(limits, n), np.zeros(n, np.int64)],
        )
        return found

    def copies(self, n: int) -> Ints:
        """Return the rows, then those that come again; of an amended source more, some of them twice."""
        again = [np.flatnonzero(self.share(n, AMENDED if self.source.amended else COPIES))]
        if self.source.amended:
            again.append(again[0][self.share(len(again[0]), 0.3)])
        return np.concatenate((np.arange(n), *again))

    def column(self, column: ColumnPlan, order: Ints) -> pa.Array:
        """Draw a column; a copy agrees with its first, but one that amends has other values now and then."""
        if self.source.amended and column.name not in self.source.event_id:
            other = self.drawn(column, (order + 1) % self.events)
            changed = self.share(len(order), 0.4) & (np.arange(len(order)) >= self.events)
            return pc.if_else(pa.array(changed), other, self.drawn(column, order))
        return self.drawn(column, order)

    def drawn(self, column: ColumnPlan, order: Ints) -> pa.Array:
        """Draw a column of which rows of the same number agree."""
        n = self.events
        if column.name in self.source.event_id:
            return self.identity(column, order)
        if column.name in self.keys:
            return self.key(column, order)
        if column.type.kind == "timestamp":
            return self.instant_column((self.start + self.rng.integers(0, SPAN, n))[order])
        values = self.values(column, n)
        return pa.array([values[each] for each in order], arrow_type(column))

    def identity(self, column: ColumnPlan, order: Ints) -> pa.Array:
        """Return ids that are unique within the log but for copies; a few are null."""
        numbers = (self.seed * 1_000_000 + np.arange(self.events))[order]
        ids = [None if none else int(each) for each, none in zip(numbers, self.share(len(order), 0.004), strict=True)]
        if column.type.kind == "string":
            return pa.array(
                [None if each is None else f"{STRINGS[each % len(STRINGS)]}{each}" for each in ids], pa.string()
            )
        return pa.array(ids, pa.int64())

    def key(self, column: ColumnPlan, order: Ints) -> pa.Array:
        """Return keys of this seed: the first is hot, the last falls silent, some are null."""
        last = len(NAMES) - 1
        member = np.where(self.share(self.events, 0.5), 0, self.rng.integers(0, last + 1, self.events))
        member = np.where((member == last) & (self.ts >= self.start + SILENT), 0, member)[order]
        keys = [None if none else int(each) for each, none in zip(member, self.share(len(order), 0.03), strict=True)]
        if column.type.kind == "string":
            return pa.array([None if each is None else f"{NAMES[each]}{self.seed}" for each in keys], pa.string())
        return pa.array([None if each is None else self.seed * len(NAMES) + each for each in keys], pa.int64())

    def instant_column(self, ts: Ints) -> pa.Array:
        """Return instants with microseconds, which are floored; a few are null."""
        return pa.array(
            ts * 1_000 + self.rng.integers(0, 1_000, len(ts)),
            pa.timestamp("us", "UTC"),
            mask=self.share(len(ts), 0.003),
        )

    def values(self, column: ColumnPlan, n: int) -> list[Any]:
        """Draw values: small ones, both ends of the range, nulls; now and then what the column refuses."""
        lo, hi = column.type.lo, column.type.hi
        low, high = (INT64_MIN if lo is None else lo), (INT64_MAX if hi is None else hi)
        pool = [0, 1, 2, 3, -1, -7, low, high, low + 1, high - 1]
        pool = [each for each in pool if low <= each <= high]
        spread = self.rng.integers(max(low, -5_000), min(high, 5_000), n, endpoint=True).tolist()
        chosen = self.rng.integers(0, len(pool), n)
        found: list[Any] = []
        for at, (null, pick, past, wrong) in enumerate(
            zip(
                self.share(n, NULLS), self.share(n, 0.4), self.share(n, OUT_OF_RANGE), self.share(n, WRONG), strict=True
            )
        ):
            if null:
                found.append(self.missing(column))
            elif column.type.kind == "string":
                found.append(STRINGS[chosen[at] % len(STRINGS)])
            else:
                number = pool[chosen[at]] if pick else spread[at]
                number = high + 1 if past and hi is not None else number
                found.append(decoded(column, number, wrong))
        return found

    def missing(self, column: ColumnPlan) -> Any:
        """Return a null, or what counts as one."""
        if column.type.kind == "float":
            return (None, float("nan"), float("inf"), float("-inf"))[int(self.rng.integers(0, 4))]
        return None


def arrow_type(column: ColumnPlan) -> pa.DataType:
    """Return a physical type with room past the range and, for decimals, a digit too many."""
    if column.type.kind == "decimal":
        return pa.decimal128(30, len(str(column.type.units)))
    return {"float": pa.float64(), "bool": pa.bool_(), "string": pa.string()}.get(column.type.kind, pa.int64())


def decoded(column: ColumnPlan, number: int, wrong: bool) -> Any:
    """Return the value whose encoding is `number`; where `wrong`, a decimal with a digit too many."""
    kind = column.type.kind
    if kind == "decimal":
        digits = len(str(column.type.units)) - 1
        return pa.scalar(number * 10 + wrong, pa.int64()).cast(pa.decimal128(30, 0)).as_py().scaleb(-digits - 1)
    if kind == "float":
        return float(number * column.type.quantum)
    return bool(number & 1) if kind == "bool" else number
