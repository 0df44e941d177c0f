"""Functions of the language: aggregates without one column of their own, and operations of several operands."""

from __future__ import annotations

from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.expr import Aggregation, Expr, Operand, Scalar, call, make_aggregation


def several(op: str, least_of: int, values: tuple[Operand, ...]) -> Expr:
    """Build an operation of at least so many operands."""
    if len(values) < least_of:
        message = f"operation `{op}` was given {len(values)} operand(s); give at least {least_of}"
        raise DefinitionError(message)
    return call(op, *values)


def count() -> Aggregation:
    """Count the rows, nulls or not."""
    return make_aggregation("count")


def ratio(numerator: Expr, denominator: Expr) -> Aggregation:
    """Divide two sums over the rows where both sides are not null; null where the divisor is 0."""
    return make_aggregation("ratio", numerator, denominator)


def covariance(left: Expr, right: Expr) -> Aggregation:
    """Covariance of the population of the rows where both sides are not null."""
    return make_aggregation("covariance", left, right)


def correlation(left: Expr, right: Expr) -> Aggregation:
    """Pearson's correlation over the rows where both sides are not null; null where a side does not vary."""
    return make_aggregation("correlation", left, right)


def coalesce(*values: Operand) -> Expr:
    """Return the first value that is not null."""
    return several("coalesce", 1, values)


def if_else(condition: Expr, then: Operand, otherwise: Operand) -> Expr:
    """Return `then` where the condition is true, else (false or null) `otherwise`."""
    return call("if_else", condition, then, otherwise)


def hour_of_day(instant: Expr) -> Expr:
    """Return the UTC hour, 0 to 23."""
    return call("hour_of_day", instant)


def day_of_week(instant: Expr) -> Expr:
    """Return the UTC weekday, Monday = 0."""
    return call("day_of_week", instant)


def greatest(*values: Operand) -> Expr:
    """Return the largest of two or more numbers or instants; null if one is null."""
    return several("greatest", 2, values)


def least(*values: Operand) -> Expr:
    """Return the smallest of two or more numbers or instants; null if one is null."""
    return several("least", 2, values)


def concat(*values: Operand) -> Expr:
    """Return strings end to end; null if one is null."""
    return several("concat", 1, values)


def minute_of_hour(instant: Expr) -> Expr:
    """Return the minute, 0 to 59."""
    return call("minute_of_hour", instant)


def day_of_month(instant: Expr) -> Expr:
    """Return the UTC day of the month, 1 to 31 (rows only)."""
    return call("day_of_month", instant)


def month(instant: Expr) -> Expr:
    """Return the UTC month, 1 to 12 (rows only)."""
    return call("month", instant)


def year(instant: Expr) -> Expr:
    """Return the UTC year (rows only)."""
    return call("year", instant)


def sqrt(value: Expr) -> Expr:
    """Return the square root, null below 0 (derived expressions only)."""
    return call("sqrt", value)


def exp(value: Expr) -> Expr:
    """Return e to the power of x, null where it overflows (derived expressions only)."""
    return call("exp", value)


def log(value: Expr) -> Expr:
    """Return ln(x), null for x <= 0 (derived expressions only)."""
    return call("log", value)


def cosine(left: Expr, right: Expr) -> Expr:
    """Return the cosine of two lists as vectors; null where their lengths differ or one is zero (derived only)."""
    return call("cosine", left, right)


def distance(lat_a: Operand, lon_a: Operand, lat_b: Operand, lon_b: Operand) -> Expr:
    """Return the great-circle distance of two points in km; null where one is outside of the globe (derived only).

    Parameters
    ----------
    lat_a, lat_b
        Latitudes in degrees, -90 to 90, inclusive.
    lon_a, lon_b
        Longitudes in degrees, -180 to 180, inclusive.

    Returns
    -------
    Expr
        Haversine formula on a sphere of the mean earth radius, 6371.0088 km (up to 0.6 % off an ellipsoid).
    """
    return call("distance", lat_a, lon_a, lat_b, lon_b)


def one_hot(name: str, value: Expr, *members: Scalar) -> dict[str, Expr]:
    """Return a derived feature ``name_0``, ``name_1`` ... for each member: 1.0 where the value equals it, else 0.0."""
    if not members:
        message = f"one_hot(`{name}`) has no members; give the values that get a feature each"
        raise DefinitionError(message)
    return {f"{name}_{index}": if_else(value == each, 1, 0) for index, each in enumerate(members)}


def log1p(value: Expr) -> Expr:
    """Return ln(1 + x), null for x <= -1 (derived expressions only)."""
    return call("log1p", value)
