"""Parquet files without some of their rows: the same schema, metadata, row groups and compression."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unskew.pipelines.durable import aside
from unskew.pipelines.errors import InputError

UNCOMPRESSED = {"UNCOMPRESSED": "none"}
DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
Which = Callable[[pa.Table], pa.Array]  # (n,) whether each row is to go


def write_without(path: Path, which: Which) -> None:
    """Write a file's other rows beside it; `swap` lets them take its place.

    A row group without rows is left out, but for one where no row is left.

    Raises
    ------
    InputError
        If pyarrow cannot write such a file.
    """
    with pq.ParquetFile(path) as file:
        schema, options = file.schema_arrow, writer_options(file, path)
        with pq.ParquetWriter(aside(path), schema, **options) as writer:
            rows = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                kept = encoded_anew(table.filter(pc.invert(which(table))))
                last = group == file.num_row_groups - 1
                if kept.num_rows or (last and not rows):
                    writer.write_table(kept, row_group_size=max(kept.num_rows, 1))
                rows += kept.num_rows


def count_rows(path: Path, columns: Callable[[pa.Schema], list[str]], which: Which) -> int:
    """Return how many rows of a file are to go, by some of its columns.

    Raises
    ------
    InputError
        If there are any, and pyarrow cannot write the file again.
    """
    with pq.ParquetFile(path) as file:
        read = columns(file.schema_arrow)
        groups = (file.read_row_group(each, columns=read) for each in range(file.num_row_groups))
        found = sum(int(which(each).true_count) for each in groups)
        if found:
            writer_options(file, path)
        return found


def encoded_anew(table: pa.Table) -> pa.Table:
    """Return a table whose dictionaries hold only values that a row has: they are written as they are."""
    fields = [each.with_type(without_dictionaries(each.type)) for each in table.schema]
    bare = pa.schema(fields, metadata=table.schema.metadata)
    return table if bare.equals(table.schema) else table.cast(bare).cast(table.schema)


def without_dictionaries(kind: pa.DataType) -> pa.DataType:
    """Return a type with values in place of dictionaries, also in structs and lists."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(without_dictionaries(each.type)) for each in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(without_dictionaries(kind.value_type)))
    return kind


def writer_options(file: pq.ParquetFile, path: Path) -> dict[str, Any]:
    """Return how to write a file with the layout of another.

    Raises
    ------
    InputError
        If none of the ways to write it gives the types that it has.
    """
    options = column_options(file)
    alike = None
    versions = dict.fromkeys((file.metadata.format_version, "2.6"))
    for version, compliant, int96 in product(versions, (True, False), (False, True)):
        tried = options | {
            "version": version, "use_compliant_nested_type": compliant, "use_deprecated_int96_timestamps": int96,
        }  # fmt: skip
        with pq.ParquetFile(written_empty(file.schema_arrow, tried)) as new:
            if new.schema.equals(file.schema):
                return tried
            if alike is None and new.schema_arrow.equals(file.schema_arrow, check_metadata=True):
                alike = tried
    if alike is None:  # a physical type may differ (decimals), what is read may not
        message = f"file `{path}` has types that cannot be written as they are; write it anew with pyarrow, or as plain columns"
        raise InputError(message)
    return alike


def column_options(file: pq.ParquetFile) -> dict[str, Any]:
    """Return compression, dictionaries, statistics and order of the first row group's columns."""
    options: dict[str, Any] = {"store_schema": file.metadata.metadata is not None}
    if not file.num_row_groups:
        return options
    group = file.metadata.row_group(0)
    columns = [group.column(each) for each in range(group.num_columns)]
    codecs = {each.path_in_schema: UNCOMPRESSED.get(each.compression, each.compression) for each in columns}
    coded = [each.path_in_schema for each in columns if DICTIONARIES & set(each.encodings)]
    counted = [each.path_in_schema for each in columns if each.is_stats_set]
    return options | {
        "compression": codecs,
        "use_dictionary": coded or False,
        "write_statistics": counted or False,
        "sorting_columns": group.sorting_columns or None,
        "write_page_index": any(each.has_offset_index for each in columns),
    }


def written_empty(schema: pa.Schema, options: dict[str, Any]) -> io.BytesIO:
    """Return a file without rows."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, **options):
        pass
    sink.seek(0)
    return sink
