"""Second moments are exact integers, rounded once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unskew.pipelines import Int64
from unskew.pipelines.backends import oracle
from unskew.pipelines.moments import halves, numerator
from unskew.pipelines.nodes import Node
from unskew.pipelines.types import INT64_MAX, INT64_MIN

LIMIT = 2**40
VALUES = st.sampled_from([0, 1, -1, 2**20, -(2**20), 2**20 - 1, LIMIT, -LIMIT]) | st.integers(-LIMIT, LIMIT)


def split(value: int) -> tuple[int, int]:
    size = abs(value)
    sign = -1 if value < 0 else 1
    return sign * (size >> 20), sign * (size & (2**20 - 1))


@given(VALUES)
def test_halves_are_truncated_and_keep_the_sign(value: int) -> None:
    found = [oracle.lifted(each, {"x": value}) for each in halves(Node("column", Int64(-LIMIT, LIMIT), (), "x"))]
    a, b = (int(each or 0) for each in found)
    assert (a, b) == split(value)
    assert a * 2**20 + b == value


def sums(pairs: list[tuple[int, int]]) -> list[int]:
    """The split products' sums, low and middle as a stream would add them up."""
    found = [0, 0, 0, 0]
    for x, y in pairs:
        (a, b), (c, d) = split(x), split(y)
        found = [total + each for total, each in zip(found, (a * c, a * d, b * c, b * d), strict=True)]
    return found


def computed(n: int, x: int, y: int, parts: list[int]) -> list[float]:
    rows, left, right, *products = (np.array([each, each], np.int64) for each in (n, x, y, *parts))
    found: list[float] = numerator(rows, left, right, products).tolist()
    return found


@given(st.lists(st.tuples(VALUES, VALUES), max_size=30), st.integers(1, 2**21))
def test_the_numerator_is_the_nearest_float(pairs: list[tuple[int, int]], copies: int) -> None:
    n, x, y = (copies * each for each in (len(pairs), sum(x for x, _ in pairs), sum(y for _, y in pairs)))
    parts = [copies * each for each in sums(pairs)]
    exact = n * copies * sum(left * right for left, right in pairs) - x * y
    if max(abs(each) for each in (x, y, *parts, 0)) > INT64_MAX:
        return
    assert computed(n, x, y, parts) == [float(exact)] * 2


WORDS = st.sampled_from([0, 1, -1, INT64_MAX, INT64_MIN + 1]) | st.integers(INT64_MIN + 1, INT64_MAX)


@given(st.integers(0, INT64_MAX), WORDS, WORDS, st.lists(WORDS, min_size=3, max_size=4))
def test_any_sums_give_the_nearest_float(n: int, x: int, y: int, parts: list[int]) -> None:
    weights = [2**40, 2**21, 1] if len(parts) == 3 else [2**40, 2**20, 2**20, 1]
    exact = n * sum(weight * each for weight, each in zip(weights, parts, strict=True)) - x * y
    assert computed(n, x, y, parts) == [float(exact)] * 2


@given(st.integers(-(2**126), 2**126), st.integers(0, 60))
def test_ties_go_to_even(value: int, zeros: int) -> None:
    """Numbers with long runs of zeros, where a bit that is cut off decides."""
    near = (value >> zeros << zeros) + 1
    high, low = divmod(near, 2**20)
    if abs(high) > INT64_MAX or abs(low) > INT64_MAX:
        return
    assert computed(1, 0, 0, [0, high, 0, low]) == [float(near)] * 2
