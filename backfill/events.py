"""Events as they are read: typed, encoded, judged. One DuckDB query per batch of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.aliases import Aliases, as_declared, carried_type, carriers
from unskew.backfill.frames import as_table, check_once, parquet_files, plain
from unskew.backfill.place import Place, parquet_file, reading
from unskew.pipelines.archive import read_current
from unskew.pipelines.backends.sql import DUCKDB
from unskew.pipelines.encoding import FLOAT_NOISE
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.folders import readable
from unskew.pipelines.plan import ColumnPlan, SourcePlan
from unskew.pipelines.types import INT64_MAX, INT64_MIN

ROWS_PER_BATCH = 1 << 19
PER_MILLISECOND = {"milliseconds": 1, "microseconds": 1_000, "nanoseconds": 1_000_000}
MAX_SCALE = 18  # digits after the point of a decimal that DuckDB computes with


@dataclass(frozen=True)
class Piece:
    """A part of a source's events that one worker reads: a table, an Arrow file, or row groups of a Parquet file.

    Parameters
    ----------
    first
        Arrival position of its first row within the source.
    aliases
        Other names of the source's columns.
    """

    source: str
    first: int
    table: pa.Table | None = None
    path: str = ""
    groups: tuple[int, ...] = ()
    aliases: Aliases = field(default_factory=dict)

    def rows(self) -> int:
        """Return how many rows it has."""
        if self.table is not None:
            return int(self.table.num_rows)
        metadata = read_current(Path(self.path), pq.read_metadata)
        return sum(metadata.row_group(each).num_rows for each in self.groups)

    def read(self, columns: list[str]) -> pa.Table:
        """Return the rows, only the columns asked for, under their declared names."""
        if self.table is not None:
            return as_declared(self.table, columns, self.aliases)
        if not self.groups:
            return as_declared(read_arrow(self.path), columns, self.aliases)
        file = parquet_file(self.path)
        paths = [path for each in columns for path in carriers(file.schema_arrow, each, self.aliases)]
        return as_declared(file.read_row_groups(list(self.groups), columns=paths), columns, self.aliases)


def write_arrow(table: pa.Table, place: Place, name: str) -> str:
    """Write a table as an uncompressed Arrow file, for workers to map; return where they find it."""
    with pa.ipc.new_file(str(place.own / name), table.schema) as writer:
        writer.write_table(table)
    return place.put(name)


def read_arrow(path: str) -> pa.Table:
    """Read an Arrow file; a local one is mapped."""
    with reading(path) as source:
        return pa.ipc.open_file(source).read_all()


def read_batch(path: str, number: int) -> pa.Table:
    """Read one batch of an Arrow file; a local one is mapped."""
    with reading(path) as source:
        return pa.Table.from_batches([pa.ipc.open_file(source).get_batch(number)])


def staged(pieces: Sequence[Piece], place: Place) -> list[Piece]:
    """Let workers have the pieces: tables as files, for Beam would pickle and compress them into its graph."""
    lent = place.lend(dict.fromkeys(each.path for each in pieces if each.table is None))
    found = []
    for number, each in enumerate(pieces):
        if each.table is not None:
            path = write_arrow(each.table, place, f"events-{number:06d}.arrow")
            found.append(replace(each, table=None, path=path))
        else:
            found.append(replace(each, path=lent[each.path]))
    return found


def open_events(source: SourcePlan, events: object) -> list[Piece]:
    """Cut the events of a source into pieces, after a check of its columns.

    Raises
    ------
    InputError
        If a path is missing, a file is no Parquet, or a column is missing or of a type that never fits.
    """
    if isinstance(events, str | Path):
        return [piece for path, first in with_positions(Path(events)) for piece in file_pieces(source, path, first)]
    table = as_table(events)
    check_columns(source, table.schema, "the table of events")
    starts = range(0, max(table.num_rows, 1), ROWS_PER_BATCH)
    return [
        Piece(source.name, start, table.slice(start, ROWS_PER_BATCH), aliases=dict(source.aliases)) for start in starts
    ]


def with_positions(path: Path) -> list[tuple[Path, int]]:
    """Return each file with the position of its first row."""
    found, first = [], 0
    for each in parquet_files(path):
        found.append((each, first))
        first += readable(each, lambda own: read_current(own, pq.read_metadata)).num_rows
    return found


def file_pieces(source: SourcePlan, path: Path, first: int) -> list[Piece]:
    """Group a file's row groups to pieces of about `ROWS_PER_BATCH` rows."""
    file = read_current(path, pq.ParquetFile)
    check_columns(source, file.schema_arrow, f"file `{path}`")
    pieces: list[Piece] = []
    groups: list[int] = []
    rows = 0
    for index in range(file.num_row_groups):
        groups.append(index)
        rows += file.metadata.row_group(index).num_rows
        if rows >= ROWS_PER_BATCH or index == file.num_row_groups - 1:
            pieces.append(Piece(source.name, first, None, str(path), tuple(groups), dict(source.aliases)))
            groups, first, rows = [], first + rows, 0
    return pieces


def reaching(source: SourcePlan, pieces: Sequence[Piece], since: int) -> list[Piece]:
    """Leave out row groups of files whose event times are all before an instant (ms), by the files' statistics."""
    found: list[Piece] = []
    for piece in pieces:
        if not piece.groups:
            found.append(piece)
            continue
        metadata, first = read_current(Path(piece.path), pq.read_metadata), piece.first
        carried = carriers(metadata.schema.to_arrow_schema(), source.event_time, piece.aliases)
        if len(carried) > 1:  # the statistics of one say nothing of the other
            found.append(piece)
            continue
        groups: list[int] = []
        for index in piece.groups:
            rows = metadata.row_group(index).num_rows
            if ends_before(metadata, index, carried[0], since):
                if groups:
                    found.append(replace(piece, groups=tuple(groups)))
                groups, piece = [], replace(piece, first=first + rows)  # noqa: PLW2901 - the rest of the piece
            else:
                groups.append(index)
            first += rows
        if groups:
            found.append(replace(piece, groups=tuple(groups)))
    return found


def ends_before(metadata: pq.FileMetaData, group: int, event_time: str, since: int) -> bool:
    """Return whether a row group's statistics say that all its event times are before an instant, ms."""
    columns = metadata.row_group(group)
    found = next(
        (columns.column(at) for at in range(columns.num_columns) if columns.column(at).path_in_schema == event_time),
        None,
    )
    if found is None or found.physical_type != "INT64" or found.statistics is None or not found.statistics.has_min_max:
        return False
    logical = json.loads(found.statistics.logical_type.to_json())
    step = PER_MILLISECOND.get(logical.get("timeUnit", "milliseconds"))
    return step is not None and int(found.statistics.max_raw) // step < since


def check_columns(source: SourcePlan, schema: pa.Schema, where: str) -> None:
    """Refuse a missing or repeated column and a physical type that never fits the declared one."""
    aliases = dict(source.aliases)
    paths = [each for column in source.columns for each in (column.name, *aliases.get(column.name, ()))]
    check_once(schema, [each.split(".")[0] for each in paths], where)
    for column in source.columns:
        found = carried_type(schema, column.name, aliases, where)
        if found is None:
            also = "".join(f" and `{each}`" for each in aliases.get(column.name, ()))
            message = f"column `{column.name}`{also} is missing in {where}; {nearest(column.name, schema.names)}"
            raise InputError(message)
        if encoded(column, found) is None:
            message = f"column `{column.name}` of {where} is `{found}`, which is never `{column.type}`; cast it"
            raise InputError(message)


def encoded(column: ColumnPlan, found: pa.DataType) -> tuple[str, str] | None:
    """Return SQL for the encoded value and for whether its type is wrong; None where no value fits.

    A value out of int64 becomes null in the first and is told apart by the caller.
    """
    name, units = DUCKDB.identifier(column.name), column.type.units
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_null(found):
        return f"CAST(NULL AS {DUCKDB.types.get(column.type.kind, 'HUGEINT')})", "FALSE"
    if pa.types.is_float16(found):  # DuckDB reads none
        return None
    whole = pa.types.is_integer(found)
    kind = column.type.kind
    if kind == "string" and (pa.types.is_string(found) or pa.types.is_large_string(found)):
        return name, "FALSE"
    if kind == "bool" and pa.types.is_boolean(found):
        return name, "FALSE"
    if kind == "bool" and whole:
        return f"({name} = 1)", f"({name} NOT IN (0, 1))"
    if kind == "timestamp" and pa.types.is_timestamp(found):
        return floored_millis(name, found.unit), "FALSE"
    if kind in ("int", "timestamp") and whole:
        return f"CAST({name} AS HUGEINT)", "FALSE"
    if kind == "decimal":
        return encoded_decimal(name, units, found)
    if kind == "float" and (whole or pa.types.is_floating(found)):
        return encoded_float(f"CAST({name} AS DOUBLE)", column.type.quantum), "FALSE"
    return None


def encode_columns(table: pa.Table, columns: Sequence[ColumnPlan]) -> pa.Table:
    """Return columns of rows that were checked, encoded (BIGINT, VARCHAR, BOOLEAN)."""
    selected = []
    for each in columns:
        value, _ = encoded(each, table.schema.field(each.name).type) or ("NULL", "TRUE")
        kind = DUCKDB.types.get(each.type.kind, "BIGINT")
        selected.append(f"CAST({value} AS {kind}) AS {DUCKDB.identifier(each.name)}")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", plain(table.select(list(dict.fromkeys(each.name for each in columns)))))
        return connection.sql(f"SELECT {', '.join(selected)} FROM given").to_arrow_table()


def floored_millis(name: str, unit: str) -> str:
    """Return milliseconds since the epoch of a count of units, floored (also before 1970)."""
    if unit in ("s", "ms"):
        return f"CAST({name} AS HUGEINT) * {1_000 if unit == 's' else 1}"
    step = 1_000 if unit == "us" else 1_000_000
    return f"CAST({name} // {step} - CASE WHEN {name} % {step} < 0 THEN 1 ELSE 0 END AS HUGEINT)"


def encoded_decimal(name: str, units: int, found: pa.DataType) -> tuple[str, str] | None:
    """Return a decimal times its units; one with a digit too many has a wrong type."""
    if pa.types.is_integer(found):
        return f"CAST({name} AS HUGEINT) * {units}", "FALSE"
    if pa.types.is_decimal128(found) and 0 <= found.scale <= MAX_SCALE:
        scale = 10**found.scale
        raw = f"TRY(CAST({name} * CAST({scale} AS DECIMAL(38, 0)) AS HUGEINT))"
        known = f"CASE WHEN {raw} IS NOT NULL THEN %s WHEN {name} IS NOT NULL THEN {2**100} END"
        if scale <= units:
            return known % f"TRY({raw} * {units // scale})", "FALSE"
        return known % f"{raw} // {scale // units}", f"({raw} % {scale // units} <> 0)"
    if pa.types.is_floating(found):
        value = finite(f"CAST({name} AS DOUBLE)")
        scaled = f"({value} * CAST({units} AS DOUBLE))"
        near = f"round({scaled})"
        safe = f"abs({value}) < 1e18"
        whole = f"CASE WHEN {safe} THEN CAST({near} AS HUGEINT) WHEN {value} IS NOT NULL THEN {2**100} END"
        nearest = f"{near} / CAST({units} AS DOUBLE) = {value}"
        return whole, f"({safe} AND abs({scaled} - {near}) > {FLOAT_NOISE} AND NOT {nearest})"
    return None


def finite(value: str) -> str:
    """Return null for NaN and infinities."""
    return f"CASE WHEN isfinite({value}) THEN {value} END"


def encoded_float(value: str, quantum: float) -> str:
    """Return ``floor(x / quantum + 0.5)``, null for NaN and infinities; past 1e30 it is out of range anyway."""
    steps = f"floor({finite(value)} / CAST({quantum!r} AS DOUBLE) + 0.5)"
    return f"CASE WHEN abs({steps}) < 1e30 THEN CAST({steps} AS HUGEINT) WHEN {finite(value)} IS NOT NULL THEN {2**100} END"


def judged_sql(source: SourcePlan, schema: pa.Schema, first: int, sequence: str = "") -> str:
    """Return a query that encodes a batch and judges each row.

    Its columns are the source's, encoded (BIGINT, VARCHAR, BOOLEAN), and ``__reason`` (null for a sound
    row), ``__arrival`` (ms), ``__late``, ``__position``, ``__sequence``: the column of that name, or the position.
    """
    raw, wrong, outside, out = [], [], [], []
    for column in source.columns:
        value, bad = encoded(column, schema.field(column.name).type) or ("NULL", "TRUE")
        name = DUCKDB.identifier(column.name)
        raw.append(f"{value} AS {name}")
        wrong.append(bad)
        if column.type.kind in ("string", "bool"):
            out.append(name)
            continue
        lo = INT64_MIN if column.type.lo is None else column.type.lo
        hi = INT64_MAX if column.type.hi is None else column.type.hi
        outside.append(f"({name} NOT BETWEEN {lo} AND {hi})")
        out.append(f"CASE WHEN {name} BETWEEN {INT64_MIN} AND {INT64_MAX} THEN CAST({name} AS BIGINT) END AS {name}")
    ts = DUCKDB.identifier(source.event_time)
    arrival = f"coalesce({DUCKDB.identifier(source.arrival)}, {ts})" if source.arrival else ts
    no_id = " OR ".join(f"{DUCKDB.identifier(each)} IS NULL" for each in source.event_id) or "FALSE"
    reason = (
        f"CASE WHEN {ts} IS NULL THEN 'null_event_time' WHEN __wrong THEN 'wrong_type' "
        f"WHEN {any_of(outside)} THEN 'out_of_range' WHEN {no_id} THEN 'null_event_id' "
        f"WHEN {ts} - {arrival} > {source.max_future_skew} THEN 'future' END"
    )
    position = f"row_number() OVER () - 1 + {first}"
    number = DUCKDB.identifier(sequence) if sequence else position
    inner = f"SELECT {', '.join(raw)}, {any_of(wrong)} AS __wrong, {position} AS __position, {number} AS __sequence FROM batch"
    judged = f"SELECT *, {reason} AS __reason, {arrival} AS __when FROM ({inner})"
    late = f"coalesce(__reason IS NULL AND __when - {ts} > {source.allowed_lateness}, FALSE)"
    sound = "CASE WHEN __reason IS NULL THEN CAST(__when AS BIGINT) END"
    return f"SELECT {', '.join(out)}, __reason, {sound} AS __arrival, {late} AS __late, __position, __sequence FROM ({judged})"


def any_of(conditions: list[str]) -> str:
    """Return whether one of the conditions is true; null counts as false."""
    return "(" + " OR ".join(f"coalesce({each}, FALSE)" for each in conditions) + ")" if conditions else "FALSE"


@contextmanager
def judge(source: SourcePlan, table: pa.Table, first: int, sequence: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """Encode and judge a table of raw rows: a connection with the table ``judged``."""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
        connection.register("batch", plain(table))
        connection.execute(f"CREATE TEMP TABLE judged AS {judged_sql(source, table.schema, first, sequence)}")
        yield connection
