"""The identity of an event as a number, the same in Flink SQL and in NumPy: a tile's set hash is their sum."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.backends.flink_pieces import long, quoted
from unskew.pipelines.plan import ColumnPlan, SourcePlan
from unskew.pipelines.types import INT64_MAX, INT64_MIN

# Odd multipliers of the mix, from the fractional parts of the golden ratio and of pi.
MIX_1, MIX_3 = 0x1E3779B97F4A7C15, 0x243F6A8885A308D3
WORD = 2**32


def mixed_sql(value: str, multiplier: int) -> str:
    """Write the nonlinear mix; all wraps.

    ``x * (2 * x + 1)`` is a permutation of the int64 (RC6, Rivest et al. 1998). Twice it, with the truncated quotient by
    2**32 added in between: of a mix that is nearly linear, sums of ids that follow one another collide.
    """
    product = f"({value} * {long(multiplier)})"
    square = f"({product} * ({product} * {long(2)} + {long(1)}) + {product} / {long(WORD)})"
    return f"({square} * ({square} * {long(2)} + {long(1)}))"


def identity_sql(source: SourcePlan) -> str:
    """Write the wrapping sum of the mixed parts of the identity, each with a multiplier of its own."""
    parts = [quoted(source.event_time), *(hashable_sql(source.column(each)) for each in source.event_id)]
    return " + ".join(mixed_sql(part, MIX_1 + 2 * index) for index, part in enumerate(parts))


def hashable_sql(column: ColumnPlan) -> str:
    """Return an id as BIGINT: a string by the halves of its MD5, their hex digits taken as decimal ones.

    HASH_CODE would not do: it is Java's hash of a constant, but another of a computed string.
    """
    name = quoted(column.name)
    if column.type.kind == "bool":
        return f"CASE WHEN {name} THEN {long(1)} ELSE {long(0)} END"
    if column.type.kind != "string":
        return name
    decimal = f"TRANSLATE(MD5({name}), 'abcdef', '012345')"
    halves = [f"CAST(SUBSTRING({decimal}, {start}, 16) AS BIGINT)" for start in (1, 17)]
    return f"({halves[0]} * {long(WORD)} + {halves[1]})"


def mixed(value: NDArray[np.int64], multiplier: int) -> NDArray[np.int64]:
    """Return the nonlinear mix of int64 values, as `mixed_sql`."""
    product = value * np.int64(multiplier)
    quotient = (product >> 32) + ((product < 0) & ((product & np.int64(WORD - 1)) != 0))
    square = product * (product * 2 + 1) + quotient
    found: NDArray[np.int64] = square * (square * 2 + 1)
    return found


def hashable(value: int | bool | str) -> int:
    """Return an id as an int64, wrapped.

    Examples
    --------
    >>> hashable(-3), hashable("p")
    (-3, -6413354610570813594)
    """
    if not isinstance(value, str):
        return int(value)
    md5 = hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()
    decimal = md5.translate(str.maketrans("abcdef", "012345"))
    found = (int(decimal[:16]) * WORD + int(decimal[16:])) % 2**64
    return found + 2 * INT64_MIN if found > INT64_MAX else found


def identity_hash(ts: Sequence[int], *ids: Sequence[int | bool | str]) -> NDArray[np.int64]:
    """Return the hash of each identity; a tile's `set_hash` is their wrapping sum.

    Parameters
    ----------
    ts
        (n,) event times, ms.
    ids
        (n,) each, in the order of the source's `event_id`.

    Returns
    -------
    ndarray of int64
        (n,) hashes.
    """
    total = np.zeros(len(ts), np.int64)
    for index, column in enumerate([ts, *ids]):
        part = np.array([hashable(each) for each in column], np.int64)
        total = total + mixed(part, MIX_1 + 2 * index)
    return mixed(total, MIX_3)
