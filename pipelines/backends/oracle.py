"""The oracle: the contract in naive Python, one event at a time. Nobody optimises it.

It shares no code with what it checks: it reads the frozen plan as data (columns, windows as three
numbers, lifts as trees) and brings its own fates, windows, aggregates, derived features and logarithm.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.nodes import Node
from unskew.pipelines.plan import ColumnPlan, FeaturePlan, SetPlan, SourcePlan, ViewPlan

Cell = int | bool | str | None  # encoded
Value = int | float | bool | str | None
Result = Value | list[Value] | dict[Value, Value]
Row = Mapping[str, Any]  # a column that is not there is null
FateName = Literal["quarantined", "late", "duplicate", "filtered", "applied"]
Reason = Literal["null_event_time", "wrong_type", "out_of_range", "null_event_id", "future"]

NEVER = 2**63 - 1
FLOAT_NOISE = 2.0**-20  # how far a float may be from a decimal, in the decimal's units
INT64 = (-(2**63), 2**63 - 1)  # the range of a column that declares none
DECIMAL_LIMIT, MOST_DIGITS = 10.0**18, 40  # no decimal column reaches the first; past the second all is refused
HOUR, DAY = 3_600_000, 86_400_000
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
    return [fate(each, firsts, over) for each in examined]


def fate(event: Event | Reason, firsts: Mapping[int, Event], views: Sequence[ViewPlan]) -> Fate:
    """Return the first fate that matches."""
    if not isinstance(event, Event):
        return Fate("quarantined", event)
    if event.late:
        return Fate("late")
    if event.position not in firsts:
        return Fate("duplicate")
    taken = any(all(event.cells[key.name] is not None for key in view.keys) for view in views)
    return Fate("applied" if taken else "filtered")


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


def comparable(cell: Any) -> Any:
    """Return strings as their UTF-8 bytes, which is how they are ordered."""
    return cell.encode() if isinstance(cell, str) else cell


def first_copies(source: SourcePlan, examined: Sequence[Event | Reason]) -> dict[int, Event]:
    """Return by position the first copy of each identity, by arrival, then position."""
    events = [each for each in examined if isinstance(each, Event)]
    if not source.deduplicate:
        return {each.position: each for each in events}
    firsts: dict[tuple[object, ...], Event] = {}
    for each in sorted(events, key=lambda event: (event.arrival, event.position)):
        firsts.setdefault(each.order, each)
    return {each.position: each for each in firsts.values()}


def usable(source: SourcePlan, rows: Sequence[Row]) -> list[Event]:
    """Return the events that ideal features are made of, by position: the first copies, late or not."""
    found = first_copies(source, [examine(source, position, row) for position, row in enumerate(rows)])
    return [found[position] for position in sorted(found)]


def known_by_arrival(
    source: SourcePlan, rows: Sequence[Row], lag_ms: int, flips: Sequence[tuple[int, int, int]]
) -> list[int]:
    """Return from which instant on (inclusive, ms) serving could have known each row.

    Parameters
    ----------
    lag_ms
        From an event's arrival until the stream serves it.
    flips
        (cut, batch_end, instant) of uploads, ms: a late event is in the first with
        ``arrival < cut`` and ``event_time < batch_end``.

    Returns
    -------
    list of int
        `NEVER` for quarantined rows, duplicates, and late rows of no upload.
    """
    found = [NEVER] * len(rows)
    for each in usable(source, rows):
        uploads = [at for cut, end, at in flips if each.arrival < cut and each.ts < end]
        found[each.position] = min(uploads, default=NEVER) if each.late else each.arrival + lag_ms
    return found


# Row expressions: null in, null out, but for those that say otherwise

STRICT: dict[str, Callable[..., Cell]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "floordiv": lambda a, b: a // b if b else None,
    "mod": lambda a, b: a - b * (a // b) if b else None,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "not": operator.not_, "abs": abs, "greatest": max, "least": min,
    "length": len, "concat": lambda *args: "".join(args),
    "lower": lambda text: "".join(chr(ord(each) + 32) if "A" <= each <= "Z" else each for each in text),
    "upper": lambda text: "".join(chr(ord(each) - 32) if "a" <= each <= "z" else each for each in text),
    "substr": lambda text, start, length: text[start - 1 : start - 1 + length],
    "split_part": lambda text, separator, part: dict(enumerate(text.split(separator), 1)).get(part),
    "starts_with": lambda text, prefix: text.startswith(prefix),
    "contains": lambda text, part: part in text, "truncdiv": lambda a, b: int(Fraction(a, b)),
}  # fmt: skip
LENIENT: dict[str, Callable[..., Cell]] = {
    "and": lambda *args: False if False in args else None if None in args else True,
    "or": lambda *args: True if True in args else None if None in args else False,
    "is_null": lambda a: a is None,
    "coalesce": lambda *args: next((each for each in args if each is not None), None),
    "if_else": lambda condition, then, otherwise: then if condition is True else otherwise,
    "isin": lambda a, *members: None if a is None else True if a in members else None if None in members else False,
}


def lifted(node: Node, cells: Mapping[str, Cell]) -> Cell:
    """Return the value of a row expression."""
    if node.op == "column":
        return cells[str(node.value)]
    if node.op == "literal":
        return node.value
    args = [lifted(each, cells) for each in node.args]
    if node.op in LENIENT:
        return LENIENT[node.op](*args)
    if None in args:
        return None
    return CASTS[node.op](*args, node) if node.op in CASTS else STRICT[node.op](*args)


def as_text(cell: Any, node: Node) -> str:
    """Write a boolean as true or false, a decimal with all its digits."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    units = node.args[0].type.units
    return f"{Decimal(cell).scaleb(1 - len(str(units))):f}"


def as_number(text: str, node: Node) -> int | None:
    """Read plain digits in the type's units; null for another form, more digits, or past int64."""
    digits = len(str(node.type.units)) - 1
    pattern = r"-?(0|[1-9][0-9]{0,18})" + (rf"([.][0-9]{{1,{digits}}})?" if digits else "")
    if re.fullmatch(pattern, text, re.ASCII) is None:
        return None
    number = int(Fraction(text) * node.type.units)
    return number if INT64[0] <= number <= INT64[1] else None


CASTS: dict[str, Callable[..., Cell]] = {"to_string": as_text, "to_number": as_number}


# Aggregates over a window


@dataclass(frozen=True)
class Sample:
    """What a formula sees.

    Parameters
    ----------
    fields
        For each state field its lifted values without nulls, oldest first.
    t
        Instant of the read, ms.
    units
        Encoded units of each input.
    scaled
        Whether the value is a float64 of scaled integers.
    """

    fields: Sequence[Sequence[Cell]]
    t: int
    units: tuple[int, ...]
    scaled: bool

    def number(self, cell: Any) -> Any:
        """Return an encoded value in its own unit."""
        return float(cell) / float(self.units[0]) if self.scaled else cell


def total(cells: Sequence[Any]) -> int:
    """Return the exact sum, which must fit int64."""
    found = sum(cells)
    if not INT64[0] <= found <= INT64[1]:
        message = f"sum `{found}` passes int64; declare a tighter range or a shorter window"
        raise EngineError(message)
    return int(found)


def mean(sample: Sample) -> Value:
    """Return ``float64(sum) / float64(n * units)``."""
    values = sample.fields[0]
    return float(total(values)) / float(len(values) * sample.units[0]) if values else None


def ratio(sample: Sample) -> Value:
    """Return ``(float64(a) / float64(u)) / (float64(b) / float64(v))``; null where the divisor is 0."""
    top, bottom = (float(total(each)) / float(unit) for each, unit in zip(sample.fields, sample.units, strict=True))
    return top / bottom if bottom else None


def spread(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Return ``n * sum(xy) - sum(x) * sum(y)``."""
    products = sum(int(x) * int(y) for x, y in zip(left, right, strict=True))
    return len(left) * products - int(sum(left)) * int(sum(right))


def variance(sample: Sample) -> float | None:
    """Return ``f64(n * sum(xx) - sum(x)**2) / (f64(n) * f64(n)) / (f64(units) * f64(units))``."""
    values, units = sample.fields[0], float(sample.units[0])
    n = float(len(values))
    return float(spread(values, values)) / (n * n) / (units * units) if values else None


def stddev(sample: Sample) -> Value:
    """Return the square root of the variance."""
    found = variance(sample)
    return None if found is None else math.sqrt(found)


def covariance(sample: Sample) -> Value:
    """Return ``f64(n * sum(xy) - sum(x) * sum(y)) / (f64(n) * f64(n)) / (f64(u) * f64(v))``."""
    left, right = sample.fields[:2]
    n, units = float(len(left)), float(sample.units[0]) * float(sample.units[1])
    return float(spread(left, right)) / (n * n) / units if left else None


def correlation(sample: Sample) -> Value:
    """Return ``f64(Nxy) / (sqrt(f64(Nxx)) * sqrt(f64(Nyy)))``; null where a side does not vary."""
    left, right = sample.fields[:2]
    below = math.sqrt(float(spread(left, left))) * math.sqrt(float(spread(right, right)))
    return float(spread(left, right)) / below if below else None


def first_of(order: Callable[[Sequence[Any]], Sequence[Any]]) -> Callable[[Sample, int], Result]:
    """Return a formula for the first k values in an order; null where there is none."""
    return lambda sample, k: [sample.number(each) for each in order(sample.fields[0])[:k]] or None


def by_frequency(values: Sequence[Any]) -> list[Any]:
    """Return the different values by descending count, equally frequent ones ascending."""
    return sorted(sorted(set(values), key=comparable), key=values.count, reverse=True)


def histogram(sample: Sample) -> Result:
    """Return the count of each value, by ascending value; null where there is none."""
    values = sample.fields[0]
    return {unit(each, sample.units[0]): values.count(each) for each in sorted(set(values), key=comparable)} or None


def unit(cell: Any, units: int) -> Any:
    """Return an encoded value as a number, where it is scaled."""
    return cell if units == 1 else float(cell) / float(units)


def quantile(sample: Sample, millionths: int) -> Value:
    """Return the value of rank ``ceil(q * n)``, counted from 1."""
    values = sorted(sample.fields[0])  # type: ignore[type-var]
    rank = math.ceil(Fraction(millionths * len(values), 1_000_000))
    return sample.number(values[rank - 1]) if values else None


def powers(sample: Sample) -> tuple[list[int], int]:
    """Return the values of a sum's field that could be divided by nothing, and ``n * S2 - S1**2``."""
    values = [int(each) for each in sample.fields[0]]  # type: ignore[arg-type]
    return values, spread(values, values)


def skewness(sample: Sample) -> Value:
    """Return ``f64(N3) / (f64(N2) * sqrt(f64(N2)))``; null where the value does not vary."""
    values, two = powers(sample)
    n, mean_of = len(values), sum(values)
    three = sum((n * each - mean_of) ** 3 for each in values) // n if n else 0
    return float(three) / (float(two) * math.sqrt(float(two))) if two else None


def kurtosis(sample: Sample) -> Value:
    """Return ``f64(N4) / (f64(N2) * f64(N2)) - 3``; null where the value does not vary."""
    values, two = powers(sample)
    n, mean_of = len(values), sum(values)
    four = sum((n * each - mean_of) ** 4 for each in values) // n if n else 0
    return float(four) / (float(two) * float(two)) - 3.0 if two else None


def slope(sample: Sample) -> Value:
    """Return ``f64(Ntx) / f64(Ntt) * 1000 / f64(units)`` of the values and the digits of their event times."""
    values, digits = sample.fields[0], sample.fields[2:5]
    times = [low + (middle << 16) + (high << 32) for low, middle, high in zip(*digits, strict=True)]
    two = spread(times, times)
    return float(spread(times, values)) / float(two) * 1000.0 / float(sample.units[0]) if two else None


def one_of(choose: Callable[[Sequence[Any]], Any]) -> Callable[[Sample], Value]:
    """Return a formula that picks one value; null where there is none."""
    return lambda sample: sample.number(choose(sample.fields[0])) if sample.fields[0] else None


def since(choose: Callable[[Sequence[Any]], Any]) -> Callable[[Sample], Value]:
    """Return a formula for the ms from one event time to the instant of the read."""
    return lambda sample: sample.t - choose(sample.fields[0]) if sample.fields[0] else None


FORMULAS: dict[str, Callable[..., Result]] = {
    "count": lambda sample: total(sample.fields[0]),
    "sum": lambda sample: sample.number(total(sample.fields[0])),
    "mean": mean,
    "ratio": ratio,
    "variance": variance,
    "stddev": stddev,
    "covariance": covariance,
    "correlation": correlation,
    "min": one_of(min),
    "max": one_of(max),
    "first": one_of(lambda values: values[0]),
    "last": one_of(lambda values: values[-1]),
    "time_since_first": since(min),
    "time_since_last": since(max),
    "first_k": first_of(lambda values: values),
    "last_k": first_of(lambda values: values[::-1]),
    "top_k": first_of(lambda values: sorted(values, reverse=True)),
    "bottom_k": first_of(sorted),
    "histogram": histogram,
    "mode": one_of(lambda values: by_frequency(values)[0]),
    "top_k_frequent": first_of(by_frequency),
    "quantile": quantile,
    "skewness": skewness,
    "kurtosis": kurtosis,
    "slope": slope,
    "count_distinct": lambda sample: len(set(sample.fields[0])),
}


# Features


def features(
    plan: SetPlan,
    events: Mapping[str, Sequence[Row]],
    spine: Sequence[Row],
    *,
    known: Mapping[str, Sequence[int]] | None = None,
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
        For each source named, from which `asof` on (inclusive) each of its rows counts; by default
        all rows count everywhere.

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
    sources = {each.name: usable(each, events[each.name]) for each in plan.sources}
    found = []
    for row in spine:
        values: dict[str, Result] = {}
        for view in plan.reads:
            own = [each for each in sources[view.source] if is_of(view, each, row)]
            if known is not None and view.source in known:
                asof = row.get("asof", row["t"])
                own = [each for each in own if known[view.source][each.position] <= asof]
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
    window = feature.window
    head = t - window.delay
    if window.align or window.delay:
        head -= head % (window.align or window.hop)
    tail = head - window.size - (head - window.size) % window.hop
    if feature.start is not None and tail < feature.start:
        return None
    inside = [each for each in events if tail <= each.ts < head]
    fields = [view.fields[each] for each in feature.fields]
    if not feature.category_units:
        return formula(feature, [each.lift for each in fields], inside, t)
    (multiset,) = fields
    found: dict[Value, Value] = {}
    categories = {lifted(multiset.lift, each.cells) for each in inside} - {None}
    for category in sorted(categories, key=comparable):
        own = [each for each in inside if lifted(multiset.lift, each.cells) == category]
        value = formula(feature, [each.lift for each in multiset.inner], own, t)
        if value is not None:
            found[unit(category, feature.category_units)] = value  # type: ignore[assignment]
    return found or None


def formula(feature: FeaturePlan, lifts: Sequence[Node], events: Sequence[Event], t: int) -> Result:
    """Return an aggregate over events, from the lifts of its fields."""
    sample = Sample([ordered(each, events) for each in lifts], t, feature.units, feature.type.kind == "float")
    return FORMULAS[feature.aggregate](sample, *feature.parameters)


def ordered(lift: Node, events: Sequence[Event]) -> list[Cell]:
    """Return the lifted values without nulls by (event time, event id), then by value."""
    pairs = [(each.order, lifted(lift, each.cells)) for each in events]
    present = [(order, cell) for order, cell in pairs if cell is not None]
    return [cell for _, cell in sorted(present, key=lambda pair: (pair[0], comparable(pair[1])))]


# Derived features: IEEE float64, null in, null out, but for those that say otherwise


def derived_value(expression: Sequence[Any], values: Mapping[str, Any], request: Mapping[str, Cell]) -> Any:
    """Return a derived feature, a float or None; of a leaf that is no number what it is.

    Parameters
    ----------
    expression
        Nested tuples as the plan holds them.
    values
        Features by full name, finished.
    request
        Encoded columns of the request.
    """
    op = expression[0]
    if op == "literal":
        return expression[1] if isinstance(expression[1], str) else float(expression[1])
    if op in ("feature", "request"):
        found = values[expression[1]] if op == "feature" else request[expression[1]]
        return found if found is None or expression[2] <= 0 else float(found) / float(expression[2])
    args = [derived_value(each, values, request) for each in expression[1:]]
    result: Any
    if op in ("coalesce", "is_null", "isin"):
        result = LENIENT[op](*args)
    elif op in ("and", "or"):
        result = LENIENT[op](*(None if each is None else each != 0 for each in args))
    elif op == "if_else":
        result = args[1] if args[0] not in (None, 0.0) else args[2]
    else:
        result = None if None in args else DERIVED[op](*args)
    return None if result is None or not math.isfinite(result) else float(result)


def clip(x: float, lower: float, upper: float) -> float:
    """Return ``min(max(x, lower), upper)``; of two zeros the bound."""
    raised = x if x > lower else lower
    return raised if raised < upper else upper


LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
LP = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip


def log1p(x: float) -> float | None:
    """Return ln(1 + x) after fdlibm's s_log1p.c (Sun Microsystems), always by its general case; null for x <= -1."""
    if x <= -1.0:
        return None
    if abs(x) < 2.0**-54:
        return x
    u = 1.0 + x
    return logarithm(u, (x - (u - 1.0) if abs(x) < 1.0 else 1.0 - (u - x)) / u)


def logarithm(u: float, c: float) -> float:
    """Return ln(u) + c for u > 0."""
    k = 0
    while u >= math.sqrt(2.0):  # halving and doubling are exact
        u, k = u / 2.0, k + 1
    while u < math.sqrt(2.0) / 2.0:
        u, k = u * 2.0, k - 1
    f = u - 1.0
    hfsq = 0.5 * f * f
    s = f / (2.0 + f)
    z = s * s
    r = z * (LP[0] + z * (LP[1] + z * (LP[2] + z * (LP[3] + z * (LP[4] + z * (LP[5] + z * LP[6]))))))
    return k * LN2[0] - ((hfsq - (s * (hfsq + r) + (k * LN2[1] + c))) - f)


FAR = 750.0  # beyond it e**x is infinite or 0
EP = (
    1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05, -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)  # fmt: skip


def exponential(x: float) -> float:
    """Return e**x after fdlibm's e_exp.c (Sun Microsystems), always by its general case."""
    if abs(x) > FAR:
        return math.inf if x > 0 else 0.0
    k = math.floor(x * 1.44269504088896338700 + 0.5)
    hi, lo = x - k * LN2[0], k * LN2[1]
    r = hi - lo
    t = r * r
    c = r - t * (EP[0] + t * (EP[1] + t * (EP[2] + t * (EP[3] + t * EP[4]))))
    near = 1.0 - ((lo - (r * c) / (2.0 - c)) - hi)
    try:
        return math.ldexp(near, k)
    except OverflowError:
        return math.inf


def cosine(left: Sequence[Any], right: Sequence[Any]) -> float | None:
    """Return ``dot / (sqrt(aa) * sqrt(bb))``, each sum in order; null for unlike lengths and for zero."""
    if len(left) != len(right):
        return None
    dot = aa = bb = 0.0
    for x, y in zip((float(each) for each in left), (float(each) for each in right), strict=True):
        dot, aa, bb = dot + x * y, aa + x * x, bb + y * y
    below = math.sqrt(aa) * math.sqrt(bb)
    return dot / below if below and math.isfinite(below) else None


DERIVED: dict[str, Callable[..., float | None]] = {
    "abs": abs,
    "sign": lambda x: 1.0 if x > 0 else -1.0 if x < 0 else 0.0,
    "round": lambda x: float(round(x)) if x else x,
    "not": operator.not_,
    "sqrt": lambda x: math.sqrt(x) if x >= 0 else None,
    "log": lambda x: logarithm(x, 0.0) if x > 0 else None,
    "exp": exponential,
    "greatest": max,
    "least": min,
    "bucketize": lambda x, *bounds: sum(x >= each for each in bounds),
    "cosine": cosine,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "div": lambda a, b: a / b if b else None,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "clip": clip,
    "log1p": log1p,
    "hour_of_day": lambda ms: int(ms) // HOUR % 24,
    "day_of_week": lambda ms: (int(ms) // DAY + 3) % 7,  # 1970-01-01 was a Thursday, Monday is 0
}  # fmt: skip
