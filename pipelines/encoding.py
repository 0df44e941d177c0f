"""One value at a time: what a request or a key holds, encoded as the engines compute with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import ColumnPlan
from unskew.pipelines.timegrid import milliseconds
from unskew.pipelines.types import INT64_MAX, INT64_MIN

Cell = int | bool | str | None
FLOAT_NOISE = 2.0**-20  # how far a float may be from a decimal, in its units (docs/semantics.md)
SAFE = 1e18  # no decimal of 18 digits reaches it
SURROGATE = re.compile("[\ud800-\udfff]")


def encode_row(columns: Mapping[str, ColumnPlan], row: Mapping[str, Any]) -> dict[str, Cell]:
    """Encode the named columns of a row; a column that is not there is null."""
    return {name: encode_cell(column, row.get(name)) for name, column in columns.items()}


def encode_cell(column: ColumnPlan, value: Any) -> Cell:
    """Return the integer, string or boolean that the engines compute with.

    Parameters
    ----------
    value
        int, float, Decimal, bool, str, datetime, or None. A naive datetime is UTC; finer than ms is floored.

    Raises
    ------
    InputError
        If the value is not of the column's type or out of its range.
    """
    kind = column.type.kind
    if value is None or (isinstance(value, float | Decimal) and not Decimal(value).is_finite()):
        return None
    if kind in ("string", "bool"):
        wanted = str if kind == "string" else bool
        if not isinstance(value, wanted) or (isinstance(value, str) and not is_unicode(value)):
            raise refused(column, value)
        return value
    number = None if isinstance(value, bool | str) else encode_number(column, value)
    if number is None:
        raise refused(column, value)
    lo = INT64_MIN if column.type.lo is None else column.type.lo
    hi = INT64_MAX if column.type.hi is None else column.type.hi
    if not lo <= number <= hi:
        message = (
            f"value `{value!r}` of column `{column.name}` is out of its range {lo} to {hi} (in its smallest units)"
        )
        raise InputError(message)
    return number


def encode_number(column: ColumnPlan, value: Any) -> int | None:
    """Return the encoded number; None where the type does not take the value."""
    kind = column.type.kind
    if kind == "timestamp" and isinstance(value, datetime):
        return milliseconds(value)
    if kind in ("int", "timestamp"):
        return int(value) if hasattr(value, "__index__") else None
    if not isinstance(value, Real | Decimal):
        return None
    return quanta(as_float(value), column.type.quantum) if kind == "float" else encode_decimal(value, column.type.units)


def as_float(value: Any) -> float:
    """Return a number as a float; what overflows one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def quanta(value: float, quantum: float) -> int:
    """Return ``floor(x / quantum + 0.5)``; what overflows a float is out of every range."""
    steps = value / quantum + 0.5
    return math.floor(steps) if math.isfinite(steps) else 2**100


def encode_decimal(given: Any, units: int) -> int | None:
    """Return a decimal times its units; None where it has a digit too many. Floats may carry rounding noise."""
    value = int(given) if isinstance(given, Integral) else given if isinstance(given, Decimal) else as_float(given)
    if isinstance(value, float):
        if abs(value) >= SAFE:
            return 2**100
        scaled = value * float(units)
        whole = round(scaled)
        return whole if abs(scaled - whole) <= FLOAT_NOISE or float(whole) / float(units) == value else None
    exact = Decimal(value) * units if abs(Decimal(value)) < SAFE else Decimal(2**100)
    return int(exact) if exact == exact.to_integral_value() else None


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can write the text: it holds no lone surrogate."""
    return SURROGATE.search(text) is None


def refused(column: ColumnPlan, value: Any) -> InputError:
    """Name the column, its type and what was given."""
    return InputError(f"value `{value!r}` of column `{column.name}` is not of type `{column.type}`; convert it")
