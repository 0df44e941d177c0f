"""The spine: rows to compute features at, staged to an Arrow file so that no step holds all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unskew.backfill.events import encode_columns, encoded, read_arrow
from unskew.backfill.frames import as_table, check_once, parquet_files, plain
from unskew.pipelines.backends.beam_sql import ROWS_PER_BLOCK
from unskew.pipelines.errors import InputError, nearest, same_but_for_case
from unskew.pipelines.plan import ColumnPlan, SetPlan
from unskew.pipelines.types import INT64_MAX, INT64_MIN, Timestamp

ROWS_PER_SLICE = 1 << 19


def stage_spine(plan: SetPlan, spine: Any, t: str, path: Path) -> pa.Table:
    """Write the spine to an Arrow file, `ROWS_PER_BLOCK` rows in a batch, and return it, mapped.

    Raises
    ------
    InputError
        If it cannot be read, or lacks what the set needs.
    """
    if isinstance(spine, str | Path):
        write_files(Path(spine), path)
    else:
        given = as_table(spine)
        try:
            given = given.unify_dictionaries()
            write_blocks(iter(given.to_batches()), given.schema, path)
        except (pa.ArrowException, TypeError) as error:
            message = f"the spine has columns that cannot be kept: {str(error).splitlines()[0]}; drop or cast them"
            raise InputError(message) from error
    table = read_arrow(str(path))
    check_spine(plan, table, t)
    return table


def write_files(source: Path, path: Path) -> None:
    """Write Parquet files to one Arrow file, some rows at a time; dictionaries, which differ, as their values."""
    files = parquet_files(source)
    try:
        schema = one_schema(files)
        batches = (batch for file in files for batch in pq.ParquetFile(file).iter_batches(ROWS_PER_BLOCK))
        tables = (pa.Table.from_batches([batch]).cast(schema) for batch in batches)
        write_blocks((batch for each in tables for batch in each.to_batches()), schema, path)
    except (pa.ArrowException, OSError) as error:
        message = (
            f"spine `{source}` cannot be read: {str(error).splitlines()[0]}; give Parquet files of the same columns"
        )
        raise InputError(message) from error


def one_schema(files: Sequence[Path]) -> pa.Schema:
    """Return the schema that all files have, dictionaries as their values, with the metadata of the first.

    Raises
    ------
    InputError
        If files have different columns or types: a cast could change a value.
    """
    first = pq.read_schema(files[0])
    schema = pa.schema([decoded(each) for each in first], first.metadata)
    for each in files[1:]:
        other = pa.schema([decoded(field) for field in pq.read_schema(each)])
        if not other.equals(schema):
            unlike = sorted(set(other.names) ^ set(schema.names)) or [
                name
                for name in schema.names
                if other.names.count(name) == 1 and other.field(name) != schema.field(name)
            ]
            where = f": column `{unlike[0]}`" if unlike else ", or in another order"
            message = f"file `{each}` of the spine has other columns than `{files[0]}`{where}; write them alike"
            raise InputError(message)
    return schema


def decoded(field: pa.Field) -> pa.Field:
    """Return a field of a dictionary's values instead of the dictionary."""
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def write_blocks(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write rows in batches of `ROWS_PER_BLOCK`, the last with what is left."""
    with pa.ipc.new_file(str(path), schema) as writer:
        held, written = schema.empty_table(), 0
        for batch in batches:
            held = pa.concat_tables([held, pa.Table.from_batches([batch], schema)])
            while held.num_rows >= ROWS_PER_BLOCK:
                writer.write_table(held.slice(0, ROWS_PER_BLOCK).combine_chunks())
                held, written = held.slice(ROWS_PER_BLOCK), written + 1
        if held.num_rows:
            writer.write_table(held.combine_chunks())
        elif not written:  # a table without rows would write no batch
            writer.write_batch(pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema))


def require_writable(schema: pa.Schema) -> None:
    """Refuse columns that a training set in Parquet cannot hold.

    Raises
    ------
    InputError
        If a column's type has no form in Parquet, or a name stands twice.
    """
    check_once(schema, schema.names, "the spine")
    for each in schema:
        try:
            with pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([each])):
                pass
        except (pa.ArrowException, TypeError) as error:
            message = (
                f"column `{each.name}` of the spine is `{each.type}`, which Parquet does not hold; drop or cast it"
            )
            raise InputError(message) from error


def check_spine(plan: SetPlan, table: pa.Table, t: str) -> None:
    """Refuse a spine without the columns that the set needs, or with a value that their types refuse."""
    wanted = [each.name for each in spine_columns(plan, t)]
    check_once(table.schema, wanted, "the spine")
    alike = same_but_for_case(wanted)
    if alike is not None:
        message = f"columns `{alike[0]}` and `{alike[1]}` of the spine differ in case only; name the instant otherwise"
        raise InputError(message)
    for each in spine_columns(plan, t):
        if each.name not in table.column_names:
            message = f"column `{each.name}` is missing in the spine; {nearest(each.name, table.column_names)}"
            raise InputError(message)
        found = table.schema.field(each.name).type
        if encoded(each, found) is None:
            message = f"column `{each.name}` of the spine is `{found}`, which is never `{each.type}`; cast it"
            raise InputError(message)
    made = {*plan.features(), *(each.name for each in plan.derived)}
    taken = [each for each in table.column_names if each in made]
    if taken:
        message = f"column `{taken[0]}` of the spine has the name of a feature; rename it"
        raise InputError(message)
    if table[t].null_count:
        message = f"column `{t}` of the spine has {table[t].null_count} null(s); every row needs an instant"
        raise InputError(message)
    check_values(plan, table, t)


def spine_columns(plan: SetPlan, t: str) -> list[ColumnPlan]:
    """Return the instant, all keys and the request's columns, each once."""
    found = {each.name: each for each in [ColumnPlan(t, Timestamp), *plan.spine_keys().values(), *plan.request]}
    return list(found.values())


def check_values(plan: SetPlan, table: pa.Table, t: str) -> None:
    """Refuse a key, an instant or a request value that its type does not take."""
    refused = []
    for each in spine_columns(plan, t):
        value, wrong = encoded(each, table.schema.field(each.name).type) or ("NULL", "TRUE")
        if each.type.kind not in ("string", "bool"):
            lo = INT64_MIN if each.type.lo is None else each.type.lo
            hi = INT64_MAX if each.type.hi is None else each.type.hi
            wrong = f"{wrong} OR {value} NOT BETWEEN {lo} AND {hi}"
        refused.append(f"count(*) FILTER (coalesce({wrong}, FALSE))")
    columns = spine_columns(plan, t)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("spine", plain(table.select([each.name for each in columns])))
        (counts,) = connection.sql(f"SELECT {', '.join(refused)} FROM spine").fetchall()
    for each, count in zip(columns, counts, strict=True):
        if count:
            message = f"column `{each.name}` of the spine has {count} value(s) that `{each.type}` does not take"
            raise InputError(message)


def spine_slices(plan: SetPlan, table: pa.Table, t: str, asof: str) -> Iterator[pa.Table]:
    """Yield keys, instants, what is known and row numbers, in slices for the workers."""
    if asof not in table.column_names:
        message = f"column `{asof}` is missing in the spine; it is the last position that each row may know"
        raise InputError(message)
    keys = list(plan.spine_keys())
    for start in range(0, max(table.num_rows, 1), ROWS_PER_SLICE):
        given = table.slice(start, ROWS_PER_SLICE)
        coded = encode_columns(given, [*plan.spine_keys().values(), ColumnPlan(t, Timestamp)])
        known = coded[t] if asof == t else given[asof].cast(pa.int64())
        rows = pa.array(np.arange(start, start + given.num_rows, dtype=np.int64))
        yield pa.table([*(coded[each] for each in keys), coded[t], known, rows], [*keys, "__t", "__asof", "__row"])


def earliest(instants: pa.ChunkedArray) -> int | None:
    """Return the smallest instant in ms, floored; None where there is none, or the type tells no unit."""
    kind = instants.type
    if not len(instants) or not (pa.types.is_timestamp(kind) or pa.types.is_integer(kind)):
        return None
    raw = int(pc.min(instants.cast(pa.int64())).as_py())
    unit = kind.unit if pa.types.is_timestamp(kind) else "ms"
    return raw * 1_000 if unit == "s" else raw // {"ms": 1, "us": 1_000, "ns": 1_000_000}[unit]


def block_sizes(rows: int) -> list[int]:
    """Return the rows of each block; an empty spine has one of none."""
    return [min(ROWS_PER_BLOCK, rows - first) for first in range(0, max(rows, 1), ROWS_PER_BLOCK)]
