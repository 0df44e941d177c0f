"""The sketch against the true number of values, and against what it must not depend on."""

import math

import duckdb
import numpy as np
import pytest

from unskew.pipelines.backends.oracle_formulas import Sample, approx_count_distinct
from unskew.pipelines.backends.oracle_rows import lifted
from unskew.pipelines.backends.sql import DUCKDB, render
from unskew.pipelines.hyperloglog import estimates, register_fields
from unskew.pipelines.nodes import Node
from unskew.pipelines.states import Lift
from unskew.pipelines.types import Int64, String

ERROR = 1.04 / math.sqrt(4096)


def lift_of(kind: object) -> Node:
    column = Node("column", kind, (), "x")  # type: ignore[arg-type]
    return register_fields(Lift((column,), None, column))[0].lift


def registers(count: int) -> np.ndarray:  # type: ignore[type-arg]
    """Return the registers of so many different numbers, each once, ascending."""
    query = (
        f"SELECT DISTINCT {render(lift_of(Int64), DUCKDB)} AS r FROM (SELECT range AS x FROM range({count})) ORDER BY r"
    )
    return np.array([each for (each,) in duckdb.execute(query).fetchall()], np.int64)


@pytest.mark.parametrize("count", [1, 10, 300, 3_000, 10_000, 20_000, 100_000, 1_000_000])
def test_the_error_is_that_of_the_paper(count: int) -> None:
    entries = registers(count)
    (found,) = estimates(entries, np.array([0, len(entries)]))
    assert abs(int(found) - count) <= 4 * ERROR * count
    assert found == approx_count_distinct(Sample([entries.tolist()], 0, (1,), False))
    assert len(entries) <= 4096 * 15


def test_few_values_are_counted_almost_exactly() -> None:
    counts = [int(estimates(each := registers(n), np.array([0, len(each)]))[0]) for n in range(60)]
    assert max(abs(found - n) for n, found in enumerate(counts)) <= 1


def test_rows_are_estimated_apart() -> None:
    parts = [registers(n) for n in (5, 0, 9_000, 1)]
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in parts])))
    whole = estimates(np.concatenate(parts), offsets)
    assert whole.tolist() == [int(estimates(each, np.array([0, len(each)]))[0]) for each in parts]


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    # md5("") = d41 d8cd98f00b204..., md5("7") = 8f1 4e45fceea167...
    [(String, "", 0xD41 * 64 + 1), (Int64, 7, 0x8F1 * 64 + 2), (String, "7", 0x8F1 * 64 + 2)],
)
def test_registers_worked_by_hand(kind: object, value: object, wanted: int) -> None:
    node = lift_of(kind)
    assert lifted(node, {"x": value}) == wanted  # type: ignore[dict-item]
    ((found,),) = duckdb.execute(f"SELECT {render(node, DUCKDB)} FROM (SELECT $1 AS x)", [value]).fetchall()
    assert found == wanted
