"""Event logs and probes for a plan, drawn where engines go wrong: on the grid, on ties, at the ends of ranges."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan

Row = dict[str, Any]
BASES = (0, 1_700_006_400_000, -86_400_000 * 400)  # all on a day's start: 1970, 2023-11-15, 1968
STRINGS = ("", "a", "A", "é", "z", "\uffff", "😀", "x'\"\\")  # U+FFFF and the face: UTF-8 and UTF-16 order them unlike
POOL = (1, 2, 3, -1)
TYPICAL = ("null", "out_of_range")
FAULTS = (*TYPICAL, "wrong_type")
WRONG: dict[str, tuple[Any, ...]] = {
    "int": ("1", 1.0, True, Decimal(1)),
    "timestamp": ("1970-01-01", 0.5, False),
    "decimal": ("1.5", 1, True, Decimal("0.0000000000000000001")),
    "float": ("nan", 1, Decimal("1.5"), False),
    "bool": (0, "true", 1.0),
    "string": (0, b"a", "\ud800"),
}


@dataclass(frozen=True)
class World:
    """Events by source, in order of arrival, and a spine that reads them."""

    events: dict[str, list[Row]]
    spine: list[Row]


def decoded(column: ColumnPlan, number: int) -> Any:
    """Return the Python value whose encoding is `number`."""
    kind, units = column.type.kind, column.type.units
    if kind == "decimal":
        return Decimal(number).scaleb(-(len(str(units)) - 1))
    return number * column.type.quantum if kind == "float" else number


def cells(column: ColumnPlan) -> SearchStrategy[Any]:
    """Draw a value that the column takes, never null: small ones often, so that they meet, and both ends."""
    kind = column.type.kind
    if kind == "string":
        return st.sampled_from(STRINGS)
    if kind == "bool":
        return st.booleans()
    lo = -(2**63) if column.type.lo is None else column.type.lo
    hi = 2**63 - 1 if column.type.hi is None else column.type.hi
    small = [each for each in (*POOL, 0) if lo <= each <= hi]
    return st.sampled_from([*small, *small, lo, hi]).map(lambda number: decoded(column, number)) | st.integers(
        lo, hi
    ).map(lambda number: decoded(column, number))


def faulty(column: ColumnPlan, faults: Collection[str]) -> SearchStrategy[Any]:
    """Draw a value that the column refuses, or null, of the kinds of faults that are asked for."""
    found: list[Any] = [None] if "null" in faults else []
    if "null" in faults and column.type.kind == "float":
        found += [float("nan"), float("inf"), -float("inf")]
    if "out_of_range" in faults and column.type.lo is not None and column.type.hi is not None:
        past = (column.type.lo - 1, column.type.hi + 1) if column.type.kind != "bool" else ()
        found += [decoded(column, each) for each in past]
    if "wrong_type" in faults:
        found += WRONG[column.type.kind]
    return st.sampled_from(found or [None])


def key_cells(column: ColumnPlan) -> SearchStrategy[Any]:
    """Draw one of a few keys or ids, so that events meet."""
    return st.sampled_from(("a", "é", "") if column.type.kind == "string" else (1, 2))


def edges(plan: SetPlan) -> list[int]:
    """Return how far before a read the plan's windows begin and end, ms, grid steps included."""
    found = {0}
    for window in (each.window for view in plan.views for each in view.features):
        size = window.finite_size
        found |= {window.hop, window.delay, size, size + window.delay, size + window.delay + window.hop}
    return sorted(found)


def instants(plan: SetPlan, base: int) -> SearchStrategy[int]:
    """Draw an instant near an edge of a window or a tile, most often within 1 ms of it."""
    hops = sorted({each.window.hop for view in plan.views for each in view.features})
    jitter = st.sampled_from((0, 0, -1, 1)) | st.integers(-max(hops), max(hops))
    step = st.sampled_from(hops).flatmap(lambda hop: st.integers(-3, 3).map(lambda times: times * hop))
    return st.builds(lambda *parts: base + sum(parts), step, jitter)


@st.composite
def event_rows(
    draw: DrawFn,
    plan: SetPlan,
    source: SourcePlan,
    base: int = 0,
    *,
    faults: Collection[str] = TYPICAL,
    max_size: int = 25,
) -> list[Row]:
    """Draw rows of a source in order of arrival: ties, copies, late and future ones, and the faults asked for.

    Parameters
    ----------
    base
        Instant that the probes are drawn around, ms.
    faults
        Of `FAULTS`; ``wrong_type`` only where rows are not typed yet.
    """
    late, skew = source.allowed_lateness, source.max_future_skew
    lags = st.sampled_from((0, 0, 0, 1, 60_000, late, late + 1, late * 3, -1, -skew, -skew - 1))
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, max_size))):
        row = (
            dict(draw(st.sampled_from(rows)))
            if rows and draw(st.integers(0, 4)) == 0
            else draw_row(draw, plan, source, base)
        )
        ts = row[source.event_time]
        if source.arrival is not None and isinstance(ts, int):
            row[source.arrival] = draw(st.none() | lags.map(ts.__add__))
        for column in source.columns:
            if draw(st.integers(0, 39)) == 0:
                row[column.name] = draw(cells(column) | faulty(column, faults))
        rows.append(row)
    return sorted(rows, key=lambda row: arrival_of(source, row))


def draw_row(draw: DrawFn, plan: SetPlan, source: SourcePlan, base: int) -> Row:
    """Draw a row that is sound but for nulls in columns without a role."""
    keys = {each.name for view in plan.views for each in view.keys} | set(source.event_id)
    row: Row = {}
    for column in source.columns:
        drawn = key_cells(column) if column.name in keys else st.none() | cells(column) | cells(column)
        row[column.name] = draw(drawn)
    row[source.event_time] = draw(instants(plan, base)) - draw(st.sampled_from(edges(plan)))
    return row


def arrival_of(source: SourcePlan, row: Row) -> float:
    """Return what a log would order by."""
    for name in (source.arrival, source.event_time):
        if name is not None and isinstance(row[name], int):
            return float(row[name])
    return 0.0


@st.composite
def probes(draw: DrawFn, plan: SetPlan, base: int = 0, max_size: int = 6) -> list[Row]:
    """Draw spine rows: `t`, the keys of all entities (seldom null) and request columns."""
    keys = plan.spine_keys()
    spine = []
    for _ in range(draw(st.integers(1, max_size))):
        row: Row = {"t": draw(instants(plan, base))}
        row |= {name: draw(st.none() if draw(st.integers(0, 19)) == 0 else key_cells(keys[name])) for name in keys}
        row |= {each.name: draw(st.none() | cells(each) | cells(each)) for each in plan.request}
        spine.append(row)
    return spine


@st.composite
def worlds(draw: DrawFn, plan: SetPlan, faults: Collection[str] = TYPICAL, max_size: int = 25) -> World:
    """Draw events of all sources and probes around one instant, before, at or after 1970."""
    base = draw(st.sampled_from(BASES))
    events = {each.name: draw(event_rows(plan, each, base, faults=faults, max_size=max_size)) for each in plan.sources}
    return World(events, draw(probes(plan, base)))
