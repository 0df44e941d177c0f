"""Derived features: float64 expressions over features and request columns.

One evaluator serves the training set, the online read and the scorer. Every operation
is an IEEE float64 operation or a portable function made of them; null propagates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.expr import Expr
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.portable import exp, log, log1p
from unskew.pipelines.sphere import distance
from unskew.pipelines.states import FeatureType, Values
from unskew.pipelines.timegrid import DAY, HOUR
from unskew.pipelines.types import DataType

Derived = tuple[object, ...]
Floats = NDArray[np.float64]
ARITY = {
    "add": 2, "sub": 2, "mul": 2, "div": 2, "log1p": 1, "log": 1, "exp": 1, "sqrt": 1, "abs": 1, "sign": 1, "round": 1,
    "clip": 3, "coalesce": None, "greatest": None, "least": None,
    "lt": 2, "le": 2, "gt": 2, "ge": 2, "eq": 2, "ne": 2, "and": 2, "or": 2, "not": 1, "if_else": 3, "is_null": 1,
    "isin": None, "bucketize": None, "hour_of_day": 1, "day_of_week": 1, "cosine": 2, "distance": 4,
}  # fmt: skip
ON_TEXTS = ("eq", "ne", "isin", "is_null")  # what else than numbers take
MOST = sys.float_info.max
TEXT, VECTOR = 0, -1  # instead of the units of a leaf that is no number


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
    if expr.op == "cosine":
        return ("cosine", *(bind_vector(each, features) for each in expr.args))
    if expr.op in ON_TEXTS and any(is_text(each, features, request) for each in expr.args):
        return (expr.op, *(bind_text(each, features, request) for each in expr.args))
    if expr.op in ("hour_of_day", "day_of_week") and not is_instant(expr.args[0], request):
        message = f"operation `{expr.op}` takes a request column of type Timestamp"
        raise DefinitionError(message)
    return (expr.op, *(bind_derived(each, features, request) for each in expr.args))


def bind_number(value: object) -> Derived:
    """Return a literal as float64."""
    if not isinstance(value, int | float) or abs(value) > MOST or not math.isfinite(value):
        message = f"literal `{value!r}` is no finite number; derived features are float64"
        raise DefinitionError(message)
    return ("literal", float(value))


def bind_name(kind: str, name: str, known: Mapping[str, FeatureType] | Mapping[str, DataType]) -> Derived:
    """Return a leaf, if it exists and is a number."""
    if name not in known:
        message = f"{kind} `{name}` is unknown; {nearest(name, known)}"
        raise DefinitionError(message)
    found = known[name]
    if found.kind == "string" or (isinstance(found, FeatureType) and not found.scalar):
        message = f"{kind} `{name}` is `{found}`; derived features take numbers"
        raise DefinitionError(message)
    units = found.units if isinstance(found, DataType) else 1
    return (kind, name, units)


def is_text(expr: Expr, features: Mapping[str, FeaturePlan], request: Mapping[str, DataType]) -> bool:
    """Return whether the expression is a string of the request or a feature, or a literal one."""
    if expr.op == "literal":
        return isinstance(expr.value, str)
    known = {name: each.type for name, each in features.items()} if expr.op == "feature" else request
    if expr.op not in ("feature", "request") or str(expr.value) not in known:
        return False
    found = known[str(expr.value)]
    return found.kind == "string" and (isinstance(found, DataType) or found.scalar)


def bind_text(expr: Expr, features: Mapping[str, FeaturePlan], request: Mapping[str, DataType]) -> Derived:
    """Return a leaf that is a string."""
    if not is_text(expr, features, request):
        message = "a string was compared with something else; compare it with strings"
        raise DefinitionError(message)
    return ("literal", str(expr.value)) if expr.op == "literal" else (expr.op, str(expr.value), TEXT)


def bind_vector(expr: Expr, features: Mapping[str, FeaturePlan]) -> Derived:
    """Return a leaf that is a list of numbers."""
    found = features.get(str(expr.value)) if expr.op == "feature" else None
    if found is None or not found.type.repeated or found.type.kind == "string":
        message = f"operation `cosine` takes two features that are lists of numbers, not `{expr.op} {expr.value}`"
        raise DefinitionError(message)
    return ("feature", found.name, VECTOR)


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
        kind = object if isinstance(expression[1], str) else np.float64
        return Values(np.full(rows, expression[1], kind), np.ones(rows, np.bool_))
    if op in ("feature", "request"):
        column, units = columns[str(expression[1])], expression[2]
        if units in (TEXT, VECTOR):
            return column
        data = column.data.astype(np.float64)
        return Values(data / np.float64(units) if units != 1 else data, column.valid)  # type: ignore[arg-type]
    args = [evaluate(each, columns, rows) for each in expression[1:] if isinstance(each, tuple)]
    if op in LENIENT:
        return LENIENT[op](*args)
    if op in ON_TEXTS and args[0].data.dtype == object:
        same = np.array(args[0].data == args[1].data, np.bool_)
        return Values((same == (op == "eq")).astype(np.float64), args[0].valid & args[1].valid)
    with np.errstate(over="ignore", invalid="ignore"):
        data, defined = OPERATIONS[op](*(each.data.astype(np.float64) for each in args))
    valid = defined & np.isfinite(data)
    for each in args:
        valid &= each.valid
    return Values(np.where(valid, data, 0.0), valid)


def coalesce(*args: Values) -> Values:
    """Return the first value that is not null."""
    data, valid = args[0].data, args[0].valid
    for each in args[1:]:
        data, valid = np.where(valid, data, each.data), valid | each.valid
    return Values(data, valid)


def if_else(condition: Values, then: Values, otherwise: Values) -> Values:
    """Choose by a condition; null counts as false."""
    taken = condition.valid & (condition.data != 0)
    return Values(np.where(taken, then.data, otherwise.data), np.where(taken, then.valid, otherwise.valid))


def truth(args: Values) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a value is true and where it is false; both are False for null."""
    return args.valid & (args.data != 0), args.valid & (args.data == 0)


def both(a: Values, b: Values) -> Values:
    """Return the three-valued conjunction."""
    (a_true, a_false), (b_true, b_false) = truth(a), truth(b)
    return Values((a_true & b_true).astype(np.float64), (a_true & b_true) | a_false | b_false)


def either(a: Values, b: Values) -> Values:
    """Return the three-valued disjunction."""
    (a_true, a_false), (b_true, b_false) = truth(a), truth(b)
    return Values((a_true | b_true).astype(np.float64), (a_false & b_false) | a_true | b_true)


def is_null(a: Values) -> Values:
    """Return whether a value is null; never null itself."""
    return Values((~a.valid).astype(np.float64), np.ones(len(a.valid), np.bool_))


def isin(a: Values, *members: Values) -> Values:
    """Return whether a value is one of the members; null for null, and for no match where a member is null."""
    matches = np.zeros(len(a.valid), np.bool_)
    unknown = np.zeros(len(a.valid), np.bool_)
    for each in members:
        matches |= each.valid & np.array(a.data == each.data, np.bool_)
        unknown |= ~each.valid
    return Values((a.valid & matches).astype(np.float64), a.valid & (matches | ~unknown))


def cosine(a: Values, b: Values) -> Values:
    """Return ``dot / (sqrt(aa) * sqrt(bb))`` of lists, each sum in order; null for unlike lengths and for zero."""
    rows = len(a.valid)
    starts, sizes = zip(
        *((each.offsets[:-1], np.diff(each.offsets)) for each in (a, b) if each.offsets is not None), strict=True
    )
    together = a.valid & b.valid & (sizes[0] == sizes[1])
    dot, left, right = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    for place in range(int(np.max(sizes[0], initial=0, where=together))):
        here = together & (sizes[0] > place)
        x, y = (each.data[start[here] + place].astype(np.float64) for each, start in zip((a, b), starts, strict=True))
        dot[here] += x * y
        left[here] += x * x
        right[here] += y * y
    below = np.sqrt(left) * np.sqrt(right)
    valid = together & (below != 0) & np.isfinite(below)
    return Values(np.where(valid, dot / np.where(valid, below, 1.0), 0.0), valid)


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


def defined_log(x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return ln(x) where x > 0."""
    defined = x > 0
    return log(np.where(defined, x, 1.0)), defined


def defined_sqrt(x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the square root where x >= 0."""
    defined = x >= 0
    return np.sqrt(np.where(defined, x, 0.0)), defined


def greatest(*args: Floats) -> Floats:
    """Return the largest, of equal ones the first; by comparison, as `clip`."""
    found = args[0]
    for each in args[1:]:
        found = np.where(each > found, each, found)
    return found


def least(*args: Floats) -> Floats:
    """Return the smallest, of equal ones the first."""
    found = args[0]
    for each in args[1:]:
        found = np.where(each < found, each, found)
    return found


def bucketize(x: Floats, *bounds: Floats) -> Floats:
    """Return how many of the bounds are at most x."""
    found = np.zeros(len(x))
    for each in bounds:
        found += x >= each
    return found


LENIENT: dict[str, Callable[..., Values]] = {
    "coalesce": coalesce, "if_else": if_else, "and": both, "or": either, "is_null": is_null, "isin": isin,
    "cosine": cosine,
}  # fmt: skip
OPERATIONS: dict[str, Callable[..., tuple[Floats, NDArray[np.bool_]]]] = {
    "add": total(np.add),
    "sub": total(np.subtract),
    "mul": total(np.multiply),
    "div": divide,
    "log1p": defined_log1p,
    "log": defined_log,
    "exp": total(exp),
    "sqrt": defined_sqrt,
    "abs": total(np.abs),
    "sign": total(lambda x: np.where(x > 0, 1.0, np.where(x < 0, -1.0, 0.0))),
    "round": total(np.rint),
    "not": total(lambda x: x == 0),
    "greatest": total(greatest),
    "least": total(least),
    "bucketize": total(bucketize),
    "clip": total(clip),
    "lt": total(np.less),
    "le": total(np.less_equal),
    "gt": total(np.greater),
    "ge": total(np.greater_equal),
    "eq": total(np.equal),
    "ne": total(np.not_equal),
    "hour_of_day": total(lambda ms: np.floor(ms / HOUR) % 24),
    "day_of_week": total(lambda ms: (np.floor(ms / DAY) + 3) % 7),
    "distance": distance,
}
