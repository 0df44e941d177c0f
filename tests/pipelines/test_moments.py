"""Second moments are exact integers, rounded once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unskew.pipelines import Decimal, Int64
from unskew.pipelines.backends import oracle
from unskew.pipelines.moments import digit_count, digits_of, halves, numerator, product
from unskew.pipelines.nodes import Node
from unskew.pipelines.types import INT64_MAX, INT64_MIN, DataType

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


def column(data_type: DataType) -> Node:
    return Node("column", data_type, (), "x")


def test_the_ranges_of_halves_and_products() -> None:
    a, b = halves(column(Int64(-LIMIT, LIMIT)))
    assert (a.type.bounds, b.type.bounds) == ((-(2**20), 2**20), (1 - 2**20, 2**20 - 1))
    assert product(a, a).type.bounds == (-LIMIT, LIMIT)
    assert product(a, b).type.bounds == (2**20 - LIMIT, LIMIT - 2**20)
    a, b = halves(column(Int64(-5, 3)))
    assert (a.type.bounds, b.type.bounds) == ((0, 0), (-5, 5))


def test_one_digit_is_the_number_without_its_unit() -> None:
    (found,) = digits_of(column(Decimal(4, 2)), 20, 1)
    assert (found.op, found.type.kind, found.type.units, found.type.bounds) == ("column", "int", 1, (-9999, 9999))


@pytest.mark.parametrize(("lo", "hi", "digits"), [(0, 0, 1), (0, 1023, 1), (-1024, 5, 2), (-(2**20), 2**20 - 1, 3)])
def test_digits_hold_every_value(lo: int, hi: int, digits: int) -> None:
    assert digit_count(column(Int64(lo, hi)), 10) == digits


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
LENGTHS = st.integers(0, 63).flatmap(lambda bits: st.integers(2**bits >> 1, 2**bits - 1))  # each length as often
SIZES = WORDS | LENGTHS | LENGTHS.map(lambda size: -size)


@settings(max_examples=300)
@given(st.integers(0, INT64_MAX) | LENGTHS, SIZES, SIZES, st.lists(SIZES, min_size=3, max_size=4))
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


@given(st.integers(2**52, 2**53 - 1), st.integers(0, 28), st.sampled_from((-1, 0, 1)), st.sampled_from((-1, 1)))
def test_a_tie_and_what_is_beside_it(kept: int, zeros: int, beside: int, sign: int) -> None:
    #   bits:  [53 that a float64 keeps][1][zeros] is a tie; one less goes down, one more goes up
    near = sign * ((2 * kept + 1 << zeros) + beside)
    high, low = divmod(near, 2**20)
    assert computed(1, 0, 0, [0, high, 0, low]) == [float(near)] * 2
