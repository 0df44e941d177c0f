"""Column types: what a value means, how it is encoded, which range it may have.

Every value but a string is encoded as one int64: an integer as itself, a decimal as
its unscaled integer, a float as a whole number of quanta, a boolean as 0 or 1, a
timestamp as milliseconds. `units` encoded units make 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from unskew.pipelines.errors import DefinitionError

Kind = Literal["int", "decimal", "float", "bool", "string", "timestamp"]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
SUM_LIMIT = 2**40  # a summed input stays within this, so 2**22 rows cannot overflow
VALUE_LIMIT = 2**62  # every intermediate value of a row expression stays within this
MAX_DIGITS = 18  # of a decimal that fits int64
YEAR_1, YEAR_9999 = -62_135_596_800_000, 253_402_300_799_999


@dataclass(frozen=True)
class DataType:
    """The type of a column or of an expression.

    Parameters
    ----------
    kind
        Family of the type.
    units
        Encoded units that make 1 (100 for ``Decimal(12, 2)``).
    lo, hi
        Inclusive range of the encoded value; None where none is declared.
    precision
        Digits of a decimal, else 0.
    quantum
        Step of a float column, else 0.
    """

    kind: Kind
    units: int = 1
    lo: int | None = None
    hi: int | None = None
    precision: int = 0
    quantum: float = 0.0

    def __call__(self, lo: int, hi: int) -> DataType:
        """Declare a range, both ends inclusive: ``Int64(0, 100)``."""
        if self.kind != "int":
            message = f"a range cannot be declared on `{self}`; only integers take one here"
            raise DefinitionError(message)
        if lo > hi or lo < INT64_MIN or hi > INT64_MAX:
            message = f"range `{lo}`..`{hi}` is empty or outside int64; give lo <= hi"
            raise DefinitionError(message)
        return replace(self, lo=lo, hi=hi)

    def __str__(self) -> str:
        """Return the type as a user writes it."""
        if self.kind == "decimal":
            return f"Decimal({self.precision}, {len(str(self.units)) - 1})"
        if self.kind == "float":
            return f"Float(quantum={self.quantum!r})"
        return {"int": "Int64", "bool": "Bool", "string": "String", "timestamp": "Timestamp"}[self.kind]

    @property
    def numeric(self) -> bool:
        """Whether arithmetic is defined on it."""
        return self.kind in ("int", "decimal", "float")

    @property
    def bounds(self) -> tuple[int, int]:
        """Range of the encoded value; an undeclared integer has +-2**40 where it is computed with."""
        if self.lo is None or self.hi is None:
            return -SUM_LIMIT, SUM_LIMIT
        return self.lo, self.hi


Int64 = DataType("int")
Int32 = DataType("int", lo=-(2**31), hi=2**31 - 1)
Bool = DataType("bool", lo=0, hi=1)
String = DataType("string")
Timestamp = DataType("timestamp", lo=YEAR_1, hi=YEAR_9999)


def Decimal(precision: int, scale: int) -> DataType:
    """Return an exact decimal of `precision` digits, `scale` of them after the point.

    Raises
    ------
    DefinitionError
        Unless ``0 <= scale <= precision <= 18``.
    """
    if not 0 <= scale <= precision <= MAX_DIGITS or precision == 0:
        message = f"decimal `({precision}, {scale})` does not fit int64; use 0 <= scale <= precision <= 18"
        raise DefinitionError(message)
    limit = 10**precision - 1
    return DataType("decimal", 10**scale, -limit, limit, precision)


def Float(lo: float, hi: float, quantum: float = 2**-16) -> DataType:
    """Return a float that is used as ``floor(x / quantum + 0.5)`` quanta.

    Parameters
    ----------
    lo, hi
        Inclusive range of the value.
    quantum
        Step; its reciprocal must be a whole number (2**-16, 0.001).

    Raises
    ------
    DefinitionError
        If the quantum is no reciprocal of a whole number or the range is too wide for it.
    """
    units = round(1 / quantum) if quantum > 0 else 0
    if units < 1 or 1 / units != quantum:
        message = f"quantum `{quantum}` is not 1/n for a whole n; use e.g. 2**-16 or 0.001"
        raise DefinitionError(message)
    low, high = (int((each / quantum + 0.5) // 1) for each in (lo, hi))
    if not -VALUE_LIMIT < low <= high < VALUE_LIMIT:
        message = f"range `{lo}`..`{hi}` does not fit the quantum `{quantum}`; use a coarser quantum"
        raise DefinitionError(message)
    return DataType("float", units, low, high, quantum=quantum)
