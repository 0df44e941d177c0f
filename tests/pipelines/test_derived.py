"""Derived features and the portable functions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unskew.pipelines.backends import oracle, oracle_derived
from unskew.pipelines.derived import Derived, evaluate
from unskew.pipelines.portable import exp, log, log1p
from unskew.pipelines.states import Values


def column(*values: float | None) -> Values:
    valid = np.array([each is not None for each in values])
    return Values(np.array([0.0 if each is None else each for each in values]), valid)


VECTORS = [
    "0x0.0p+0",
    "-0x0.0p+0",
    "0x1.79ca10c924223p-67",
    "0x1.4f8aea9ae7317p-17",
    "0x1.9f323ecbf984cp-2",
    "0x1.62e42fefa39efp-1",
    "0x1.040b6eecb85b4p+2",
    "0x1.4b927f3304b3bp+4",
    "-0x1.62e42fefa39efp-1",
    "-0x1.ba18a998fff9fp+2",
]
X: Derived = ("feature", "x", 1)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (("div", ("literal", 1.0), X), [0.5, None, None]),
        (("add", X, ("literal", 1.0)), [3.0, 1.0, None]),
        (("coalesce", X, ("literal", 9.0)), [2.0, 0.0, 9.0]),
        (("clip", X, ("literal", 0.5), ("literal", 1.0)), [1.0, 0.5, None]),
        (("if_else", ("gt", X, ("literal", 1.0)), ("literal", 1.0), ("literal", 0.0)), [1.0, 0.0, 0.0]),
        (("log1p", ("sub", X, ("literal", 1.0))), [math.log1p(1.0), None, None]),
    ],
)
def test_operations(expression: Derived, expected: list[float | None]) -> None:
    found = evaluate(expression, {"x": column(2.0, 0.0, None)}, 3)
    assert [value if ok else None for value, ok in zip(found.data.tolist(), found.valid, strict=True)] == expected


TEXT: Derived = ("feature", "s", 0)
LISTS: tuple[Derived, Derived] = (("feature", "v", -1), ("feature", "w", -1))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (("eq", TEXT, ("literal", "a")), [1.0, 0.0, None]),
        (("ne", ("literal", "a"), TEXT), [0.0, 1.0, None]),
        (("isin", TEXT, ("literal", "b"), ("literal", "c")), [0.0, 1.0, None]),
        (("is_null", TEXT), [0.0, 0.0, 1.0]),
        (("cosine", *LISTS), [24 / (5.0 * 5.0), None, None]),
        (("cosine", LISTS[0], LISTS[0]), [1.0, 1.0, None]),
    ],
)
def test_strings_and_vectors(expression: Derived, expected: list[float | None]) -> None:
    valid = np.array([True, True, False])
    columns = {
        "s": Values(np.array(["a", "b", None], object), valid),
        "v": Values(np.array([3.0, 4.0, 2.0]), valid, np.array([0, 2, 3, 3])),
        "w": Values(np.array([4.0, 3.0, 1.0, 1.0]), np.ones(3, np.bool_), np.array([0, 2, 4, 4])),
    }
    found = evaluate(expression, columns, 3)
    assert [value if ok else None for value, ok in zip(found.data.tolist(), found.valid, strict=True)] == expected
    ours = [
        oracle.derived_value(expression, {"s": s, "v": v, "w": w}, {})
        for s, v, w in (("a", [3.0, 4.0], [4.0, 3.0]), ("b", [2.0], [1.0, 1.0]), (None, None, None))
    ]
    assert ours == expected


@given(st.floats(min_value=-745, max_value=709))
def test_exp_is_within_one_ulp_of_the_c_library(x: float) -> None:
    assert abs(float(exp(np.array([x]))[0]) - math.exp(x)) <= math.ulp(math.exp(x))


@given(st.floats(min_value=0, max_value=1e300, exclude_min=True))
def test_log_is_within_two_ulps_of_the_c_library(x: float) -> None:
    assert abs(float(log(np.array([x]))[0]) - math.log(x)) <= 2 * math.ulp(math.log(x))


def test_exp_and_log_give_the_bits_of_the_oracles() -> None:
    draw = np.random.default_rng(7)
    x = np.concatenate([draw.uniform(-760, 760, 5_000), draw.uniform(-2, 2, 5_000), [0.0, -0.0, 1e308, -1e308]])
    with np.errstate(all="ignore"):
        assert [oracle_derived.exponential(each).hex() for each in x.tolist()] == [
            each.hex() for each in exp(x).tolist()
        ]
    y = np.abs(np.concatenate([2.0 ** draw.uniform(-1074, 1023, 5_000), x[x != 0]]))
    assert [oracle_derived.logarithm(each, 0.0).hex() for each in y.tolist()] == [
        each.hex() for each in log(y).tolist()
    ]


def test_request_decimals_come_in_their_unit() -> None:
    found = evaluate(("request", "amount", 100), {"amount": column(5716)}, 1)
    assert found.data.tolist() == [57.16]


@given(st.floats(min_value=-1, max_value=1e300, exclude_min=True, allow_subnormal=False))
def test_log1p_is_within_two_ulps_of_the_c_library(x: float) -> None:
    found, expected = float(log1p(np.array([x]))[0]), math.log1p(x)
    assert abs(found - expected) <= 2 * math.ulp(expected)


def test_log1p_gives_these_bits() -> None:
    found = log1p(np.array([0.0, -0.0, 1e-20, 1e-5, 0.5, 1.0, 57.16, 1e9, -0.5, -0.999]))
    assert [each.hex() for each in found.tolist()] == VECTORS
