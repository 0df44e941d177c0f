"""The oracle's derived features: IEEE float64, null in, null out, but for those that say otherwise."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unskew.pipelines.backends.oracle_rows import LENIENT, Cell

HOUR, DAY = 3_600_000, 86_400_000


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
    "round": lambda x: math.copysign(round(x), x),
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
