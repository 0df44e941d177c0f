"""A set's events in order of arrival: numbered across all sources, and written as the stream reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unskew.backfill.events import floored_millis, judge, open_events
from unskew.backfill.frames import events_of
from unskew.pipelines.backends.sql import DUCKDB
from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan

Ints = NDArray[np.int64]
SEQUENCE = "_seq"


@dataclass(frozen=True)
class Log:
    """One source's events in order of arrival.

    Parameters
    ----------
    table
        (n,) raw rows: the source's columns and `_seq`, which ascends and is unique over all sources.
    ts, arrival
        (n,) instants in ms as the engines read them; of a quarantined row the event time is -1 and the arrival
        that of the row before, or of the first sound one.
    sound, late
        (n,) whether the row is not quarantined; whether it came too late for the stream.
    """

    source: SourcePlan
    table: pa.Table
    ts: Ints
    arrival: Ints
    sound: NDArray[np.bool_]
    late: NDArray[np.bool_]

    @property
    def seq(self) -> Ints:
        """(n,) the sequence numbers."""
        found: Ints = self.table[SEQUENCE].to_numpy()
        return found

    def rest(self, arrival: int) -> Log:
        """Return the rows from the first one on that arrived at or after an instant (ms)."""
        first = int(np.searchsorted(self.arrival, arrival))
        return Log(
            self.source,
            self.table.slice(first),
            self.ts[first:],
            self.arrival[first:],
            self.sound[first:],
            self.late[first:],
        )


def read_logs(plan: SetPlan, events: Any) -> dict[str, Log]:
    """Read the events of all sources and number them in order of arrival, ties by source, then by position.

    Parameters
    ----------
    events
        As `backfill` takes them.

    Raises
    ------
    InputError
        If events are missing or cannot be read.
    """
    given = {each.name: events_of(plan, events, each.name) for each in plan.sources}
    logs = [judged_log(each, given[each.name]) for each in plan.sources]
    owner = np.repeat(np.arange(len(logs)), [len(each.ts) for each in logs])
    order = np.lexsort((owner, np.concatenate([each.arrival for each in logs])))  # stable: then by position
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return {each.source.name: numbered(each, number[owner == index]) for index, each in enumerate(logs)}


def logs_of(plan: SetPlan, events: Mapping[str, pa.Table]) -> dict[str, Log]:
    """Return the logs of events that are numbered already, each source's in a table with `_seq`."""
    return {
        each.name: numbered(judged_log(each, events[each.name]), events[each.name][SEQUENCE].to_numpy())
        for each in plan.sources
    }


def judged_log(source: SourcePlan, events: Any) -> Log:
    """Read one source's rows, judged as the engines judge them, in the order of the input."""
    names = [each.name for each in source.columns]
    table = pa.concat_tables([each.read(names) for each in open_events(source, events)]).combine_chunks()
    ts = DUCKDB.identifier(source.event_time)
    with judge(source, table, 0) as connection:
        found = connection.sql(
            f"SELECT CASE WHEN __reason IS NULL THEN {ts} ELSE -1 END AS ts, __arrival AS arrival, "
            "__reason IS NULL AS sound, __late AS late FROM judged ORDER BY __position"
        ).to_arrow_table()
    sound = found["sound"].to_numpy().astype(np.bool_)
    arrival = found["arrival"].fill_null(0).to_numpy().astype(np.int64)
    first = int(sound.argmax()) if len(sound) else 0
    before = np.maximum.accumulate(np.where(sound, np.arange(len(sound)), first))
    return Log(source, table, found["ts"].to_numpy(), arrival[before], sound, found["late"].to_numpy().astype(np.bool_))


def numbered(log: Log, number: Ints) -> Log:
    """Return the log with its rows in the order of their numbers."""
    order = np.argsort(number)
    table = log.table.append_column(SEQUENCE, pa.array(number)).take(pa.array(order))
    return Log(log.source, table, log.ts[order], log.arrival[order], log.sound[order], log.late[order])


def write_lines(log: Log, path: Path) -> None:
    """Write the rows as JSON lines that the stream judges alike.

    A sound value is written as the engines understood it (a float for a decimal may carry rounding noise in
    Parquet, but not in JSON); a quarantined row keeps what it held.
    """
    items = [f"'\"{SEQUENCE}\":' || {SEQUENCE}"]
    for each in log.source.columns:
        items.append(f"'\"{each.name}\":' || {json_text(each, log.table.schema.field(each.name).type)}")
    line = " || ',' || ".join(items)
    with judge(log.source, log.table, 0) as connection, path.open("wb") as out:
        connection.execute("SET preserve_insertion_order = true")
        query = f"SELECT '{{' || {line} || '}}' || chr(10) AS line FROM judged AS j POSITIONAL JOIN batch AS b"
        for batch in connection.sql(query).to_arrow_reader(1 << 16):
            lines = batch["line"].cast(pa.large_string())
            bounds = np.frombuffer(lines.buffers()[1], np.int64)[lines.offset : lines.offset + len(lines) + 1]
            out.write(memoryview(lines.buffers()[2])[int(bounds[0]) : int(bounds[-1])])


def json_text(column: ColumnPlan, found: pa.DataType) -> str:
    """Return SQL for a value's JSON text."""
    name = DUCKDB.identifier(column.name)
    raw, value = f"b.{name}", f"j.{name}"
    kind = column.type.kind
    if kind == "string" or pa.types.is_null(found):
        return f"coalesce(CAST(to_json({raw}) AS VARCHAR), 'null')"
    if kind == "bool":
        return f"coalesce(CASE WHEN j.__reason IS NULL THEN CAST({value} AS VARCHAR) ELSE CAST({raw} AS VARCHAR) END, 'null')"
    if pa.types.is_floating(found):
        raw = f"CASE WHEN isfinite({raw}) THEN CAST(CAST({raw} AS DOUBLE) AS VARCHAR) END"
        if kind == "float":
            return f"coalesce({raw}, 'null')"
    if pa.types.is_timestamp(found):
        raw = floored_millis(raw, found.unit)
    sound = f"CAST({value} AS VARCHAR)"
    if kind == "decimal":
        digits = len(str(column.type.units)) - 1
        sound = decimal_text(value, digits) if digits else f"CAST({value} AS VARCHAR)"
    return f"coalesce(CASE WHEN j.__reason IS NULL THEN {sound} ELSE CAST({raw} AS VARCHAR) END, 'null')"


def decimal_text(value: str, digits: int) -> str:
    """Return an unscaled integer as a decimal's text."""
    text = f"CAST(abs({value}) AS VARCHAR)"
    size = f"greatest(length({text}), {digits + 1})"
    padded = f"lpad({text}, CAST({size} AS INTEGER), '0')"
    sign = f"CASE WHEN {value} < 0 THEN '-' ELSE '' END"
    return f"({sign} || left({padded}, {size} - {digits}) || '.' || right({padded}, {digits}))"
