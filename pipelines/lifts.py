"""Lifts: the state fields of each aggregate, from its typed inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.moments import POWER_BITS, TIME_BITS, TIME_DIGITS, digit_count, digits_of, halves, powers, product
from unskew.pipelines.nodes import Node, as_number, literal, masked, present, truncated
from unskew.pipelines.states import FeatureType, FieldKind, Lift, StateField
from unskew.pipelines.types import SUM_LIMIT, Bool

Fields = tuple[StateField, ...]
MANTISSA = 7  # top bits of a number that a quantile keeps (design section 4)


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
        message = f"an aggregate over numbers was given `{node.type}`; use count_distinct, mode, top_k_frequent, first, last or last_k"
        raise DefinitionError(message)
    return as_number(node)


def value_fields(kind: FieldKind) -> Callable[[Lift], Fields]:
    """Return a lift that keeps the input's own value."""

    def fields(lift: Lift) -> Fields:
        return (StateField(kind, masked(lift.where, lift.inputs[0]), k_of(lift)),)

    return fields


def k_of(lift: Lift) -> int:
    """Return the bound of a list."""
    return lift.parameters[0] if lift.parameters else 0


def multiset_fields(lift: Lift) -> Fields:
    """Lift the value into a multiset; how many of its values are wanted is no part of the state."""
    return (StateField("multiset", masked(lift.where, lift.inputs[0])),)


def extreme_fields(kind: FieldKind) -> Callable[[Lift], Fields]:
    """Return a lift for the smallest or largest number or timestamp."""

    def fields(lift: Lift) -> Fields:
        return (StateField(kind, masked(lift.where, number(lift.inputs[0], "timestamp")), k_of(lift)),)

    return fields


def instant_fields(kind: FieldKind) -> Callable[[Lift], Fields]:
    """Return a lift for the event time of the rows whose input is not null."""

    def fields(lift: Lift) -> Fields:
        return (StateField(kind, masked(lift.where, present(lift.inputs[0], lift.event_time))),)

    return fields


def count_fields(lift: Lift) -> Fields:
    """Lift every row to 1."""
    return (add(lift.where, literal(1)),)


def sum_fields(lift: Lift) -> Fields:
    """Lift the value."""
    return (add(lift.where, number(lift.inputs[0])),)


def mean_fields(lift: Lift) -> Fields:
    """Lift the value, and 1 where it is not null."""
    value = number(lift.inputs[0])
    return (add(lift.where, value), add(lift.where, present(value, literal(1))))


def ratio_fields(lift: Lift) -> Fields:
    """Lift both sides where neither is null."""
    top, bottom = (number(each) for each in lift.inputs)
    return (add(lift.where, present(bottom, top)), add(lift.where, present(top, bottom)))


def variance_fields(lift: Lift) -> Fields:
    """Lift the value, 1 where it is not null, and the products of its halves."""
    value = number(lift.inputs[0])
    summed, counted = mean_fields(lift)
    high, low = halves(value)
    squares = (product(high, high), product(high, low), product(low, low))
    return (summed, counted, *(add(lift.where, each) for each in squares))


def covariance_fields(lift: Lift) -> Fields:
    """Lift both sides where neither is null, 1 there, and the products of their halves."""
    left, right = (number(each) for each in lift.inputs)
    (a, b), (c, d) = halves(left), halves(right)
    products = (product(a, c), product(a, d), product(b, c), product(b, d))
    counted = add(lift.where, present(left, present(right, literal(1))))
    return (*ratio_fields(lift), counted, *(add(lift.where, each) for each in products))


def correlation_fields(lift: Lift) -> Fields:
    """Lift what the covariance needs, and the products of each side's own halves where neither is null."""
    left, right = (number(each) for each in lift.inputs)
    own = []
    for side, other in ((left, right), (right, left)):
        a, b = halves(side)
        own += [add(lift.where, present(other, product(*pair))) for pair in ((a, a), (a, b), (b, b))]
    return (*covariance_fields(lift), *own)


def power_fields(degree: int) -> Callable[[Lift], Fields]:
    """Return a lift of the sum, the count, and the sums of all powers up to `degree`, digit by digit."""

    def fields(lift: Lift) -> Fields:
        value = number(lift.inputs[0])
        digits = digits_of(value, POWER_BITS, digit_count(value, POWER_BITS))
        parts = [each for power in range(2, degree + 1) for each in powers(digits, power)]
        return (*mean_fields(lift), *(add(lift.where, each) for each in parts))

    return fields


def slope_fields(lift: Lift) -> Fields:
    """Lift value and time by digits where the value is not null: sums, squares of the time, products."""
    value = number(lift.inputs[0])
    times, values = digits_of(lift.event_time, TIME_BITS, TIME_DIGITS), halves(value)
    parts = [*times, *powers(times, 2), *(product(a, b) for a in times for b in values)]
    return (*mean_fields(lift), *(add(lift.where, present(value, each)) for each in parts))


def bucket_fields(lift: Lift) -> Fields:
    """Lift a number's integer log-linear bucket: its sign, its bit length, its top bits; the others are zero."""
    value = number(lift.inputs[0])
    return (StateField("multiset", masked(lift.where, rounded_to_zero(value))),)


def rounded_to_zero(node: Node) -> Node:
    """Return a number with all but its top bits cleared: the bound of its bucket nearest to zero."""
    largest = max(abs(each) for each in node.type.bounds)
    bits = largest.bit_length()
    return steps(node, max(bits - MANTISSA, 0), 0)


def steps(node: Node, high: int, low: int) -> Node:
    """Clear from `low` to `high` bits, chosen by halving the range of bit lengths."""
    if high == low:
        if not low:
            return node
        return Node("mul", node.type, (truncated(node, 1 << low), literal(1 << low)))
    middle = (high + low) // 2
    below = Node("lt", Bool, (Node("abs", node.type, (node,)), literal(1 << (middle + MANTISSA))))
    return Node("if_else", node.type, (below, steps(node, middle, low), steps(node, high, middle + 1)))


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


def numeric_list_result(inputs: Sequence[Node]) -> FeatureType:
    """Type of a list of the input as a number."""
    return FeatureType(numeric_result(inputs).kind, repeated=True)


def count_map_result(inputs: Sequence[Node]) -> FeatureType:
    """Type of a map from the input to counts."""
    return FeatureType("int", key=same_result(inputs).kind)
