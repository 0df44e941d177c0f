"""The plan: frozen, typed, with canonical JSON and fingerprints. Engines read nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.aggregates import AGGREGATES, Aggregate
from unskew.pipelines.canonical import fingerprint
from unskew.pipelines.finishes import by_category
from unskew.pipelines.nested import OUTER, over_categories
from unskew.pipelines.nodes import Node
from unskew.pipelines.states import FeatureType, Finish, StateField, Values
from unskew.pipelines.timegrid import DAY, Window, floor_hop
from unskew.pipelines.types import DataType

PLAN_VERSION = 1


@dataclass(frozen=True)
class ColumnPlan:
    """A column of a source: values outside the type's range are quarantined."""

    name: str
    type: DataType

    def to_json(self) -> list[object]:
        """Return the canonical form."""
        each = self.type
        return [self.name, each.kind, each.units, each.lo, each.hi, each.precision, each.quantum]


@dataclass(frozen=True)
class SourcePlan:
    """A source with the resolved range of each column; durations in ms."""

    name: str
    columns: tuple[ColumnPlan, ...]
    event_time: str
    event_id: tuple[str, ...]
    arrival: str | None
    allowed_lateness: int
    max_future_skew: int
    deduplicate: bool
    topic: str = ""
    archive: str = ""
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    amended: bool = False
    deleted: Node | None = None

    def batch_end(self, cut: int) -> int:
        """Return where an upload's closed tiles end, ms: nothing that the stream applies after `cut` belongs before it."""
        return floor_hop(cut - self.allowed_lateness, DAY)

    def column(self, name: str) -> ColumnPlan:
        """Return the column of that name."""
        return next(each for each in self.columns if each.name == name)

    def to_json(self) -> dict[str, object]:
        """Return the semantics: not where the events are."""
        more: dict[str, object] = {}
        if self.aliases:
            more["aliases"] = {name: list(others) for name, others in self.aliases}
        if self.amended:
            more["amended"] = True if self.deleted is None else self.deleted.to_json()
        return more | {
            "name": self.name,
            "columns": [each.to_json() for each in self.columns],
            "event_time": self.event_time,
            "event_id": list(self.event_id),
            "arrival": self.arrival,
            "allowed_lateness": self.allowed_lateness,
            "max_future_skew": self.max_future_skew,
            "deduplicate": self.deduplicate,
        }


@dataclass(frozen=True)
class FeaturePlan:
    """One feature: an aggregate of a view's state fields over one window.

    Parameters
    ----------
    name
        Full name, ``view.feature_window``.
    aggregate
        Row of the table of aggregates.
    fields
        Positions in the view's `fields`, in the order that `finish` takes.
    units
        Encoded units of each input.
    category_units
        Encoded units of the category; 0 where there is none.
    start
        Where history begins, ms: the value is null while the window reaches before it; None: it never is.
    outer
        The aggregate over the categories' values; empty where there is none.
    """

    name: str
    aggregate: str
    parameters: tuple[int, ...]
    window: Window
    fields: tuple[int, ...]
    units: tuple[int, ...]
    type: FeatureType
    quantum: float
    fingerprint: str
    owner: str = ""
    description: str = ""
    category_units: int = 0
    start: int | None = None
    outer: str = ""

    @property
    def spec(self) -> Aggregate:
        """The row of the table."""
        return AGGREGATES[self.aggregate]

    @property
    def sized(self) -> bool:
        """Whether the number of a multiset's values is all that it needs."""
        return self.spec.sized and not self.category_units

    @property
    def empty(self) -> int | None:
        """Value over an empty window: 0 or None (null)."""
        if self.outer:
            return OUTER[self.outer].empty
        return None if self.category_units else self.spec.empty

    @property
    def formula(self) -> str:
        """The finish in words."""
        return f"{OUTER[self.outer].formula}, each {self.spec.formula}" if self.outer else self.spec.formula

    @property
    def has_text(self) -> bool:
        """Whether its value is, or holds, strings."""
        return "string" in (self.type.kind, self.type.key)

    def finish(self, states: Sequence[Values], at: NDArray[np.int64]) -> Values:
        """Return the values of n reads.

        Parameters
        ----------
        states
            For each of `fields` the window's states, (n,).
        at
            (n,) instants, ms.
        """
        context = Finish(at, self.units, self.parameters)
        if self.outer:
            return over_categories(self.outer, states[0], self.units)
        if self.category_units:
            return by_category(self.spec.finish, states[0], self.category_units, context)
        return self.spec.finish(states, context)

    def value(self, states: Sequence[Values], at: NDArray[np.int64]) -> Values:
        """Return what `finish` does, with null in the reads whose window reaches before history."""
        return self.since_start(self.finish(states, at), at)

    def since_start(self, values: Values, at: NDArray[np.int64]) -> Values:
        """Return values with null where the window reaches before history."""
        return values if self.start is None else values.rows(self.window.tail(at) >= self.start)


@dataclass(frozen=True)
class ViewPlan:
    """The state fields that a view's tiles hold, and the features made of them.

    Parameters
    ----------
    keys
        Columns of the source.
    asked
        Where a set reads the view under other keys: the columns of the spine that hold them.
    state
        Where a set reads it under another name: the name of the view itself.
    """

    name: str
    entity: str
    source: str
    keys: tuple[ColumnPlan, ...]
    fields: tuple[StateField, ...]
    features: tuple[FeaturePlan, ...]
    asked: tuple[str, ...] = ()
    state: str = ""

    @property
    def stored(self) -> str:
        """The name under which uploads, streams and stores keep the tiles."""
        return self.state or self.name

    @property
    def spine_keys(self) -> tuple[ColumnPlan, ...]:
        """The columns of a spine or a request that hold the keys."""
        if not self.asked:
            return self.keys
        return tuple(ColumnPlan(name, key.type) for name, key in zip(self.asked, self.keys, strict=True))

    def only(self, names: Collection[str]) -> ViewPlan:
        """Return the view with only the features of these names, and the fields that they read."""
        features = [each for each in self.features if each.name in names]
        kept = sorted({field for each in features for field in each.fields})
        moved = {field: place for place, field in enumerate(kept)}
        renumbered = tuple(replace(each, fields=tuple(moved[field] for field in each.fields)) for each in features)
        return replace(self, fields=tuple(self.fields[each] for each in kept), features=renumbered)

    @cached_property
    def hop(self) -> int:
        """The finest hop: the tile size of the stream, ms."""
        return min(each.window.hop for each in self.features)

    @cached_property
    def hops(self) -> tuple[int, ...]:
        """All hops, finest first; each divides the next."""
        return tuple(sorted({each.window.hop for each in self.features}))

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the features together."""
        return fingerprint([self.name, [[each.name, each.fingerprint] for each in self.features]])


@dataclass(frozen=True)
class DerivedPlan:
    """A derived feature: an expression over features and request columns, as canonical JSON lists."""

    name: str
    expression: tuple[object, ...]
    fingerprint: str


@dataclass(frozen=True)
class SetPlan:
    """Everything that the engines need of a feature set.

    Parameters
    ----------
    views
        Those whose state is kept, each once.
    reads
        Views as the set reads them, in its order: as they are, or joined under other keys.
    """

    name: str
    sources: tuple[SourcePlan, ...]
    views: tuple[ViewPlan, ...]
    request: tuple[ColumnPlan, ...]
    derived: tuple[DerivedPlan, ...]
    reads: tuple[ViewPlan, ...]

    def view(self, name: str) -> ViewPlan:
        """Return the view of that name, as its state is kept."""
        return next(each for each in self.views if each.name == name)

    def spine_keys(self) -> dict[str, ColumnPlan]:
        """Return the columns of a spine or a request that hold keys, by name."""
        return {each.name: each for view in self.reads for each in view.spine_keys}

    def features(self) -> dict[str, FeaturePlan]:
        """Return all features by full name, derived ones apart."""
        return {each.name: each for view in self.reads for each in view.features}

    def types(self) -> dict[str, FeatureType]:
        """Return the types of all features, then of derived ones, by full name."""
        found = {name: each.type for name, each in self.features().items()}
        return found | {each.name: FeatureType("float") for each in self.derived}

    def source(self, name: str) -> SourcePlan:
        """Return the source of that name."""
        return next(each for each in self.sources if each.name == name)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each feature by its full name."""
        found = {name: each.fingerprint for name, each in self.features().items()}
        return found | {each.name: each.fingerprint for each in self.derived}

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the set: of its features and request columns."""
        return fingerprint([self.fingerprints(), [each.to_json() for each in self.request]])

    def to_json(self) -> dict[str, object]:
        """Return the canonical content; `canonical` makes it text."""
        return {
            "version": PLAN_VERSION,
            "set": self.name,
            "fingerprint": self.fingerprint,
            "sources": [each.to_json() for each in self.sources],
            "views": [view_json(each) for each in self.views],
            "reads": [[each.name, each.stored, [key.name for key in each.spine_keys]] for each in self.reads],
            "request": [each.to_json() for each in self.request],
            "derived": [{"name": each.name, "expression": each.expression} for each in self.derived],
        }


def view_json(view: ViewPlan) -> dict[str, object]:
    """Return a view's canonical content."""
    return {
        "name": view.name,
        "entity": view.entity,
        "source": view.source,
        "keys": [each.to_json() for each in view.keys],
        "fields": [each.to_json() for each in view.fields],
        "fingerprint": view.fingerprint,
        "features": [feature_json(each) for each in view.features],
    }


def feature_json(each: FeaturePlan) -> dict[str, object]:
    """Return a feature's canonical content, words for the reader included."""
    window = each.window
    return {
        "name": each.name,
        "aggregate": each.aggregate,
        "parameters": list(each.parameters),
        "window": {"size": window.size, "hop": window.hop, "delay": window.delay, "align": window.head_grid},
        "fields": list(each.fields),
        "units": list(each.units),
        "category_units": each.category_units,
        "outer": each.outer,
        "start": each.start,
        "type": str(each.type),
        "fingerprint": each.fingerprint,
        "owner": each.owner,
        "description": each.description,
    }
