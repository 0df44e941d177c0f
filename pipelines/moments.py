"""Exact moments: products of digits whose sums fit int64, and the numerators of variance and covariance.

A number ``x = a * 2**20 + b`` is split by truncation, `a` and `b` with the sign of `x`; as ``|x| <= 2**40``, no product
of parts passes 2**40. Third and fourth powers take digits of 10 bits. The numerator ``n * sum(xy) - sum(x) * sum(y)`` is an exact integer of up to 128 bits (more is
computed with Python's integers), rounded once to float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import combinations_with_replacement
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.nodes import Node, literal, truncated, with_range
from unskew.pipelines.types import Int64

BITS = 20
POWER_BITS = 10  # of a digit whose fourth power stays within 2**40
TIME_BITS, TIME_DIGITS = 16, 3  # 48 bits hold the years 1 to 9999 in ms
SAFE = 2.0**126  # of the terms' estimated size: below it two words hold them

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Exact = NDArray[np.object_]  # of Python integers
Wide = tuple[Ints, Words]  # (n,) high and low words of signed 128-bit numbers


def halves(node: Node) -> tuple[Node, Node]:
    """Return `a` and `b` of ``x = a * 2**20 + b``, both truncated toward zero, null for null."""
    low, high = digits_of(node, BITS, 2)
    return high, low


def digits_of(node: Node, bits: int, count: int) -> tuple[Node, ...]:
    """Return `count` digits of `bits` each, lowest first, with the sign of the number; the last holds the rest."""
    x = replace(node, type=with_range(replace(node.type, kind="int", units=1), *node.type.bounds))
    found = []
    for place in range(count):
        above = truncated(x, 1 << bits * place) if place else x
        if place < count - 1:
            limit = min(max(abs(each) for each in above.type.bounds), (1 << bits) - 1)
            rest = Node("mul", above.type, (truncated(x, 1 << bits * (place + 1)), literal(1 << bits)))
            above = Node("sub", with_range(Int64, -limit, limit), (above, rest))
        found.append(above)
    return tuple(found)


def digit_count(node: Node, bits: int) -> int:
    """Return how many digits of `bits` hold every value of a number."""
    return max(-(-max(abs(each) for each in node.type.bounds).bit_length() // bits), 1)


def powers(digits: Sequence[Node], degree: int) -> list[Node]:
    """Return the different products of `degree` digits, in the order of `power_weights`."""
    return [reduce(product, chosen) for chosen in combinations_with_replacement(digits, degree)]


def power_weights(count: int, bits: int, degree: int) -> list[int]:
    """Return what each product of `powers` weighs in the power of the number that has so many digits."""
    return [
        (factorial(degree) // prod(factorial(each) for each in Counter(chosen).values())) << bits * sum(chosen)
        for chosen in combinations_with_replacement(range(count), degree)
    ]


def exactly(parts: Sequence[Ints], weights: Sequence[int]) -> Exact:
    """Return the weighted sum of columns, (r,) of Python integers."""
    found = np.zeros(len(parts[0]), object)
    for each, weight in zip(parts, weights, strict=True):
        found += each.astype(object) * weight
    return found


def product(left: Node, right: Node) -> Node:
    """Return the product of two parts."""
    limit = max(abs(each) for each in left.type.bounds) * max(abs(each) for each in right.type.bounds)
    return Node("mul", with_range(Int64, -limit, limit), (left, right))


def numerator(n: Ints, x: Ints, y: Ints, parts: Sequence[Ints]) -> NDArray[np.float64]:
    """Return ``n * sum(xy) - sum(x) * sum(y)``, exact but for one rounding to float64.

    Parameters
    ----------
    n, x, y
        (r,) number of pairs, sum of x, sum of y.
    parts
        (r,) each: sums of the products of the high parts, of a high and a low one (one or two), of the low parts.
    """
    middle = len(parts) - 2
    weights = [1 << 2 * BITS, *[(2 if middle == 1 else 1) << BITS] * middle, 1]
    products = sum(magnitude(each) * float(weight) for each, weight in zip(parts, weights, strict=True))
    fits = products * magnitude(n) + magnitude(x) * magnitude(y) < SAFE
    found = np.empty(len(n), np.float64)
    total = zero(int(fits.sum()))
    for each, weight in zip(parts, weights, strict=True):
        total = plus(total, times(each[fits], np.full(len(total[0]), weight, np.int64)))
    moment = plus(scaled(total, n[fits]), negative(times(x[fits], y[fits])))
    found[fits] = rounded(moment)
    for row in np.flatnonzero(~fits).tolist():
        exact = sum(int(each[row]) * weight for each, weight in zip(parts, weights, strict=True))
        found[row] = float(int(n[row]) * exact - int(x[row]) * int(y[row]))
    return found


def magnitude(values: Ints) -> NDArray[np.float64]:
    """Return magnitudes, rounded."""
    return np.abs(values.astype(np.float64))


def zero(rows: int) -> Wide:
    """Return zeros."""
    return np.zeros(rows, np.int64), np.zeros(rows, np.uint64)


def times(left: Ints, right: Ints) -> Wide:
    """Multiply."""
    a, b = left.view(np.uint64), right.view(np.uint64)
    high, low = times_unsigned(a, b)
    high = high - np.where(left < 0, b, np.uint64(0)) - np.where(right < 0, a, np.uint64(0))
    return high.view(np.int64), low


def times_unsigned(a: Words, b: Words) -> tuple[Words, Words]:
    """Multiply words to their high and low words, by halves of 32 bits."""
    shift, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a1, a0, b1, b0 = a >> shift, a & mask, b >> shift, b & mask
    middle = a1 * b0 + (a0 * b0 >> shift)
    carried = a0 * b1 + (middle & mask)
    return a1 * b1 + (middle >> shift) + (carried >> shift), a * b


def scaled(wide: Wide, factor: Ints) -> Wide:
    """Multiply by a number that is not negative, modulo 2**128."""
    high, low = times_unsigned(wide[1], factor.view(np.uint64))
    return (high + wide[0].view(np.uint64) * factor.view(np.uint64)).view(np.int64), low


def plus(left: Wide, right: Wide) -> Wide:
    """Add, modulo 2**128."""
    low = left[1] + right[1]
    carry = (low < left[1]).astype(np.int64)
    return left[0] + right[0] + carry, low


def negative(wide: Wide) -> Wide:
    """Change the sign."""
    return plus((~wide[0], ~wide[1]), (np.zeros(len(wide[0]), np.int64), np.ones(len(wide[0]), np.uint64)))


def rounded(wide: Wide) -> NDArray[np.float64]:
    """Return the nearest float64, ties to even."""
    below = wide[0] < 0
    opposite = negative(wide)
    high = np.where(below, opposite[0], wide[0]).view(np.uint64)
    low = np.where(below, opposite[1], wide[1])
    shift = np.frexp(high.astype(np.float64))[1].astype(np.uint64)  # the high word's bits, or one more
    some = shift > 0
    left = (np.uint64(64) - shift) & np.uint64(63)
    top = np.where(some, high << left | low >> shift, low)
    lost = some & (low << left != 0)  # what is cut off still decides a tie
    size = np.ldexp((top | lost.astype(np.uint64)).astype(np.float64), shift.astype(np.int32))
    return np.where(below, -size, size)
