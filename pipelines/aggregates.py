"""The table of aggregates: state, lift, finish. Engines are adapters to it.

An aggregate is a tuple of state fields and a `finish`. A field's input is a typed row
expression (its *lift*); null inputs are ignored. How fields of a kind combine:

=========  ===================================  ===========================  =======
kind       state                                merge                        inverse
=========  ===================================  ===========================  =======
add        int64                                addition                     yes
min, max   int64 or null                        smaller, larger              no
first      (ts, id, value) or null              smallest by (ts, id, value)  no
last       (ts, id, value) or null              largest by (ts, id, value)   no
list       at most k entries (ts, id, value)    union, the k largest         no
multiset   value -> count                       addition by value            yes
=========  ===================================  ===========================  =======
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.moments import halves, numerator, product
from unskew.pipelines.nodes import Node, as_number, literal, masked, present
from unskew.pipelines.types import SUM_LIMIT, Int64

FieldKind = Literal["add", "min", "max", "first", "last", "list", "multiset"]
ValueKind = Literal["int", "float", "bool", "string", "timestamp"]


@dataclass(frozen=True)
class StateField:
    """One field of a state: its kind, its lift, and the bound of a list."""

    kind: FieldKind
    lift: Node
    k: int = 0

    def to_json(self) -> list[object]:
        """Return the canonical form."""
        return [self.kind, self.k, self.lift.to_json()]


@dataclass(frozen=True)
class Lift:
    """What an aggregate's fields are built from: typed inputs, filter, event time, parameters."""

    inputs: tuple[Node, ...]
    where: Node | None
    event_time: Node
    parameters: tuple[int, ...] = ()


@dataclass(frozen=True)
class FeatureType:
    """Type of a feature's value; a list of it where `repeated`."""

    kind: ValueKind
    repeated: bool = False

    def __str__(self) -> str:
        """Return the name that `plan` prints."""
        name = {"int": "int64", "float": "float64"}.get(self.kind, self.kind)
        return f"list<{name}>" if self.repeated else name


@dataclass(frozen=True)
class Values:
    """A column of n states or features.

    Parameters
    ----------
    data
        (n,) values; for lists the (m,) entries of all rows, newest first.
    valid
        (n,) False where null.
    offsets
        (n + 1,) bounds of each row's entries for lists, else None.
    """

    data: NDArray[np.generic]
    valid: NDArray[np.bool_]
    offsets: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Finish:
    """What a finish sees besides the states: the instants (n,) in ms and the inputs' units."""

    at: NDArray[np.int64]
    units: tuple[int, ...]


@dataclass(frozen=True)
class Aggregate:
    """A row of the table.

    Parameters
    ----------
    formula
        The finish in words: integers first, then one stated sequence of float64 operations.
    inputs
        Number of columns that it takes.
    fields
        State fields from the typed inputs.
    result
        Type of the value from the typed inputs.
    finish
        Values from the windows' states, in the order of `fields`.
    empty
        Value over an empty window: 0 or None (null).
    parameters
        Names of whole-number parameters, each from 1 to `limit`.
    """

    formula: str
    inputs: int
    fields: Callable[[Lift], tuple[StateField, ...]]
    result: Callable[[Sequence[Node]], FeatureType]
    finish: Callable[[Sequence[Values], Finish], Values]
    empty: int | None = None
    parameters: tuple[str, ...] = ()
    limit: int = field(default=1000)


def add(where: Node | None, node: Node) -> StateField:
    """Return a summed field; its input must stay within +-2**40."""
    lo, hi = node.type.bounds
    if max(-lo, hi) > SUM_LIMIT:
        message = f"a summed input could reach `{max(-lo, hi)}`, past 2**40; declare a tighter range"
        raise DefinitionError(message)
    return StateField("add", masked(where, node))


def number(node: Node, *also: str) -> Node:
    """Return the node as a number, or refuse its type or a unit so fine that `n * units` could overflow."""
    if node.type.units > SUM_LIMIT:
        message = f"an aggregate over units of 1/{node.type.units} is too fine, past 2**40; cast to fewer digits"
        raise DefinitionError(message)
    if not node.type.numeric and node.type.kind not in ("bool", *also):
        message = f"an aggregate over numbers was given `{node.type}`; use count_distinct, first or last"
        raise DefinitionError(message)
    return as_number(node)


def value_fields(kind: FieldKind) -> Callable[[Lift], tuple[StateField, ...]]:
    """Return a lift that keeps the input's own value."""

    def fields(lift: Lift) -> tuple[StateField, ...]:
        k = lift.parameters[0] if lift.parameters else 1
        return (StateField(kind, masked(lift.where, lift.inputs[0]), k),)

    return fields


def extreme_fields(kind: FieldKind) -> Callable[[Lift], tuple[StateField, ...]]:
    """Return a lift for the smallest or largest number or timestamp."""

    def fields(lift: Lift) -> tuple[StateField, ...]:
        return (StateField(kind, masked(lift.where, number(lift.inputs[0], "timestamp"))),)

    return fields


def instant_fields(kind: FieldKind) -> Callable[[Lift], tuple[StateField, ...]]:
    """Return a lift for the event time of the rows whose input is not null."""

    def fields(lift: Lift) -> tuple[StateField, ...]:
        return (StateField(kind, masked(lift.where, present(lift.inputs[0], lift.event_time))),)

    return fields


def count_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift every row to 1."""
    return (add(lift.where, literal(1)),)


def sum_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift the value."""
    return (add(lift.where, number(lift.inputs[0])),)


def mean_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift the value, and 1 where it is not null."""
    value = number(lift.inputs[0])
    return (add(lift.where, value), add(lift.where, present(value, literal(1))))


def ratio_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift both sides where neither is null."""
    top, bottom = (number(each) for each in lift.inputs)
    return (add(lift.where, present(bottom, top)), add(lift.where, present(top, bottom)))


def variance_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift the value, 1 where it is not null, and the products of its halves."""
    value = number(lift.inputs[0])
    summed, counted = mean_fields(lift)
    high, low = halves(value)
    squares = (product(high, high), product(high, low), product(low, low))
    return (summed, counted, *(add(lift.where, each) for each in squares))


def covariance_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift both sides where neither is null, 1 there, and the products of their halves."""
    left, right = (number(each) for each in lift.inputs)
    (a, b), (c, d) = halves(left), halves(right)
    products = (product(a, c), product(a, d), product(b, c), product(b, d))
    counted = add(lift.where, present(left, present(right, literal(1))))
    return (*ratio_fields(lift), counted, *(add(lift.where, each) for each in products))


def correlation_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift what the covariance needs, and the products of each side's own halves where neither is null."""
    left, right = (number(each) for each in lift.inputs)
    own = []
    for side, other in ((left, right), (right, left)):
        a, b = halves(side)
        own += [add(lift.where, present(other, product(*pair))) for pair in ((a, a), (a, b), (b, b))]
    return (*covariance_fields(lift), *own)


def integer_result(_: Sequence[Node]) -> FeatureType:
    """Type of counts and of milliseconds."""
    return FeatureType("int")


def float_result(_: Sequence[Node]) -> FeatureType:
    """Type of quotients."""
    return FeatureType("float")


def same_result(inputs: Sequence[Node]) -> FeatureType:
    """Type of the input; scaled integers come out as float64."""
    kind = inputs[0].type.kind
    return FeatureType("float" if kind == "decimal" else kind)


def numeric_result(inputs: Sequence[Node]) -> FeatureType:
    """Type of the input as a number: booleans come out as integers."""
    found = same_result(inputs)
    return FeatureType("int") if found.kind == "bool" else found


def list_result(inputs: Sequence[Node]) -> FeatureType:
    """Type of a list of the input."""
    return FeatureType(same_result(inputs).kind, repeated=True)


def finish_value(states: Sequence[Values], context: Finish) -> Values:
    """Return the state itself; scaled integers as ``float64(x) / float64(units)``."""
    state, units = states[0], (context.units or (1,))[0]
    if units == 1:
        return state
    return Values(state.data.astype(np.float64) / np.float64(units), state.valid, state.offsets)


def finish_count(states: Sequence[Values], _: Finish) -> Values:
    """Return the count itself, whatever the unit of what was counted."""
    return states[0]


def quotient(top: Values, bottom: NDArray[np.float64]) -> Values:
    """Divide in float64; null where the divisor is 0."""
    valid = bottom != 0
    return Values(top.data.astype(np.float64) / np.where(valid, bottom, 1.0), valid)


def finish_mean(states: Sequence[Values], context: Finish) -> Values:
    """Return ``float64(sum) / float64(n * units)``."""
    total, n = states
    return quotient(total, (n.data.astype(np.int64) * context.units[0]).astype(np.float64))


def finish_variance(states: Sequence[Values], context: Finish) -> Values:
    """Return ``f64(n * sum(xx) - sum(x)**2) / (f64(n) * f64(n)) / (f64(units) * f64(units))``, of the population."""
    x, n, *parts = (each.data.astype(np.int64) for each in states)
    return moment(numerator(n, x, x, parts), n, context.units[0], context.units[0])


def finish_stddev(states: Sequence[Values], context: Finish) -> Values:
    """Return the square root of the variance."""
    found = finish_variance(states, context)
    return Values(root(found.data), found.valid)


def finish_covariance(states: Sequence[Values], context: Finish) -> Values:
    """Return ``f64(n * sum(xy) - sum(x) * sum(y)) / (f64(n) * f64(n)) / (f64(u) * f64(v))``, of the population."""
    x, y, n, *parts = (each.data.astype(np.int64) for each in states)
    return moment(numerator(n, x, y, parts), n, *context.units)


def finish_correlation(states: Sequence[Values], _: Finish) -> Values:
    """Return ``f64(Nxy) / (sqrt(f64(Nxx)) * sqrt(f64(Nyy)))`` of the numerators; null where a side does not vary."""
    x, y, n, *parts = (each.data.astype(np.int64) for each in states)
    both, own, other = parts[:4], parts[4:7], parts[7:]
    spread = root(numerator(n, x, x, own)) * root(numerator(n, y, y, other))
    valid = spread != 0
    return Values(numerator(n, x, y, both) / np.where(valid, spread, 1.0), valid)


def root(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return square roots; NaN for a negative number, which sums of the same events cannot give."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.sqrt(values.astype(np.float64))
    return found


def moment(top: NDArray[np.float64], n: NDArray[np.int64], left: int, right: int) -> Values:
    """Return a second moment in the inputs' units; null for n = 0."""
    valid = n > 0
    rows = np.where(valid, n, 1).astype(np.float64)
    return Values(top / (rows * rows) / (np.float64(left) * np.float64(right)), valid)


def finish_ratio(states: Sequence[Values], context: Finish) -> Values:
    """Return ``(float64(top) / float64(units)) / (float64(bottom) / float64(units))``."""
    top, bottom = (
        Values(each.data.astype(np.float64) / np.float64(units), each.valid)
        for each, units in zip(states, context.units, strict=True)
    )
    return quotient(top, bottom.data.astype(np.float64))


def finish_since(states: Sequence[Values], context: Finish) -> Values:
    """Return ``t - ts`` in milliseconds."""
    state = states[0]
    return Values(context.at - np.where(state.valid, state.data.astype(np.int64), context.at), state.valid)


AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate("n", 0, count_fields, integer_result, finish_count, 0),
    "sum": Aggregate("f64(sum) / f64(units); int64 for integers", 1, sum_fields, numeric_result, finish_value, 0),
    "mean": Aggregate("f64(sum) / f64(n * units)", 1, mean_fields, float_result, finish_mean),
    "ratio": Aggregate("(f64(a) / f64(u)) / (f64(b) / f64(v))", 2, ratio_fields, float_result, finish_ratio),
    "variance": Aggregate(
        "f64(n*sum(xx) - sum(x)^2) / f64(n)^2 / f64(units)^2", 1, variance_fields, float_result, finish_variance
    ),
    "stddev": Aggregate("sqrt(variance)", 1, variance_fields, float_result, finish_stddev),
    "covariance": Aggregate(
        "f64(n*sum(xy) - sum(x)*sum(y)) / f64(n)^2 / (f64(u) * f64(v))", 2,
        covariance_fields, float_result, finish_covariance,
    ),
    "correlation": Aggregate(
        "f64(Nxy) / (sqrt(f64(Nxx)) * sqrt(f64(Nyy)))", 2, correlation_fields, float_result, finish_correlation
    ),
    "min": Aggregate("f64(min) / f64(units)", 1, extreme_fields("min"), numeric_result, finish_value),
    "max": Aggregate("f64(max) / f64(units)", 1, extreme_fields("max"), numeric_result, finish_value),
    "first": Aggregate("value of the smallest (ts, id)", 1, value_fields("first"), same_result, finish_value),
    "last": Aggregate("value of the largest (ts, id)", 1, value_fields("last"), same_result, finish_value),
    "time_since_first": Aggregate("t - min(ts), ms", 1, instant_fields("min"), integer_result, finish_since),
    "time_since_last": Aggregate("t - max(ts), ms", 1, instant_fields("max"), integer_result, finish_since),
    "last_k": Aggregate(
        "values of the k largest (ts, id), newest first", 1,
        value_fields("list"), list_result, finish_value, parameters=("k",),
    ),
    "count_distinct": Aggregate("number of values with a count > 0", 1, value_fields("multiset"), integer_result, finish_count, 0),
}  # fmt: skip
NEEDS_ORDER = ("first", "last", "list")
COUNT_ROWS = StateField("add", Node("literal", Int64(1, 1), (), 1))
