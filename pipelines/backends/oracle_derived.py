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


SP = (
    -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04, 2.75573137070700676789e-06,
    -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip
CP = (
    4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05, -2.75573143513906633035e-07,
    2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip


def sine(degrees: float) -> float:
    """Return the sine of 0 to 90 degrees after fdlibm's k_sin.c, from 45 on FreeBSD's k_cos.c of the complement."""
    small = degrees < 45.0  # noqa: PLR2004
    x = (degrees if small else 90.0 - degrees) * (math.pi / 180.0)
    z = x * x
    if small:
        return x + z * x * (SP[0] + z * (SP[1] + z * (SP[2] + z * (SP[3] + z * (SP[4] + z * SP[5])))))
    r = z * (CP[0] + z * (CP[1] + z * (CP[2] + z * (CP[3] + z * (CP[4] + z * CP[5])))))
    hz = 0.5 * z
    w = 1.0 - hz
    return w + (((1.0 - w) - hz) + z * r)


AP = (
    1.66666666666666657415e-01, -3.25565818622400915405e-01, 2.01212532134862925881e-01, -4.00555345006794114027e-02,
    7.91534994289814532176e-04, 3.47933107596021167570e-05,
)  # fmt: skip
AQ = (-2.40339491173441421878e00, 2.02094576023350569471e00, -6.88283971605453293030e-01, 7.70381505559019352791e-02)


def arcsine(x: float) -> float:
    """Return asin(x) for 0 <= x <= 1 after fdlibm's e_asin.c (Sun Microsystems), `s` cut after 24 bits."""
    small = x < 0.5  # noqa: PLR2004
    t = x * x if small else 0.5 * (1.0 - x)
    p = t * (AP[0] + t * (AP[1] + t * (AP[2] + t * (AP[3] + t * (AP[4] + t * AP[5])))))
    r = p / (1.0 + t * (AQ[0] + t * (AQ[1] + t * (AQ[2] + t * AQ[3]))))
    if small:
        return x + x * r
    s = math.sqrt(t)
    w = math.ldexp(math.floor(math.ldexp(s, 24)), -24)
    c = (t - w * w) / (s + w) if s else 0.0
    return math.pi / 4.0 - ((2.0 * s * r - (6.12323399573676603587e-17 - 2.0 * c)) - (math.pi / 4.0 - 2.0 * w))


def distance(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float | None:
    """Return the haversine distance in km, past a quarter of the way around by way of the antipode of `b`."""
    a, b, east, west = abs(lat_a), abs(lat_b), abs(lon_a), abs(lon_b)
    if not (a <= 90.0 and b <= 90.0 and east <= 180.0 and west <= 180.0):  # noqa: PLR2004
        return None
    turn = min(abs(lon_a - lon_b), (180.0 - east) + (180.0 - west))
    inner = sine(90.0 - a) * sine(90.0 - b)
    up, along = sine(abs(lat_a - lat_b) / 2.0), sine(turn / 2.0)
    h = up * up + inner * (along * along)
    up, along = sine(abs(lat_a + lat_b) / 2.0), sine((180.0 - turn) / 2.0)
    rest = up * up + inner * (along * along)
    angle = 2.0 * arcsine(math.sqrt(h)) if h < rest else math.pi - 2.0 * arcsine(math.sqrt(rest))
    return 6371.0088 * angle


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
    "distance": distance,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "div": lambda a, b: a / b if b else None,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "clip": clip,
    "log1p": log1p,
    "hour_of_day": lambda ms: int(ms) // HOUR % 24,
    "day_of_week": lambda ms: (int(ms) // DAY + 3) % 7,  # 1970-01-01 was a Thursday, Monday is 0
}  # fmt: skip
