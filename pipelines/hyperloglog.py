"""HyperLogLog: about how many values there are, from 4,096 registers on a declared hash.

Each event's value falls into one register with one rank, both from the MD5 of its encoded text; a register keeps its
largest rank. The state is a multiset of ``register * 64 + rank``: at most some ten numbers a register however many
values there are, exact to merge and to take back, the same in every engine. The standard error is ``1.04 / sqrt(4096)``,
1.6 %.

P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
algorithm", 2007; the estimate is algorithm 6 of O. Ertl, "New cardinality estimation algorithms for HyperLogLog
sketches", 2017: it needs no correction of its bias, and nothing but + - * / and sqrt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.nodes import Node, masked, with_range
from unskew.pipelines.states import Finish, Lift, StateField, Values, counted
from unskew.pipelines.types import Int64

HEX_DIGITS = "0123456789abcdef"
REGISTER_DIGITS, RANK_DIGITS = 3, 13  # of the MD5 in hex, one after the other
REGISTERS = 16**REGISTER_DIGITS
MOST = 4 * RANK_DIGITS + 1  # rank of a hash of zeros alone; others have their leading zeros and 1
STRIDE = 64  # a register's ranks
SCALE = REGISTERS * REGISTERS / (2.0 * 0.6931471805599453)  # registers squared over twice the logarithm of 2
ROWS_AT_ONCE = 1 << 14

Floats = NDArray[np.float64]


def register_fields(lift: Lift) -> tuple[StateField, ...]:
    """Lift the value into its register and rank."""
    value = lift.inputs[0]
    node = Node("hll_register", with_range(Int64, 0, REGISTERS * STRIDE - 1), (value,))
    return (StateField("multiset", masked(lift.where, node)),)


def finish_approx_count_distinct(states: Sequence[Values], _: Finish) -> Values:
    """Return the estimate, rounded half up; 0 where there is no value."""
    offsets, _counts = counted(states[0])
    entries = states[0].data.astype(np.int64)
    rows = len(offsets) - 1
    found = np.zeros(rows, np.int64)
    for first in range(0, rows, ROWS_AT_ONCE):
        bounds = offsets[first : first + ROWS_AT_ONCE + 1]
        found[first : first + ROWS_AT_ONCE] = estimates(entries[bounds[0] : bounds[-1]], bounds - bounds[0])
    return Values(found, np.ones(rows, np.bool_))


def estimates(entries: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each row's estimate from its entries, ascending."""
    rows = len(offsets) - 1
    row = np.repeat(np.arange(rows), np.diff(offsets))
    register, rank = row * REGISTERS + entries // STRIDE, entries % STRIDE
    largest = np.append(register[1:] != register[:-1], np.ones(min(len(register), 1), np.bool_))
    cells = row[largest] * (MOST + 1) + rank[largest]
    with_rank = np.bincount(cells, minlength=rows * (MOST + 1)).reshape(rows, MOST + 1).astype(np.float64)
    with_rank[:, 0] = REGISTERS - with_rank[:, 1:].sum(axis=1)
    some = with_rank[:, 0] < REGISTERS
    z = REGISTERS * tau(1.0 - with_rank[:, MOST] / REGISTERS)
    for k in range(MOST - 1, 0, -1):
        z = 0.5 * (z + with_rank[:, k])
    z = z + REGISTERS * sigma(np.where(some, with_rank[:, 0] / REGISTERS, 0.0))
    return np.where(some, np.floor(SCALE / np.where(some, z, 1.0) + 0.5), 0.0).astype(np.int64)


def sigma(x: Floats) -> Floats:
    """Return ``x + sum(x**(2**k) * 2**(k - 1))`` over k from 1 on, until no row changes; x below 1."""
    z, y = x, 1.0
    while True:
        x = x * x
        before, z = z, z + x * y
        y = y + y
        if (z == before).all():
            return z


def tau(x: Floats) -> Floats:
    """Return ``(1 - x - sum((1 - x**(2**-k))**2 * 2**-k)) / 3`` over k from 1 on, until no row changes; 0 for x = 0 or 1."""
    inside = (x > 0.0) & (x < 1.0)
    x, y = np.where(inside, x, 1.0), 1.0
    z = 1.0 - x
    while True:
        x, y = np.sqrt(x), 0.5 * y
        before, z = z, z - (1.0 - x) * (1.0 - x) * y
        if (z == before).all():
            return z / 3.0
