"""Aggregates over the categories of another: the mean of daily sums, the largest spend at one shop.

The state is the inner aggregate's by category; only the finish is nested, so every engine keeps and merges what it does
for ``by(...)``. The inner values are integers in encoded units: sums of them are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.errors import EngineError
from unskew.pipelines.finishes import in_units, moment, quotient, root
from unskew.pipelines.lifts import float_result, integer_result, numeric_result
from unskew.pipelines.nodes import Node
from unskew.pipelines.states import FeatureType, Values, counted, prefix_sums
from unskew.pipelines.types import INT64_MAX, INT64_MIN

INNER = ("count", "sum", "min", "max")  # one integer for each category
HALF = 32  # bits

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """The categories' values that are not null: (m,) integers in order, (n + 1,) bounds of the rows, encoded units."""

    values: Ints
    offsets: Ints
    units: int

    @property
    def counts(self) -> Ints:
        """(n,) how many each row has."""
        return np.diff(self.offsets)

    def reduced(self, reduce: Any, values: NDArray[Any], empty: object) -> NDArray[Any]:
        """Return a ufunc's reduction of each row, `empty` for a row without values."""
        some = self.counts > 0
        found = np.full(len(some), empty, values.dtype)
        if some.any():
            found[some] = reduce.reduceat(values, self.offsets[:-1][some])
        return found

    def sums(self) -> NDArray[np.object_]:
        """Return each row's exact sum, from sums of halves that cannot overflow."""
        high, low = self.values >> HALF, self.values & ((1 << HALF) - 1)
        top, rest = (self.reduced(np.add, each, 0).astype(object) for each in (high, low))
        exact: NDArray[np.object_] = top * (1 << HALF) + rest
        return exact

    def squares(self) -> NDArray[np.object_]:
        """Return each row's exact sum of squares."""
        return self.reduced(np.add, self.values.astype(object) ** 2, 0)


def finish_count(groups: Groups) -> Values:
    """Return how many categories have a value."""
    return Values(groups.counts, np.ones(len(groups.counts), np.bool_))


def finish_sum(groups: Groups) -> Values:
    """Return the sum."""
    exact = groups.sums()
    if len(exact) and not INT64_MIN <= min(exact) <= max(exact) <= INT64_MAX:
        message = "a sum over categories passes int64; declare a tighter range or a shorter window"
        raise EngineError(message)
    return in_units(Values(exact.astype(np.int64), np.ones(len(exact), np.bool_)), groups.units)


def finish_mean(groups: Groups) -> Values:
    """Return ``f64(sum) / f64(n * units)``."""
    return quotient(groups.sums().astype(np.float64), (groups.counts * groups.units).astype(np.float64))


def finish_min(groups: Groups) -> Values:
    """Return the smallest."""
    return in_units(Values(groups.reduced(np.minimum, groups.values, 0), groups.counts > 0), groups.units)


def finish_max(groups: Groups) -> Values:
    """Return the largest."""
    return in_units(Values(groups.reduced(np.maximum, groups.values, 0), groups.counts > 0), groups.units)


def finish_variance(groups: Groups) -> Values:
    """Return ``f64(n * sum(vv) - sum(v)**2) / f64(n)**2 / f64(units)**2``, of the population."""
    top = groups.counts.astype(object) * groups.squares() - groups.sums() ** 2
    return moment(top.astype(np.float64), groups.counts, groups.units, groups.units)


def finish_stddev(groups: Groups) -> Values:
    """Return the square root of the variance."""
    found = finish_variance(groups)
    return Values(root(found.data), found.valid)


@dataclass(frozen=True)
class Outer:
    """A row of the table of outer aggregates: its formula in words, the type of its value, its finish, its empty value."""

    formula: str
    result: Callable[[Sequence[Node]], FeatureType]
    finish: Callable[[Groups], Values]
    empty: int | None = None


OUTER: dict[str, Outer] = {
    "count": Outer("number of categories", integer_result, finish_count, 0),
    "sum": Outer("f64(sum) / f64(units); int64 for integers", numeric_result, finish_sum, 0),
    "mean": Outer("f64(sum) / f64(n * units)", float_result, finish_mean),
    "min": Outer("f64(min) / f64(units); int64 for integers", numeric_result, finish_min),
    "max": Outer("f64(max) / f64(units); int64 for integers", numeric_result, finish_max),
    "variance": Outer("f64(n*sum(vv) - sum(v)^2) / f64(n)^2 / f64(units)^2", float_result, finish_variance),
    "stddev": Outer("sqrt(variance)", float_result, finish_stddev),
}


def over_categories(outer: str, state: Values, units: Sequence[int]) -> Values:
    """Apply an outer aggregate to the inner values of a multiset's categories."""
    (inner,), (offsets, _) = state.inner, counted(state)
    values = inner.data[inner.valid].astype(np.int64)
    return OUTER[outer].finish(Groups(values, prefix_sums(inner.valid)[offsets], (*units, 1)[0]))
