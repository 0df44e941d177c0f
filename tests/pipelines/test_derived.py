"""Derived features and the portable functions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unskew.pipelines.aggregates import Values
from unskew.pipelines.derived import Derived, evaluate
from unskew.pipelines.portable import log1p


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
