"""Functions beyond + - * / and sqrt, made of IEEE float64 operations alone.

The C library's and NumPy's differ by a bit from processor to processor; these do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Minimax coefficients of (log(1+s) - log(1-s) - 2s) / s as a polynomial in s**2, as in fdlibm's e_log.c.
POLYNOMIAL = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip

INVERSE_LN2 = 1.44269504088896338700e00
MOST = 750.0  # beyond it e**x is infinite or 0 in float64
EXP_POLYNOMIAL = (
    1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05, -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)  # fmt: skip

SIN_FIRST = -1.66666666666666324348e-01
SIN_POLYNOMIAL = (
    8.33333333332248946124e-03, -1.98412698298579493134e-04, 2.75573137070700676789e-06, -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)  # fmt: skip
COS_POLYNOMIAL = (
    4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05, -2.75573143513906633035e-07,
    2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip
HALF_PI, HALF_PI_LOW, QUARTER_PI = 1.57079632679489655800e00, 6.12323399573676603587e-17, 7.85398163397448278999e-01
# asin(x) = x + x * P(x**2) / Q(x**2), Q(0) = 1, for x < 1/2.
ASIN_ABOVE = (
    1.66666666666666657415e-01, -3.25565818622400915405e-01, 2.01212532134862925881e-01, -4.00555345006794114027e-02,
    7.91534994289814532176e-04, 3.47933107596021167570e-05,
)  # fmt: skip
ASIN_BELOW = (
    -2.40339491173441421878e00, 2.02094576023350569471e00, -6.88283971605453293030e-01, 7.70381505559019352791e-02,
)  # fmt: skip


def log1p(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln(1 + x) for x > -1, elementwise.

    With ``u = 1 + x = 2**k * (1 + f)``, ``sqrt(1/2) <= 1 + f < sqrt(2)`` and the rounding error of u
    carried along, ``ln(1 + f) = f - f**2/2 + s * (f**2/2 + R(s**2))``, ``s = f / (2 + f)``.
    The method and its coefficients are those of fdlibm (Sun Microsystems, s_log1p.c), always by its general
    case. Tests find it within 2 ulps of the C library.

    Parameters
    ----------
    x
        (n,) finite values above -1.

    Returns
    -------
    numpy.ndarray
        (n,) float64; the sign of zero is kept.
    """
    u = 1.0 + x
    error = np.where(np.abs(x) < 1.0, x - (u - 1.0), 1.0 - (u - x))
    return np.where(np.abs(x) < 2.0**-54, x, logarithm(u, error / u))


def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln(x) for x > 0, elementwise, by the method of `log1p` (fdlibm, e_log.c)."""
    return logarithm(x, np.zeros_like(x))


def logarithm(u: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln(u) + error for u > 0, where `error` is small."""
    mantissa, exponent = np.frexp(u)
    small = mantissa < np.sqrt(0.5)
    mantissa = np.where(small, mantissa * 2.0, mantissa)
    k = (exponent - small).astype(np.float64)
    f = mantissa - 1.0
    s = f / (2.0 + f)
    z = s * s
    r = polynomial(POLYNOMIAL, z)
    half = 0.5 * f * f
    tail = k * LN2_LOW + error
    found: NDArray[np.float64] = k * LN2_HIGH - ((half - (s * (half + r) + tail)) - f)
    return found


def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return e**x, elementwise.

    With ``x = k * ln 2 + r``, ``|r| <= ln 2 / 2``, ``e**r = 1 + r + r * c / (2 - c)`` and `c` a polynomial of r**2. The
    method and its coefficients are those of fdlibm (Sun Microsystems, e_exp.c), always by its general case. Tests find
    it within 1 ulp of the C library.

    Parameters
    ----------
    x
        (n,) finite values.

    Returns
    -------
    numpy.ndarray
        (n,) float64; infinite where it overflows, 0 or subnormal where it underflows.
    """
    k = np.floor(np.clip(x, -800.0, 800.0) * INVERSE_LN2 + 0.5)
    high, low = x - k * LN2_HIGH, k * LN2_LOW
    r = high - low
    t = r * r
    c = r - polynomial(EXP_POLYNOMIAL, t)
    near = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    with np.errstate(over="ignore", under="ignore"):
        found: NDArray[np.float64] = np.ldexp(near, k.astype(np.int32))
    return np.where(x > MOST, np.inf, np.where(x < -MOST, 0.0, found))


def polynomial(coefficients: Sequence[float], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``z * (c[0] + z * (c[1] + ...))``, the innermost first; never fused, for each step is an array."""
    found = np.zeros_like(z)
    for coefficient in reversed(coefficients):
        found = z * (coefficient + found)
    return found


def sin(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sine, elementwise, within 1 ulp, by the polynomial of fdlibm (Sun Microsystems, k_sin.c).

    Parameters
    ----------
    x
        (n,) radians, ``-pi/4 <= x <= pi/4``; larger angles are for the caller to reduce.

    Returns
    -------
    numpy.ndarray
        (n,) float64; the sign of zero is kept.
    """
    z = x * x
    return x + (z * x) * (SIN_FIRST + polynomial(SIN_POLYNOMIAL, z))


def cos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine for ``-pi/4 <= x <= pi/4``, within 1 ulp, by the polynomial of fdlibm (k_cos.c).

    The rounding error of ``1 - x**2 / 2`` is carried along, as in FreeBSD's k_cos.c.
    """
    z = x * x
    half = 0.5 * z
    near = 1.0 - half
    found: NDArray[np.float64] = near + (((1.0 - near) - half) + z * polynomial(COS_POLYNOMIAL, z))
    return found


def asin(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the arc sine in radians, elementwise, within 1 ulp.

    Below 1/2 ``x + x * R(x**2)``, `R` a quotient of polynomials; from there on ``pi/2 - 2 * asin(s)`` with
    ``s = sqrt((1 - x) / 2)``, split into its first 24 bits `high` and the rest `low`. The method and its coefficients
    are those of fdlibm (Sun Microsystems, e_asin.c), which cuts `s` at another bit.

    Parameters
    ----------
    x
        (n,) from 0 to 1, both inclusive.

    Returns
    -------
    numpy.ndarray
        (n,) float64, 0 to pi/2.
    """
    large = x >= 0.5  # noqa: PLR2004 - sin(30 degrees)
    z = np.where(large, 0.5 * (1.0 - x), x * x)
    r = polynomial(ASIN_ABOVE, z) / (1.0 + polynomial(ASIN_BELOW, z))
    s = np.sqrt(z)
    high = np.floor(s * 2.0**24) / 2.0**24  # its square is exact
    low = (z - high * high) / np.where(s > 0.0, s + high, 1.0)
    less = 2.0 * s * r - (HALF_PI_LOW - 2.0 * low)
    found: NDArray[np.float64] = np.where(large, QUARTER_PI - (less - (QUARTER_PI - 2.0 * high)), x + x * r)
    return found
