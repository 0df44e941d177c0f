"""Events in files as the messages that they were: JSON, a key, an arrival."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.online.live.outbox import Message
from unskew.online.stream_input import input_files
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.folders import read_files
from unskew.pipelines.json_lines import Path as Keys
from unskew.pipelines.json_lines import aliased, at, first_given
from unskew.pipelines.plan import SetPlan, SourcePlan

OWN = ("_partition", "_offset")  # what an archive adds
BEGINNING = 10  # lines of which one must be an object: a log may begin with a message that was malformed
SLICE = 16_384  # rows that are Python objects at a time
LATE_BY = (60_000, 4 * 86_400_000)  # ms past the allowed lateness
COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))  # `json.dumps` would make one for each message


@dataclass(frozen=True)
class Shape:
    """How events become messages.

    Parameters
    ----------
    source
        Whose events they are.
    key
        Columns of the messages' keys.
    arrives
        From the original arrival, ms, and the event's number to when it arrives now: all its instants are moved by the
        difference. None: none is, and lines of JSON are sent as they are.
    late, seed
        Share of the events whose event time is moved back by more than the allowed lateness.
    """

    source: SourcePlan
    key: tuple[str, ...]
    arrives: Callable[[int, int], int] | None = None
    late: float = 0.0
    seed: int = 7


def key_columns(plan: SetPlan, source: str, given: str | None) -> tuple[str, ...]:
    """Return the columns that a source's messages are keyed by: those given, or the first view's entity's.

    Raises
    ------
    InputError
        If the source has no such column.
    """
    if given is None:
        first = next(each for each in plan.views if each.source == source)
        return tuple(each.name for each in first.keys)
    known = [each.name for each in plan.source(source).columns]
    chosen = tuple(given.split(","))
    for each in chosen:
        if each not in known:
            message = f"key `{each}` is no column of source `{source}`; {nearest(each, known)}"
            raise InputError(message)
    return chosen


def messages(shape: Shape, path: Path) -> Iterator[Message]:
    """Yield a log's events as messages: of Parquet in order of arrival, of JSON lines as they stand.

    A line that cannot be read arrives with the one before it.

    Raises
    ------
    InputError
        If there is no event, or a file cannot be read: one of another kind before the first message.
    """
    parquet = path.suffix == ".parquet" or (path.is_dir() and any(path.rglob("*.parquet")))
    return shaped(shape, path, parquet_rows(shape.source, path) if parquet else line_rows(line_files(path)))


def shaped(shape: Shape, path: Path, rows: Iterator[Row]) -> Iterator[Message]:
    """Yield the messages of a log's rows; refuse one without rows."""
    reader = Reader(shape)
    empty = True
    for values, raw in rows:
        yield reader.message(values, raw)
        empty = False
    if empty:
        message = f"log `{path}` holds no event; give Parquet or JSON lines"
        raise InputError(message)


Row = tuple[Mapping[str, Any] | None, bytes | None]


class Reader:
    """Makes messages of one log's rows, one after the other."""

    def __init__(self, shape: Shape) -> None:
        """Begin before the first row."""
        source = shape.source
        self.shape, self.arrival, self.number = shape, 0, -1
        self.rng = np.random.default_rng(shape.seed)
        self.ts = paths_of(source, source.event_time)
        self.arrivals = [*(paths_of(source, source.arrival) if source.arrival else ()), *self.ts]
        self.instants = [
            path for each in source.columns if each.type.kind == "timestamp" for path in paths_of(source, each.name)
        ]
        self.keys = [paths_of(source, each) for each in shape.key]

    def message(self, values: Mapping[str, Any] | None, raw: bytes | None) -> Message:
        """Return the next row's message."""
        self.number += 1
        arrival = None if values is None else whole(first_given(values, self.arrivals))
        self.arrival = self.arrival if arrival is None else max(arrival, 0)
        at_last = self.arrival if self.shape.arrives is None else self.shape.arrives(self.arrival, self.number)
        if values is None:
            return Message(at_last, None, raw or b"")
        key = ",".join(text(first_given(values, each)) for each in self.keys).encode() if self.keys else None
        changed = self.changed(values, at_last - self.arrival)
        if changed is not values or raw is None:
            raw = COMPACT.encode(changed).encode("utf-8", "surrogatepass")
        return Message(at_last, key, raw)

    def changed(self, values: Mapping[str, Any], by: int) -> Mapping[str, Any]:
        """Return an event whose instants are moved, and whose event time is moved back if it is drawn so."""
        found = moved(values, self.instants, by) if by else values
        if self.shape.late and self.rng.random() < self.shape.late:
            back = self.shape.source.allowed_lateness + int(self.rng.integers(*LATE_BY))
            found = moved(found, self.ts, -back)
        return found


def paths_of(source: SourcePlan, column: str) -> Sequence[Keys]:
    """Return the paths under which a column is read."""
    return aliased(source, column) or ((column,),)


def whole(value: Any) -> int | None:
    """Return a whole number, of a text too."""
    if type(value) is str and value.removeprefix("-").isdecimal():
        return int(value[:40])
    return value if type(value) is int else None


def text(value: Any) -> str:
    """Return a key's value as text."""
    return value if isinstance(value, str) else json.dumps(value)


def moved(values: Mapping[str, Any], paths: Sequence[Keys], by: int) -> Mapping[str, Any]:
    """Return an event with the instants at some paths moved by `by` ms."""
    found = dict(values)
    for path in paths:
        value = whole(at(values, path))
        if value is not None:
            inner = found
            for each in path[:-1]:
                inner[each] = dict(inner[each])
                inner = inner[each]
            inner[path[-1]] = value + by
    return found


def line_files(path: Path) -> list[Path]:
    """Return a file, or a folder's files in the order of their names; refuse one that does not begin with JSON."""
    if not path.exists():
        message = f"log `{path}` does not exist; give Parquet or JSON lines, a file or a folder"
        raise InputError(message)
    files = input_files(path) if path.is_dir() else [path]
    for each in files:
        with each.open("rb") as file:
            first = [line for line in islice(file, BEGINNING) if line.strip()]
        if first and all(loaded(line) is None for line in first):
            message = (
                f"file `{each}` does not begin with a JSON object; give JSON lines, one object each, or .parquet files"
            )
            raise InputError(message)
    return files


def line_rows(files: Sequence[Path]) -> Iterator[Row]:
    """Yield the lines of files, one after the other."""
    for each in files:
        with each.open("rb") as file:
            for line in file:
                raw = line.rstrip(b"\r\n")
                yield loaded(raw), raw


def loaded(line: bytes) -> Mapping[str, Any] | None:
    """Return a line's object; None where it has none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def parquet_rows(source: SourcePlan, path: Path) -> Iterator[Row]:
    """Yield the rows of Parquet files in order of arrival, as what JSON holds; the arrival is the message's."""
    try:
        table = read_files(path)
    except (pa.ArrowInvalid, OSError) as error:
        message = f"log `{path}` cannot be read: {str(error).splitlines()[0]}; give Parquet files of one schema"
        raise InputError(message) from error
    table = table.drop_columns([each for each in OWN if each in table.column_names])
    by = next((each for each in (source.arrival, source.event_time) if each in table.column_names), None)
    if by is not None:
        order = np.argsort(in_json(table[by]).cast(pa.int64()).fill_null(0).to_numpy(), kind="stable")
        table = table.take(pa.array(order))
    table = pa.table([in_json(each) for each in table.columns], table.column_names)
    for start in range(0, table.num_rows, SLICE):
        yield from ((given(each), None) for each in table.slice(start, SLICE).to_pylist())


def in_json(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as JSON holds it: instants in ms, floored, decimals as text."""
    if pa.types.is_timestamp(column.type):
        floored = pc.floor_temporal(column, unit="millisecond")
        return floored.cast(pa.timestamp("ms", column.type.tz)).cast(pa.int64())
    return column.cast(pa.string()) if pa.types.is_decimal(column.type) else column


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out nulls, and numbers that JSON does not have."""
    return {k: v for k, v in values.items() if v is not None and not (isinstance(v, float) and not math.isfinite(v))}
