"""Columns of a reading: made when they are asked for, and the same whichever way."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from unskew.online.columns import Block, Column, Columns
from unskew.pipelines.states import FeatureType, Values

NUMBERS = Block(("b", "c"), np.array([[1.5, 0.0, 2.5], [0.0, 4.0, 5.0]]), np.array([[1, 0, 1], [0, 1, 1]], np.bool_))
WHOLE = Block(("w",), np.array([[True, False, True]]), np.ones((1, 3), np.bool_))
TEXTS = Block(("s",), np.array([[1, 0, 0]]), np.array([[1, 1, 0]], np.bool_), ["x", "y"])
LISTS = Column(Values(np.array([7, 8]), np.array([True, False, True]), np.array([0, 1, 1, 2])))
TYPES = {
    "a": FeatureType("int", repeated=True), "b": FeatureType("float"), "s": FeatureType("string"),
    "c": FeatureType("float"), "w": FeatureType("bool"),
}  # fmt: skip
COLUMNS = Columns(TYPES, [NUMBERS, WHOLE, TEXTS], {"a": LISTS})
CELLS: dict[str, list[Any]] = {
    "a": [[7], None, [8]], "b": [1.5, None, 2.5], "s": ["y", "x", None], "c": [None, 4.0, 5.0],
    "w": [True, False, True],
}  # fmt: skip


def test_columns_stand_in_the_order_of_the_set_wherever_they_are() -> None:
    assert list(COLUMNS) == list(TYPES)
    assert len(COLUMNS) == len(TYPES)
    assert "d" not in COLUMNS
    with pytest.raises(KeyError):
        COLUMNS["d"]


@pytest.mark.parametrize("rows", [None, 0, 1, 2])
def test_cells_are_those_of_each_column(rows: int | None) -> None:
    wanted = {name: cells[:rows] for name, cells in CELLS.items()}
    assert COLUMNS.cells(rows) == wanted
    assert {name: each.cells(rows) for name, each in COLUMNS.items()} == wanted
    assert {type(each) for each in COLUMNS.cells(1)["w"]} == {bool}


@pytest.mark.parametrize("first", [0, 1, 2])
def test_arrays_are_those_of_each_column(first: int) -> None:
    found = COLUMNS.arrays()
    assert {name: each.to_pylist() for name, each in found.items()} == CELLS
    batch = pa.RecordBatch.from_arrays([found[name] for name in COLUMNS], names=list(COLUMNS)).slice(first, 1)
    batch.validate(full=True)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    assert pa.ipc.open_stream(sink.getvalue()).read_all().to_pylist() == [{n: CELLS[n][first] for n in COLUMNS}]
