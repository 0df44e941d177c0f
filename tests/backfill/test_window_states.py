"""States over windows at the ends of what they can hold."""

import numpy as np
import pytest

from unskew.backfill.kernels import Bools, Ints
from unskew.backfill.window_states import Column, field_state
from unskew.pipelines.errors import EngineError
from unskew.pipelines.nodes import literal
from unskew.pipelines.states import StateField, Values

ADD = StateField("add", literal(1))
ROWS = 2**22


def summed(data: Ints, valid: Bools, *windows: tuple[int, int]) -> Values:
    lo, hi = np.array(windows, np.int64).reshape(-1, 2).T
    return field_state(ADD, Column(data, valid), lo, hi)


def test_a_sum_of_many_rows_past_2_to_the_62_is_an_error() -> None:
    #   2**22 rows of 2**40: 2**62 just fits; one row more passes it, and so does its opposite
    for sign in (1, -1):
        data = np.full(ROWS + 1, sign * 2**40, np.int64)
        valid = np.ones(ROWS + 1, np.bool_)
        assert summed(data, valid, (0, ROWS), (1, ROWS + 1), (3, 3)).data.tolist() == [sign * 2**62, sign * 2**62, 0]
        with pytest.raises(EngineError, match="passes 2\\*\\*62"):
            summed(data, valid, (0, 1), (0, ROWS + 1))
        valid[7] = False  # what stands below a null does not count
        assert summed(data, valid, (0, ROWS + 1)).data.tolist() == [sign * 2**62]


def test_no_windows_and_no_events() -> None:
    none = Column(np.zeros(0, np.int64), np.zeros(0, np.bool_))
    empty = np.zeros(0, np.int64)
    assert len(field_state(ADD, none, empty, empty).data) == 0
    assert field_state(ADD, none, np.zeros(2, np.int64), np.zeros(2, np.int64)).data.tolist() == [0, 0]
    last = field_state(StateField("last", literal(1)), none, np.zeros(2, np.int64), np.zeros(2, np.int64))
    assert last.valid.tolist() == [False, False]
