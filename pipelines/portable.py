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
    tail = k * LN2_LOW + error / u
    result = k * LN2_HIGH - ((half - (s * (half + r) + tail)) - f)
    tiny = np.abs(x) < 2.0**-54
    return np.where(tiny, x, result)
