"""What Beam shuffles: Arrow tables, small ones as bytes, large ones as files of which only the name travels.

A runner may keep a shuffle in memory (the DirectRunner does, several times over); files keep that small.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

import apache_beam as beam
import pyarrow as pa

# Bytes from which on a table goes to a file. Values travel through the DirectRunner's channels, which are slow, and
# lost some of 2 GiB in parts of 160 KiB between two workers (Beam 2.61); names are few.
SPILL = 1 << 12
Part = bytes | str


def hand_over(table: pa.Table, folder: str) -> Part:
    """Return a table as an Arrow stream, or the name of a file in `folder` that holds it."""
    if table.nbytes < SPILL:
        sink = pa.BufferOutputStream()
        write(table, sink)
        return bytes(sink.getvalue())
    path = f"{folder}/shuffle-{uuid.uuid4().hex}.arrow"
    write_file(table, path)
    return path


def write_file(table: pa.Table, path: str) -> None:
    """Write an Arrow stream to a file of any of Beam's filesystems."""
    with beam.io.filesystems.FileSystems.create(path, "application/octet-stream", "uncompressed") as file:
        write(table, file)


def write(table: pa.Table, sink: object) -> None:
    """Write an Arrow stream."""
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def take_over(parts: Iterable[Part]) -> pa.Table | None:
    """Return tables of one schema as one; None where there is none."""
    found = list(parts)
    return joined(found) if found else None


def joined(parts: Sequence[Part]) -> pa.Table:
    """Return one or more tables of one schema as one."""
    return pa.concat_tables([read(each) for each in parts])


def read(part: Part) -> pa.Table:
    """Read one part; a local file is mapped."""
    if isinstance(part, bytes):
        return pa.ipc.open_stream(part).read_all()
    if "://" not in part:
        with pa.memory_map(part) as file:
            return pa.ipc.open_stream(file).read_all()
    with beam.io.filesystems.FileSystems.open(part, "application/octet-stream", "uncompressed") as file:
        return pa.ipc.open_stream(file).read_all()
