"""Lines of JSON judged one at a time in Python, as the Flink job judges them.

`pipelines.backends.flink_lines` has the rules; this module keeps them line by line, for whoever reads what the job
reads: the archiver, the quarantine, erasure, tests. A line is one message's value, or one line of a file.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from unskew.pipelines.backends.flink_lines import decimals, number_form
from unskew.pipelines.encoding import is_unicode, quanta
from unskew.pipelines.json_objects import Number, parsed, parts
from unskew.pipelines.plan import ColumnPlan, SourcePlan
from unskew.pipelines.types import INT64_MAX, INT64_MIN

MALFORMED, NO_TIME, WRONG_TYPE, OUT_OF_RANGE, NO_ID, FUTURE = REASONS = (
    "malformed", "null_event_time", "wrong_type", "out_of_range", "null_event_id", "future",
)  # fmt: skip
LONGEST = 400  # characters; a longer numeral is out of every range


class Refusal(enum.Enum):
    """Why a value is not its column's."""

    WRONG = WRONG_TYPE
    OUTSIDE = OUT_OF_RANGE


WRONG: Final = Refusal.WRONG
OUTSIDE: Final = Refusal.OUTSIDE
Given = int | float | str | bool | None  # a float column's as it was written, others' encoded
Encoder = Callable[[Any], Given | Refusal]


class LineJudge:
    """Reads the lines of one source.

    Raises
    ------
    DefinitionError
        If the source has a column whose type Flink does not read from JSON.
    """

    def __init__(self, source: SourcePlan) -> None:
        """Compile a reader for each column."""
        self.source = source
        self.names = tuple(each.name for each in source.columns)
        self.readers = [(each.name, aliased(source, each.name), encoder(each)) for each in source.columns]
        self.ts = self.names.index(source.event_time)
        self.arrival = None if source.arrival is None else self.names.index(source.arrival)
        self.ids = [self.names.index(each) for each in source.event_id]

    def __call__(self, line: bytes | None, arrival: int | None = None) -> list[Given] | str:
        """Return a sound line's values in the order of the columns, or the reason why it is quarantined.

        Parameters
        ----------
        line
            None, a message without a value, is malformed.
        arrival
            The message's timestamp, ms, in place of what the line has for the arrival column.
        """
        values = None if line is None else parsed(line)
        if values is None:
            return MALFORMED
        if arrival is not None and self.source.arrival is not None:
            values[self.source.arrival] = arrival
        cells = self.read(values)
        return cells if isinstance(cells, str) else self.judged(cells)

    def read(self, values: Mapping[str, Any]) -> list[Given] | str:
        """Return the columns' values, or the reason against the form or the range of one."""
        name, paths, _ = self.readers[self.ts]
        if (values.get(name) if paths is None else first_given(values, paths)) is None:
            return NO_TIME
        cells: list[Given] = []
        outside = False
        for name, paths, encode in self.readers:
            value = values.get(name) if paths is None else first_given(values, paths)
            cell = None if value is None else encode(value)
            if cell is WRONG:
                return WRONG_TYPE
            if cell is OUTSIDE:
                outside = True
            else:
                cells.append(cell)
        return OUT_OF_RANGE if outside else cells

    def judged(self, cells: list[Given]) -> list[Given] | str:
        """Return the values, or the reason against the row as a whole."""
        for each in self.ids:
            if cells[each] is None:
                return NO_ID
        return FUTURE if -self.lag(cells) > self.source.max_future_skew else cells

    def lag(self, cells: Sequence[Given]) -> int:
        """Return from event time to arrival, ms; an unknown arrival is the event time."""
        arrival: Any = None if self.arrival is None else cells[self.arrival]
        ts: Any = cells[self.ts]
        return 0 if arrival is None else arrival - ts

    def late(self, cells: Sequence[Given]) -> bool:
        """Return whether a sound line came too late for the stream."""
        return self.lag(cells) > self.source.allowed_lateness


Path = tuple[str, ...]


def aliased(source: SourcePlan, column: str) -> tuple[Path, ...] | None:
    """Return the paths under which lines carry a column; None where it has its own name only."""
    others = dict(source.aliases).get(column)
    return None if others is None else tuple(tuple(each.split(".")) for each in (column, *others))


def first_given(values: Mapping[str, Any], paths: Sequence[Path]) -> Any:
    """Return the value at the first path that is there and no null."""
    found = (at(values, each) for each in paths)
    return next((each for each in found if each is not None), None)


def at(values: Any, path: Path) -> Any:
    """Return the value at a path of keys of objects; what is inside an array is not read."""
    for each in path:
        values = values.get(each) if isinstance(values, dict) else None
    return values


def encoder(column: ColumnPlan) -> Encoder:
    """Return what reads one JSON value of a column that is no null; a number is checked to be in its range."""
    kind = column.type.kind
    if kind == "string":
        return text
    if kind == "bool":
        return truth
    lo = INT64_MIN if column.type.lo is None else column.type.lo
    hi = INT64_MAX if column.type.hi is None else column.type.hi
    if kind == "float":
        return float_reader(column.type.quantum, lo, hi)
    return numeral_reader(decimals(column), re.compile(number_form(column)), lo, hi)


def text(value: Any) -> Given | Refusal:
    """Read a string."""
    return value if type(value) is str and is_unicode(value) else WRONG


def truth(value: Any) -> Given | Refusal:
    """Read ``true``, ``false``, 1 or 0."""
    if type(value) is bool:
        return value
    if type(value) is Number:
        digits, scale = parts(value)
        value = int(digits) if scale == 0 else None
    return value == 1 if type(value) is int and value in (0, 1) else WRONG


def float_reader(quantum: float, lo: int, hi: int) -> Encoder:
    """Return what reads a float; the range is that of its quanta."""

    def read(value: Any) -> Given | Refusal:
        if type(value) is not Number and type(value) is not int:
            return WRONG
        try:
            found = float(value)
        except OverflowError:
            return OUTSIDE
        return found if lo <= quanta(found, quantum) <= hi else OUTSIDE

    return read


def numeral_reader(scale: int, form: re.Pattern[str], lo: int, hi: int) -> Encoder:
    """Return what reads a whole number, an instant, or a decimal, in units of its last digit."""
    units = 10**scale

    def read(value: Any) -> Given | Refusal:
        if type(value) is int:
            found = value * units
        elif type(value) is Number or (type(value) is str and form.fullmatch(value)):
            if len(value) > LONGEST and type(value) is str:
                return OUTSIDE
            digits, after = parts(value)
            if not 0 <= after <= scale:
                return WRONG
            found = int(digits) * 10 ** (scale - after)
        else:
            return WRONG
        return found if lo <= found <= hi else OUTSIDE

    return read
