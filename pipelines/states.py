"""States of aggregates: their fields, and columns of states and of values.

How the fields of a kind combine:

============  =====================================  ============================  =======
kind          state                                  merge                         inverse
============  =====================================  ============================  =======
add           int64                                  addition                      yes
min, max      int64 or null                          smaller, larger               no
first         (ts, id, value) or null                smallest by (ts, id, value)   no
last          (ts, id, value) or null                largest by (ts, id, value)    no
first_k       at most k entries (ts, id, value)      union, the k smallest         no
last_k        at most k entries (ts, id, value)      union, the k largest          no
top_k         at most k entries (value, ts, id)      union, the k largest          no
bottom_k      at most k entries (value, ts, id)      union, the k smallest         no
multiset      value -> count and further fields      by value                      yes
============  =====================================  ============================  =======

The further fields of a multiset are of the kinds add, min and max; with min or max it has no inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.canonical import fingerprint
from unskew.pipelines.nodes import Node
from unskew.pipelines.types import Int64

FieldKind = Literal["add", "min", "max", "first", "last", "first_k", "last_k", "top_k", "bottom_k", "multiset"]
ValueKind = Literal["int", "float", "bool", "string", "timestamp"]
SCALARS = ("add", "min", "max", "first", "last")
LISTS = ("first_k", "last_k", "top_k", "bottom_k")
NEEDS_ORDER = ("first", "last", "first_k", "last_k")
GROUPED = ("add", "min", "max")  # what a multiset keeps beside its counts


@dataclass(frozen=True)
class StateField:
    """One field of a state.

    Parameters
    ----------
    kind
        How it merges.
    lift
        Typed row expression that one event contributes; null contributes nothing.
    k
        Bound of a list.
    inner
        Of a multiset: fields that it keeps for each value beside the count.
    """

    kind: FieldKind
    lift: Node
    k: int = 0
    inner: tuple[StateField, ...] = ()

    def to_json(self) -> list[object]:
        """Return the canonical form."""
        return [self.kind, self.k, self.lift.to_json(), *(each.to_json() for each in self.inner)]

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the canonical form: the name of its columns in a store."""
        return fingerprint(self.to_json())

    def lifts(self) -> tuple[Node, ...]:
        """Return its own lift, then those of the inner fields."""
        return (self.lift, *(each.lift for each in self.inner))


@dataclass(frozen=True)
class Lift:
    """What an aggregate's fields are built from: typed inputs, filter, event time, parameters."""

    inputs: tuple[Node, ...]
    where: Node | None
    event_time: Node
    parameters: tuple[int, ...] = ()


@dataclass(frozen=True)
class FeatureType:
    """Type of a feature's value: a list of it where `repeated`, a map to it from `key` where there is one."""

    kind: ValueKind
    repeated: bool = False
    key: ValueKind | None = None

    def __str__(self) -> str:
        """Return the name that `plan` prints."""
        name, key = (PRINTED.get(str(each), str(each)) for each in (self.kind, self.key))
        if self.key:
            return f"map<{key}, {name}>"
        return f"list<{name}>" if self.repeated else name

    @property
    def scalar(self) -> bool:
        """Whether a value is one cell."""
        return not self.repeated and self.key is None


PRINTED = {"int": "int64", "float": "float64"}


@dataclass(frozen=True)
class Values:
    """A column of n states or features.

    Parameters
    ----------
    data
        (n,) values; of lists the (m,) entries of all rows in order, of multisets and maps the (m,) keys, ascending.
    valid
        (n,) False where null.
    offsets
        (n + 1,) bounds of each row's entries, else None.
    counts
        (m,) counts of a multiset's keys.
    inner
        Columns of m rows: a multiset's further fields, a map's values.
    """

    data: NDArray[np.generic]
    valid: NDArray[np.bool_]
    offsets: NDArray[np.int64] | None = None
    counts: NDArray[np.int64] | None = None
    inner: tuple[Values, ...] = ()

    def rows(self, kept: NDArray[np.bool_]) -> Values:
        """Return the column with null in the rows that are not kept."""
        if kept.all():
            return self
        if self.offsets is None:
            return Values(self.data, self.valid & kept)
        lengths = np.diff(self.offsets)
        taken = np.flatnonzero(np.repeat(kept, lengths))
        return self.entries(taken, prefix_sums(lengths * kept))

    def entries(self, taken: NDArray[np.int64], offsets: NDArray[np.int64]) -> Values:
        """Return the given entries as rows of those bounds; a row without entries is null."""
        counts = None if self.counts is None else self.counts[taken]
        inner = tuple(Values(each.data[taken], each.valid[taken]) for each in self.inner)
        return Values(self.data[taken], np.diff(offsets) > 0, offsets, counts, inner)


def prefix_sums(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the sums of the first 0, 1 ... n values, (n + 1,): of lengths the bounds of what lies end to end."""
    found = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, dtype=np.int64, out=found[1:])
    return found


def counted(state: Values) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets and the counts of a multiset."""
    if state.offsets is None or state.counts is None:
        message = "a state without counts was given for a multiset"
        raise AssertionError(message)
    return state.offsets, state.counts


@dataclass(frozen=True)
class Finish:
    """What a finish sees besides the states: the instants (n,) in ms, the inputs' units, the parameters."""

    at: NDArray[np.int64]
    units: tuple[int, ...]
    parameters: tuple[int, ...] = ()


COUNT_ROWS = StateField("add", Node("literal", Int64(1, 1), (), 1))
