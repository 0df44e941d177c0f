"""Functions beyond + - * / and sqrt, made of IEEE float64 operations alone.

The C library's and NumPy's differ by a bit from processor to processor; these do not.
"""

from __future__ import annotations

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
    r = np.zeros_like(z)
    for coefficient in reversed(POLYNOMIAL):
        r = z * (coefficient + r)
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
    c = np.zeros_like(t)
    for coefficient in reversed(EXP_POLYNOMIAL):
        c = t * (coefficient + c)
    c = r - c
    near = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    with np.errstate(over="ignore", under="ignore"):
        found: NDArray[np.float64] = np.ldexp(near, k.astype(np.int32))
    return np.where(x > MOST, np.inf, np.where(x < -MOST, 0.0, found))
