"""Row expressions: types, ranges, and the same values in Python and DuckDB."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unskew.pipelines import (
    Bool,
    Decimal,
    Float,
    Int32,
    Int64,
    String,
    Timestamp,
    coalesce,
    col,
    day_of_week,
    distance,
    hour_of_day,
    if_else,
    log1p,
    request,
)
from unskew.pipelines.backends.sql import DUCKDB, FLINK, render
from unskew.pipelines.binding import bind
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.expr import Expr
from unskew.pipelines.types import SUM_LIMIT

COLUMNS = {
    "a": Int64,
    "b": Int64(-100, 100),
    "c": Int32,
    "d": Decimal(12, 2),
    "e": Decimal(6, 4),
    "f": Float(-1000, 1000),
    "s": String,
    "t": Timestamp,
    "u": Bool,
}
VALUES = {
    "a": "BIGINT", "b": "BIGINT", "c": "BIGINT", "d": "BIGINT", "e": "BIGINT", "f": "BIGINT",
    "s": "VARCHAR", "t": "BIGINT", "u": "BOOLEAN",
}  # fmt: skip


def in_duckdb(expr: Expr, **row: object) -> object:
    """Evaluate over one row of encoded values; a column that is not given is null."""
    columns = ", ".join(f'CAST(${name} AS {kind}) AS "{name}"' for name, kind in VALUES.items())
    query = f"SELECT {render(bind(expr, COLUMNS, {}), DUCKDB)} FROM (SELECT {columns})"
    found = duckdb.execute(query, {name: row.get(name) for name in VALUES}).fetchone()
    assert found is not None
    return found[0]


integers = st.integers(-SUM_LIMIT, SUM_LIMIT)


@given(integers, st.integers(-100, 100))
def test_division_floors(a: int, b: int) -> None:
    expected = (a // b, a % b) if b else (None, None)
    assert (in_duckdb(col("a") // col("b"), a=a, b=b), in_duckdb(col("a") % col("b"), a=a, b=b)) == expected


@given(st.integers(-(10**12) + 1, 10**12 - 1), st.integers(-100, 100))
def test_decimals_are_aligned(d: int, b: int) -> None:
    assert in_duckdb(col("d") + col("b"), d=d, b=b) == d + 100 * b
    assert in_duckdb(col("d") > col("b"), d=d, b=b) == (d > 100 * b)
    assert in_duckdb((col("d") * 0.5).cast(Decimal(12, 1)), d=d) == (d * 5) // 100
    assert in_duckdb(col("d").cast(Int64), d=d) == d // 100


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_date_parts_floor_before_1970(t: int) -> None:
    assert in_duckdb(hour_of_day(col("t")), t=t) == t // 3_600_000 % 24
    assert in_duckdb(day_of_week(col("t")), t=t) == (t // 86_400_000 + 3) % 7


TRUTH = (True, False, None)


@pytest.mark.parametrize("left", TRUTH)
@pytest.mark.parametrize("right", TRUTH)
def test_logic_has_three_values(left: bool | None, right: bool | None) -> None:
    b = None if right is None else int(right)
    both = False if False in (left, right) else None if None in (left, right) else True
    either = True if True in (left, right) else None if None in (left, right) else False
    assert in_duckdb(col("u") & (col("b") == 1), u=left, b=b) is both
    assert in_duckdb(col("u") | (col("b") == 1), u=left, b=b) is either
    assert in_duckdb(~col("u"), u=left) is (None if left is None else not left)


def test_nulls_choices_and_members() -> None:
    assert in_duckdb(col("a").is_null()) is True
    assert in_duckdb(coalesce(col("a"), col("b"), 7), b=3) == 3
    assert in_duckdb(coalesce(col("a"), col("b"), 7)) == 7
    assert in_duckdb(if_else(col("u"), 1, 2)) == 2
    assert in_duckdb(col("s").isin("x'", "😀"), s="😀") is True
    assert in_duckdb(col("s").isin("x'", "😀")) is None
    assert in_duckdb(col("d").isin(1.5, 2), d=150) is True
    assert in_duckdb(col("a").cast(String), a=-12) == "-12"
    assert in_duckdb(col("u").cast(Int64), u=True) == 1
    assert in_duckdb(-col("b"), b=4) == -4


def test_projections_are_replaced() -> None:
    node = bind(col("half"), COLUMNS, {"half": col("b") // 2})
    assert render(node, FLINK).startswith("((`b` - (((`b` % CAST(2 AS BIGINT))")


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (col("amonut"), "column `amonut` is unknown"),
        (col("s") < "x", r"operation `lt` is not defined on \(String, String\)"),
        (col("s") + 1, "operation `add` is not defined"),
        (col("u") & col("a"), "operation `and` is not defined"),
        (col("s") == 1, "operation `eq` is not defined"),
        (col("a") / 2, "operation `div` is not exact on rows; use `//` or ratio"),
        (log1p(col("a")), "operation `log1p` is not exact on rows"),
        (distance(col("a"), 0, 0, 0), "operation `distance` is not exact on rows; use a derived feature"),
        (col("a") * col("a"), "past 2\\*\\*62; declare a tighter range"),
        (request("a") + 1, "request `a` cannot stand in a row expression"),
        (hour_of_day(col("a")), "operation `hour_of_day` is not defined"),
        (col("a") * 1e30, "has no short decimal form"),
        (col("s").cast(Timestamp), "operation `cast to Timestamp` is not defined"),
        (col("s").substr(0, 2), "operation `substr` was given `0`, which is not a whole number from 1 on"),
        (col("s").contains(""), "which is not a text that is not empty"),
        (col("a").length(), "operation `length` is not defined"),
        (col("a") * 1e30, "has no short decimal form"),
        (if_else(col("a"), 1, 2), "operation `if_else` is not defined"),
    ],
)
def test_wrong_expressions_are_refused(expr: Expr, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        bind(expr, COLUMNS, {})


def test_expressions_have_no_truth_value() -> None:
    with pytest.raises(DefinitionError, match=r"use `&`, `\|`, `~`"):
        bool(col("a") == 1)
    with pytest.raises(DefinitionError, match="did you mean `mean`"):
        col("a").maen()
    with pytest.raises(DefinitionError, match="none of them null"):
        col("a").isin(None)
