"""The oracle: the contract in naive Python, one event at a time. Nobody optimises it.

It shares no code with what it checks: it reads the frozen plan as data (columns, windows as three
numbers, lifts as trees) and brings its own fates, windows, aggregates, derived features and logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from unskew.pipelines.backends.oracle_derived import derived_value
from unskew.pipelines.backends.oracle_formulas import ENCODED, FORMULAS, Result, Sample, Value, nested, unit
from unskew.pipelines.backends.oracle_rows import INT64, Cell, comparable, lifted
from unskew.pipelines.errors import InputError
from unskew.pipelines.nodes import Node
from unskew.pipelines.plan import ColumnPlan, FeaturePlan, SetPlan, SourcePlan, ViewPlan

__all__ = ["Cell", "Result", "Value", "derived_value", "lifted"]  # with what is defined below
Row = Mapping[str, Any]  # a column that is not there is null
FateName = Literal["quarantined", "late", "duplicate", "filtered", "applied"]
Reason = Literal["null_event_time", "wrong_type", "out_of_range", "null_event_id", "future"]

NEVER = 2**63 - 1
FLOAT_NOISE = 2.0**-20  # how far a float may be from a decimal, in the decimal's units
DECIMAL_LIMIT, MOST_DIGITS = 10.0**18, 40  # no decimal column reaches the first; past the second all is refused
PYTHON: dict[str, Any] = {
    "int": int,
    "timestamp": int,
    "decimal": Decimal | float,
    "float": float,
    "bool": bool,
    "string": str,
}


class Refused(InputError):
    """A value that its column does not take; `reason` is ``wrong_type`` or ``out_of_range``."""

    def __init__(self, column: str, value: object, reason: Reason) -> None:
        """Name the column, the value and the reason."""
        super().__init__(f"value `{value!r}` of column `{column}` is refused: {reason}; correct or quarantine the row")
        self.reason = reason


class Fate(NamedTuple):
    """What became of a row, and for a quarantined one why."""

    name: FateName
    reason: Reason | None = None


@dataclass(frozen=True)
class Event:
    """A row that is not quarantined: where it stood in the input, instants in ms, encoded cells.

    `order` is (event time, event id column by column), comparable; it is the identity too.
    """

    position: int
    ts: int
    arrival: int
    late: bool
    order: tuple[object, ...]
    cells: Mapping[str, Cell]


# Values of columns


def encode(column: ColumnPlan, value: Any) -> Cell:
    """Return the integer, string or boolean that the engines compute with.

    Parameters
    ----------
    column
        Name, type and range, inclusive at both ends.
    value
        int, Decimal, float, bool, str, int ms for a timestamp, or None. A float for a decimal column
        must be a decimal of the declared digits, but for rounding noise.

    Raises
    ------
    Refused
        ``wrong_type``: another Python type, a decimal with a digit too many, a string without UTF-8.
        ``out_of_range``: past lo..hi, or past int64 where the column has no range.
    """
    kind = column.type.kind
    if value is None:
        return None
    if not isinstance(value, PYTHON[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise Refused(column.name, value, "wrong_type")
    if isinstance(value, str) and any("\ud800" <= each <= "\udfff" for each in value):
        raise Refused(column.name, value, "wrong_type")
    if isinstance(value, bool | str):
        return value
    if isinstance(value, float | Decimal) and not Decimal(value).is_finite():
        return None
    number: int = {"float": quanta, "decimal": unscaled}.get(kind, lambda _, whole: whole)(column, value)
    lo = INT64[0] if column.type.lo is None else column.type.lo
    hi = INT64[1] if column.type.hi is None else column.type.hi
    if not lo <= number <= hi:
        raise Refused(column.name, value, "out_of_range")
    return number


def quanta(column: ColumnPlan, value: Any) -> int:
    """Return ``floor(x / quantum + 0.5)``."""
    steps: float = value / column.type.quantum + 0.5
    if math.isinf(steps):
        raise Refused(column.name, value, "out_of_range")
    return math.floor(steps)


def unscaled(column: ColumnPlan, value: Any) -> int:
    """Return a decimal times its units, which must be a whole number."""
    if isinstance(value, float):
        if abs(value) >= DECIMAL_LIMIT:
            raise Refused(column.name, value, "out_of_range")
        scaled = value * float(column.type.units)
        whole = round(scaled)
        if abs(scaled - whole) > FLOAT_NOISE and float(whole) / float(column.type.units) != value:
            raise Refused(column.name, value, "wrong_type")
        return int(whole)
    if not value:
        return 0
    if value.adjusted() < -MOST_DIGITS:  # too long to write out as a fraction
        raise Refused(column.name, value, "wrong_type")
    if value.adjusted() > MOST_DIGITS:
        raise Refused(column.name, value, "out_of_range")
    exact = Fraction(value) * column.type.units
    if exact.denominator != 1:
        raise Refused(column.name, value, "wrong_type")
    return exact.numerator


# Fates of rows


def fates(source: SourcePlan, rows: Sequence[Row], views: Sequence[ViewPlan]) -> list[Fate]:
    """Return the one fate of each row (design section 3).

    Parameters
    ----------
    rows
        In order of arrival; the position breaks ties of the arrival instant.
    views
        Those over this source are looked at; a row that none takes is filtered.
    """
    examined = [examine(source, position, row) for position, row in enumerate(rows)]
    firsts = first_copies(source, examined)
    over = [each for each in views if each.source == source.name]
    return [fate(source, each, firsts, over) for each in examined]


def fate(source: SourcePlan, event: Event | Reason, firsts: Mapping[int, Event], views: Sequence[ViewPlan]) -> Fate:
    """Return the first fate that matches."""
    if not isinstance(event, Event):
        return Fate("quarantined", event)
    if event.late:
        return Fate("late")
    if event.position not in firsts:
        return Fate("duplicate")
    taken = any(all(event.cells[key.name] is not None for key in view.keys) for view in views)
    return Fate("applied" if taken and not deletes(source, event) else "filtered")


def deletes(source: SourcePlan, event: Event) -> bool:
    """Return whether a copy deletes its event."""
    return source.deleted is not None and lifted(source.deleted, event.cells) is True


def examine(source: SourcePlan, position: int, row: Row) -> Event | Reason:
    """Return the row as an event, or the first reason against the row as a whole."""
    ts: Any = row.get(source.event_time)
    if ts is None:
        return "null_event_time"
    cells: dict[str, Cell] = {}
    refused = set()
    for column in source.columns:
        try:
            cells[column.name] = encode(column, row.get(column.name))
        except Refused as error:
            refused.add(error.reason)
    if refused:
        return "wrong_type" if "wrong_type" in refused else "out_of_range"
    if any(cells[each] is None for each in source.event_id):
        return "null_event_id"
    arrival: Any = None if source.arrival is None else row.get(source.arrival)
    arrival = ts if arrival is None else arrival
    if ts - arrival > source.max_future_skew:
        return "future"
    order = (ts, *(comparable(cells[each]) for each in source.event_id))
    return Event(position, ts, arrival, arrival - ts > source.allowed_lateness, order, cells)


def first_copies(source: SourcePlan, examined: Sequence[Event | Reason]) -> dict[int, Event]:
    """Return by position the first copy of each identity, by arrival, then position."""
    events = [each for each in examined if isinstance(each, Event)]
    if not source.deduplicate:
        return {each.position: each for each in events}
    firsts: dict[tuple[object, ...], Event] = {}
    for each in sorted(events, key=lambda event: (event.arrival, event.position)):
        firsts.setdefault(each.order, each)
    return {each.position: each for each in firsts.values()}


def sound(source: SourcePlan, rows: Sequence[Row]) -> list[Event]:
    """Return all rows that are not quarantined."""
    examined = [examine(source, position, row) for position, row in enumerate(rows)]
    return [each for each in examined if isinstance(each, Event)]


def next_copies(examined: Sequence[Event | Reason]) -> dict[int, Event]:
    """Return by position the copy of the same identity that comes next, by arrival, then position."""
    found: dict[int, Event] = {}
    newest: dict[tuple[object, ...], Event] = {}
    events = [each for each in examined if isinstance(each, Event)]
    for each in sorted(events, key=lambda event: (event.arrival, event.position)):
        if each.order in newest:
            found[newest[each.order].position] = each
        newest[each.order] = each
    return found


def usable(source: SourcePlan, rows: Sequence[Row]) -> list[Event]:
    """Return the events that ideal features are made of, by position: first copies, late or not; last ones if amended."""
    examined = [examine(source, position, row) for position, row in enumerate(rows)]
    if not source.amended:
        found = first_copies(source, examined)
        return [found[position] for position in sorted(found)]
    superseded = next_copies(examined)
    last = (each for each in examined if isinstance(each, Event) and each.position not in superseded)
    return [each for each in last if not deletes(source, each)]


def known_by_arrival(
    source: SourcePlan, rows: Sequence[Row], lag_ms: int, flips: Sequence[tuple[int, int, int]]
) -> list[tuple[int, int]]:
    """Return from which instant on (inclusive, ms) until which (exclusive) serving could have known each row.

    Parameters
    ----------
    lag_ms
        From an event's arrival until the stream serves it.
    flips
        (cut, batch_end, instant) of uploads, ms: a late event is in the first with
        ``arrival < cut`` and ``event_time < batch_end``.

    Returns
    -------
    list of tuple
        Twice `NEVER` for quarantined rows, duplicates, and late rows of no upload. A copy that amends its event is
        known from the first upload that holds it, which is where the one before it ends.
    """
    examined = [examine(source, position, row) for position, row in enumerate(rows)]
    firsts, following = first_copies(source, examined), next_copies(examined) if source.amended else {}
    found = [(NEVER, NEVER)] * len(rows)

    def uploaded(event: Event) -> int:
        return min((at for cut, end, at in flips if event.arrival < cut and event.ts < end), default=NEVER)

    for each in examined:
        if not isinstance(each, Event) or deletes(source, each) or (each.position not in firsts and not source.amended):
            continue
        at_once = each.position in firsts and not each.late
        until = uploaded(following[each.position]) if each.position in following else NEVER
        found[each.position] = (each.arrival + lag_ms if at_once else uploaded(each), until)
    return found


# Features


def features(
    plan: SetPlan,
    events: Mapping[str, Sequence[Row]],
    spine: Sequence[Row],
    *,
    known: Mapping[str, Sequence[tuple[int, int]]] | None = None,
) -> list[dict[str, Result]]:
    """Compute all features of a set at each row of a spine.

    Parameters
    ----------
    events
        For each source of the plan its rows, in order of arrival.
    spine
        Rows with ``t`` (ms), the key columns of each entity, the columns of the request, and
        ``asof`` where it is not `t`.
    known
        For each source named, from which `asof` on (inclusive) until which (exclusive) each of its rows counts; by
        default all first copies count everywhere, of an amended source all last ones.

    Returns
    -------
    list of dict
        For each spine row its values by full name: int, float, bool, str, list (newest first) or None.

    Raises
    ------
    EngineError
        If a sum passes int64.
    Refused
        If a column of the request is of a wrong type or out of range.
    """
    knowledge = known or {}
    sources = {
        each.name: sound(each, events[each.name]) if each.name in knowledge else usable(each, events[each.name])
        for each in plan.sources
    }
    found = []
    for row in spine:
        values: dict[str, Result] = {}
        for view in plan.reads:
            own = [each for each in sources[view.source] if is_of(view, each, row)]
            if view.source in knowledge:
                asof, spans = row.get("asof", row["t"]), knowledge[view.source]
                own = [each for each in own if spans[each.position][0] <= asof < spans[each.position][1]]
            values |= {each.name: feature_value(view, each, own, row["t"]) for each in view.features}
        request = {each.name: encode(each, row.get(each.name)) for each in plan.request}
        values |= {each.name: derived_value(each.expression, values, request) for each in plan.derived}
        found.append(values)
    return found


def is_of(view: ViewPlan, event: Event, row: Row) -> bool:
    """Return whether an event is of the spine row's entity; a null key is of none."""
    pairs = zip(view.keys, view.asked or [each.name for each in view.keys], strict=True)
    cells = [(event.cells[key.name], row.get(asked)) for key, asked in pairs]
    return all(mine is not None and mine == wanted for mine, wanted in cells)


def feature_value(view: ViewPlan, feature: FeaturePlan, events: Sequence[Event], t: int) -> Result:
    """Return a feature over one entity's events: those with ``tail <= ts < head``."""
    if feature.start is not None and bounds(feature, t)[0] < feature.start:
        return None
    events = inside(feature, events, t)
    fields = [view.fields[each] for each in feature.fields]
    if not feature.category_units:
        return formula(feature, [each.lift for each in fields], events, t)
    (multiset,) = fields
    found: dict[Value, Value] = {}
    inner: list[Any] = []
    categories = {lifted(multiset.lift, each.cells) for each in events} - {None}
    for category in sorted(categories, key=comparable):
        own = [each for each in events if lifted(multiset.lift, each.cells) == category]
        if feature.outer:
            (cells,) = ordered([multiset.inner[0].lift], own)
            inner += [ENCODED[feature.aggregate](cells)] if cells or feature.aggregate in ("count", "sum") else []
            continue
        value = formula(feature, [each.lift for each in multiset.inner], own, t)
        if value is not None:
            found[unit(category, feature.category_units)] = value  # type: ignore[assignment]
    if feature.outer:
        return nested(feature.outer, inner, (*feature.units, 1)[0], feature.type.kind == "float")
    return found or None


def bounds(feature: FeaturePlan, t: int) -> tuple[int, int]:
    """Return tail (inclusive) and head (exclusive) of a feature's window at `t`, ms."""
    window = feature.window
    head = t - window.delay
    if window.align or window.delay:
        head -= head % (window.align or window.hop)
    return head - window.size - (head - window.size) % window.hop, head


def inside(feature: FeaturePlan, events: Sequence[Event], t: int) -> list[Event]:
    """Return the events in a feature's window at `t`."""
    tail, head = bounds(feature, t)
    return [each for each in events if tail <= each.ts < head]


def formula(feature: FeaturePlan, lifts: Sequence[Node], events: Sequence[Event], t: int) -> Result:
    """Return an aggregate over events, from the lifts of its fields."""
    sample = Sample(ordered(lifts, events), t, feature.units, feature.type.kind == "float")
    return FORMULAS[feature.aggregate](sample, *feature.parameters)


def ordered(lifts: Sequence[Node], events: Sequence[Event]) -> list[list[Cell]]:
    """Return each field's lifted values without nulls by (event time, event id), then by the first field's value.

    Fields that are null together keep their pairs.
    """
    rows = [(each.order, [lifted(lift, each.cells) for lift in lifts]) for each in events]
    rows.sort(key=lambda row: (row[0], [comparable(each) for each in row[1][:1] if each is not None]))
    return [[cells[at] for _, cells in rows if cells[at] is not None] for at in range(len(lifts))]
