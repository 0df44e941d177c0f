"""A cell that no rule explains ends as a small test that fails until the bug is gone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pytest import MonkeyPatch
from typer.testing import CliRunner

from tests.validation.mutants import rendered, truncated
from unskew.pipelines.backends.sql import DUCKDB
from unskew.pipelines.cli import app
from unskew.validation.shrink import Cell, Row, compute, literal, smallest

WORLD = Path(__file__).with_name("world.py")


def test_an_unexplained_cell_becomes_a_test_of_its_own(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    rendered(truncated, DUCKDB)(monkeypatch)
    given = ["--adversarial", "--seeds", "1", "--probes", "300", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, ["parity", "--defs", str(WORLD), *given])
    assert done.exit_code == 1
    path = tmp_path / "test_parity_case.py"
    assert f"pytest {path}" in done.output
    written: dict[str, Any] = {}
    exec(path.read_text(), written)  # noqa: S102 - what a user would run with pytest
    events, test = written["EVENTS"]["payments"], written["test_spending_sevens_1d"]
    assert events.num_rows == 1
    assert events["points"][0].as_py() % 7 > 0 > events["points"][0].as_py()
    with pytest.raises(AssertionError):
        test()
    monkeypatch.undo()
    test()
    cell = Cell("spending.sevens_1d", "served", written["PROBE"])
    served, expected = compute(written["SET"], written["EVENTS"], written["FLIPS"], cell)
    assert served == expected


@pytest.mark.parametrize("seed", range(50))
def test_what_is_left_is_wrong_and_smaller_parts_are_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [("s", number) for number in range(int(rng.integers(1, 60)))]
    guilty = {rows[each] for each in rng.integers(0, len(rows), 4)}

    def wrong(part: Sequence[Row]) -> bool:
        return guilty <= set(part)

    assert set(smallest(rows, wrong, lambda: False)) == guilty


def test_events_are_written_as_code() -> None:
    table = pa.table({
        "id": pa.array([1, None], pa.int32()),
        "at": pa.array([-1, 2], pa.timestamp("us", "UTC")),
        "x": pa.array([float("nan"), -0.0], pa.float64()),
        "s": pa.array(["'\"\\\n\U0001f600", None], pa.string()),
        "d": pa.array([None, None], pa.decimal128(12, 2)),
        "b": pa.array([True, None]),
        "n": pa.nulls(2),
    })  # fmt: skip
    read = eval(literal(table), {"pa": pa})  # noqa: S307 - our own text
    assert read.schema == table.schema
    assert repr(read.to_pylist()) == repr(table.to_pylist())
