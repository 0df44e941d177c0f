"""Messages of a partition on their way into the archive: judged, and packed into Arrow as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from unskew.pipelines.archive import QUARANTINE, date_folder
from unskew.pipelines.json_lines import LineJudge
from unskew.pipelines.plan import ColumnPlan, SourcePlan
from unskew.pipelines.timegrid import DAY

INSTANT = pa.timestamp("ms", "UTC")
PACK_ROWS, PACK_BYTES = 8_192, 16 << 20  # lists of Python objects never hold more
QUARANTINED = pa.schema([
    ("raw", pa.binary()), ("key", pa.binary()), ("topic", pa.string()), ("partition", pa.int64()),
    ("offset", pa.int64()), ("arrival", INSTANT), ("reason", pa.string()),
])  # fmt: skip


class Message(Protocol):
    """What is used of a record: offset, timestamp in ms, key and value as bytes or None."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def schema_of(source: SourcePlan) -> pa.Schema:
    """Return the columns of a source's archive."""
    columns = [(each.name, arrow_type(each)) for each in source.columns]
    return pa.schema([*columns, ("_partition", pa.int64()), ("_offset", pa.int64())])


def arrow_type(column: ColumnPlan) -> pa.DataType:
    """Return the type of a column in the archive."""
    kind = column.type.kind
    if kind == "decimal":
        return pa.decimal128(18, len(str(column.type.units)) - 1)
    named = {"float": pa.float64(), "bool": pa.bool_(), "string": pa.string(), "timestamp": INSTANT}
    return named.get(kind, pa.int64())


class Batch:
    """The messages of one partition since its last commit, in the order of their offsets.

    Parameters
    ----------
    now
        When the first of them came, in s of a steady clock.
    """

    def __init__(self, judge: LineJudge, topic: str, partition: int, now: float) -> None:
        """Begin an empty one."""
        self.judge, self.topic, self.partition, self.began = judge, topic, partition, now
        self.schema = schema_of(judge.source)
        self.sound: list[Sequence[Any]] = []
        self.spoilt: list[Sequence[Any]] = []
        self.packed: list[tuple[pa.Table, pa.Table]] = []
        self.loose = self.bytes = self.rows = 0
        self.first = self.last = self.newest = -1
        self.earliest: int | None = None  # arrival of a sound message
        self.gaps: list[list[Any]] = []
        self.fates: Counter[tuple[str, str]] = Counter()

    def add(self, messages: Sequence[Message]) -> None:
        """Judge messages and keep them."""
        judge, partition, fates = self.judge, self.partition, self.fates
        for each in messages:
            offset, timestamp, value = each.offset, each.timestamp, each.value
            found = judge(value, timestamp)
            if isinstance(found, str):
                fates["quarantined", found] += 1
                self.spoilt.append((value, each.key, self.topic, partition, offset, timestamp, found))
            else:
                fates["late" if judge.late(found) else "accepted", ""] += 1
                if self.earliest is None or timestamp < self.earliest:
                    self.earliest = timestamp
                self.sound.append((*found, partition, offset))
            self.loose += 0 if value is None else len(value)
            if len(self.sound) + len(self.spoilt) >= PACK_ROWS or self.loose >= PACK_BYTES:
                self.pack()
        self.first = messages[0].offset if self.first < 0 else self.first
        self.last, self.newest = messages[-1].offset, messages[-1].timestamp
        self.rows += len(messages)

    def pack(self) -> None:
        """Move the rows from Python lists into Arrow."""
        if self.sound or self.spoilt:
            tables = packed(self.sound, self.schema), packed(self.spoilt, QUARANTINED)
            self.packed.append(tables)
            self.bytes += sum(each.nbytes for each in tables)
            self.sound, self.spoilt, self.loose = [], [], 0

    def size(self) -> int:
        """Return about how many bytes it holds."""
        return self.bytes + self.loose

    def files(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows of each folder: of each date of an event, and the quarantine's."""
        self.pack()
        sound, spoilt = (pa.concat_tables(each) for each in zip(*self.packed, strict=True))
        days = sound[self.judge.source.event_time].cast(pa.int64()).to_numpy() // DAY
        for day in np.unique(days).tolist():
            yield date_folder(day), sound.filter(pa.array(days == day))
        if spoilt.num_rows:
            yield QUARANTINE, spoilt


def packed(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table([column_of(values, each.type) for values, each in zip(columns, schema, strict=True)], schema)


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values as a column; those of a decimal are in units of its last digit."""
    if not pa.types.is_decimal(kind):
        return pa.array(values, pa.int64()).view(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
    whole = pa.array(values, pa.int64())
    low = whole.fill_null(0).to_numpy()
    words = np.column_stack([low, low >> 63]).astype("<i8")  # a decimal is two words, the low one and the sign
    return pa.Array.from_buffers(kind, len(whole), [whole.buffers()[0], pa.py_buffer(words)])
