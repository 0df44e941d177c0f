"""States over windows at the ends of what they can hold."""

import numpy as np
import pytest

from unskew.backfill.kernels import Bools, Ints, running_maximum, scatter_bits
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


def test_the_running_maximum_starts_anew_with_each_entity() -> None:
    entity, known = np.array([1, 1, 2, 2, 2], np.int64), np.array([5, 1, 0, 3, 2], np.int64)
    assert running_maximum(entity, known).tolist() == [5, 5, 0, 3, 3]
    assert running_maximum(np.zeros(3, np.int64), np.array([2, 1, 3], np.int64)).tolist() == [2, 2, 3]


def test_bits_are_scattered_from_any_offset() -> None:
    #   bit:  0 1 2 3 4 5 6 7 | 8 9 10 11 ...   the first of a byte is its lowest
    bits = np.array([1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1], np.bool_)
    for offset in range(9):
        target, out = np.array([1, 2, 0], np.int64), np.zeros(4, np.bool_)
        scatter_bits(np.packbits(bits, bitorder="little"), offset, target, out)
        assert out.tolist() == [bits[offset + 2], bits[offset], bits[offset + 1], False]
