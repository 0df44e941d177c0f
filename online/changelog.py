"""Reads what a job wrote: folders of CSV, one part after the other, in the order of the log."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from unskew.pipelines.backends.flink_streams import NULL, Stream

ARROW_TYPES = {"BIGINT": pa.int64(), "STRING": pa.string(), "BOOLEAN": pa.bool_(), "BYTES": pa.string()}
BLOCK = 32 << 20  # bytes that are parsed at once; longer than any line


def visible(folder: Path) -> list[Path]:
    """Return the files of a folder that Flink reads: neither they nor their folders are hidden."""
    found = (each for each in folder.rglob("*") if each.is_file())
    return sorted(
        each for each in found if not any(part.startswith((".", "_")) for part in each.relative_to(folder).parts)
    )


def parts(folder: Path) -> list[Path]:
    """Return the parts that count, in the order in which they were written.

    A part is named ``part-<attempt>-<subtask>-<number>``; a resumed job is another attempt that goes on with the
    numbers of its checkpoint. What an earlier attempt wrote from that number on is written again, and does not count.
    """
    attempts: dict[str, list[tuple[int, Path]]] = {}
    for path in visible(folder):
        attempt, _, number = path.name.rsplit("-", 2)
        attempts.setdefault(attempt, []).append((int(number), path))
    kept: list[tuple[int, Path]] = []
    for own in sorted(attempts.values(), key=lambda each: min(path.stat().st_mtime_ns for _, path in each)):
        first = min(number for number, _ in own)
        kept = [each for each in kept if each[0] < first] + sorted(own)
    return [path for _, path in kept]


def read_changelog(folder: str | Path, stream: Stream, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a stream's rows, in the order in which the job wrote them.

    Parameters
    ----------
    folder
        Output folder of a run.
    stream
        One of the job's streams.
    columns
        Names of those to read; all where it is None.

    Returns
    -------
    pyarrow.Table
        int64, string, bool and binary columns; no rows where the job wrote none.
    """
    wanted = [(name, kind) for name, kind in stream.columns if columns is None or name in columns]
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in wanted])
    found = [read_part(each, stream, schema) for each in parts(Path(folder) / stream.name)]
    table = pa.concat_tables([schema.empty_table(), *found])
    for index, (name, kind) in enumerate(wanted):
        if kind == "BYTES":
            raw = [None if each is None else base64.b64decode(each) for each in table[name].to_pylist()]
            table = table.set_column(index, name, pa.array(raw, pa.binary()))
    return table


def read_part(path: Path, stream: Stream, schema: pa.Schema) -> pa.Table:
    """Read one part."""
    return schema.empty_table() if path.stat().st_size == 0 else parse(path, stream, schema)


def read_messages(values: Sequence[bytes], stream: Stream) -> pa.Table:
    """Read rows of a stream that came as messages, each one row behind the stream's number and a comma."""
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in stream.columns])
    return parse(pa.BufferReader(b"\n".join(values)), stream, schema, ("",)) if values else schema.empty_table()


def parse(source: Any, stream: Stream, schema: pa.Schema, before: tuple[str, ...] = ()) -> pa.Table:
    """Parse CSV; a null is bare, the string that looks like it is quoted.

    Parameters
    ----------
    before
        Names of columns before the stream's own.
    """
    texts = any(kind == "STRING" for _, kind in stream.columns)
    return csv.read_csv(
        source,
        read_options=csv.ReadOptions(
            column_names=[*before, *(name for name, _ in stream.columns)], block_size=BLOCK, use_threads=not before
        ),
        parse_options=csv.ParseOptions(newlines_in_values=texts),
        convert_options=csv.ConvertOptions(
            column_types={each.name: each.type for each in schema},
            include_columns=schema.names,
            null_values=[NULL],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def final_rows(folder: Path, stream: Stream) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the last row of each key."""
    rows = read_changelog(folder, stream).to_pylist()
    return {tuple(row[each] for each in stream.key): row for row in rows}
