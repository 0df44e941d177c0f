"""Derived features: float64 expressions over features and request columns.

One evaluator serves the training set, the online read and the scorer. Every operation
is an IEEE float64 operation or a portable function made of them; null propagates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.aggregates import FeatureType, Values
from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.expr import Expr
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.portable import log1p
from unskew.pipelines.timegrid import DAY, HOUR
from unskew.pipelines.types import DataType

Derived = tuple[object, ...]
Floats = NDArray[np.float64]
ARITY = {
    "add": 2, "sub": 2, "mul": 2, "div": 2, "log1p": 1, "clip": 3, "coalesce": None,
    "lt": 2, "le": 2, "gt": 2, "ge": 2, "eq": 2, "ne": 2, "if_else": 3,
    "hour_of_day": 1, "day_of_week": 1,
}  # fmt: skip


def bind_derived(expr: Expr, features: Mapping[str, FeaturePlan], request: Mapping[str, DataType]) -> Derived:
    """Check the names and operations; return the expression as nested tuples (canonical JSON lists).

    Raises
    ------
    DefinitionError
        On an unknown feature or request column, one that is no number, or an operation
        that derived features do not have.
    """
    if expr.op == "literal":
        return bind_number(expr.value)
    if expr.op == "feature":
        return bind_name("feature", str(expr.value), {name: each.type for name, each in features.items()})
    if expr.op == "request":
        return bind_name("request", str(expr.value), request)
    if expr.op not in ARITY:
        message = f"operation `{expr.op}` is not defined on derived features; {nearest(expr.op, ARITY)}"
        raise DefinitionError(message)
    if expr.op in ("hour_of_day", "day_of_week") and not is_instant(expr.args[0], request):
        message = f"operation `{expr.op}` takes a request column of type Timestamp"
        raise DefinitionError(message)
    return (expr.op, *(bind_derived(each, features, request) for each in expr.args))


def bind_number(value: object) -> Derived:
    """Return a literal as float64."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        message = f"literal `{value!r}` is no finite number; derived features are float64"
        raise DefinitionError(message)
    return ("literal", float(value))


def bind_name(kind: str, name: str, known: Mapping[str, FeatureType] | Mapping[str, DataType]) -> Derived:
    """Return a leaf, if it exists and is a number."""
    if name not in known:
        message = f"{kind} `{name}` is unknown; {nearest(name, known)}"
        raise DefinitionError(message)
    found = known[name]
    if found.kind == "string" or (isinstance(found, FeatureType) and found.repeated):
        message = f"{kind} `{name}` is `{found}`; derived features take numbers"
        raise DefinitionError(message)
    units = found.units if isinstance(found, DataType) else 1
    return (kind, name, units)


def is_instant(expr: Expr, request: Mapping[str, DataType]) -> bool:
    """Return whether the expression is a timestamp of the request."""
    return expr.op == "request" and str(expr.value) in request and request[str(expr.value)].kind == "timestamp"


def features_read(expression: Derived) -> set[str]:
    """Return the full names of the features that a bound expression reads."""
    if expression[0] == "feature":
        return {str(expression[1])}
    return set().union(*(features_read(each) for each in expression[1:] if isinstance(each, tuple)))


def evaluate(expression: Derived, columns: Mapping[str, Values], rows: int) -> Values:
    """Compute a derived feature.

    Parameters
    ----------
    expression
        As `bind_derived` returns it.
    columns
        Features by full name and encoded request columns by name, (rows,) each.
    rows
        Number of rows.

    Returns
    -------
    Values
        (rows,) float64; null wherever an operand that counts is null, a divisor is 0, a
        logarithm is undefined, or the result is not finite.
    """
    op = str(expression[0])
    if op == "literal":
        return Values(np.full(rows, expression[1], np.float64), np.ones(rows, np.bool_))
    if op in ("feature", "request"):
        column, units = columns[str(expression[1])], expression[2]
        data = column.data.astype(np.float64)
        return Values(data / np.float64(units) if units != 1 else data, column.valid)  # type: ignore[arg-type]
    args = [evaluate(each, columns, rows) for each in expression[1:] if isinstance(each, tuple)]
    if op == "coalesce":
        return coalesce(args)
    if op == "if_else":
        return if_else(*args)
    with np.errstate(over="ignore", invalid="ignore"):
        data, defined = OPERATIONS[op](*(each.data.astype(np.float64) for each in args))
    valid = np.logical_and.reduce([each.valid for each in args]) & defined & np.isfinite(data)
    return Values(np.where(valid, data, 0.0), valid)


def coalesce(args: list[Values]) -> Values:
    """Return the first value that is not null."""
    data, valid = args[0].data, args[0].valid
    for each in args[1:]:
        data, valid = np.where(valid, data, each.data), valid | each.valid
    return Values(data, valid)


def if_else(condition: Values, then: Values, otherwise: Values) -> Values:
    """Choose by a condition; null counts as false."""
    taken = condition.valid & (condition.data != 0)
    return Values(np.where(taken, then.data, otherwise.data), np.where(taken, then.valid, otherwise.valid))


def divide(a: Floats, b: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Divide; undefined where the divisor is 0."""
    defined = b != 0
    return a / np.where(defined, b, 1.0), defined


def total(function: Callable[..., NDArray[np.generic]]) -> Callable[..., tuple[Floats, NDArray[np.bool_]]]:
    """Wrap a function that is defined everywhere."""

    def apply(*args: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        return function(*args).astype(np.float64), np.ones(len(args[0]), np.bool_)

    return apply


def clip(x: Floats, lower: Floats, upper: Floats) -> Floats:
    """Return ``min(max(x, lower), upper)``; by comparison, for processors differ in the minimum of two zeros."""
    raised = np.where(x > lower, x, lower)
    return np.where(raised < upper, raised, upper)


def defined_log1p(x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return ln(1 + x) where x > -1."""
    defined = x > -1
    return log1p(np.where(defined, x, 0.0)), defined


OPERATIONS: dict[str, Callable[..., tuple[Floats, NDArray[np.bool_]]]] = {
    "add": total(np.add),
    "sub": total(np.subtract),
    "mul": total(np.multiply),
    "div": divide,
    "log1p": defined_log1p,
    "clip": total(clip),
    "lt": total(np.less),
    "le": total(np.less_equal),
    "gt": total(np.greater),
    "ge": total(np.greater_equal),
    "eq": total(np.equal),
    "ne": total(np.not_equal),
    "hour_of_day": total(lambda ms: np.floor(ms / HOUR) % 24),
    "day_of_week": total(lambda ms: (np.floor(ms / DAY) + 3) % 7),
}
