"""What Beam shuffles: names of Arrow tables in files; the rows never travel through a runner's channels.

A runner may keep a shuffle in memory (the DirectRunner does, several times over), and Beam 2.61's lost some of 2 GiB of
values between two workers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import apache_beam as beam
import pyarrow as pa

Part = tuple[str, int, int]  # file, offset, bytes
Key = TypeVar("Key")


def hand_over(tables: Iterable[tuple[Key, pa.Table]], folder: str) -> Iterator[tuple[Key, Part, int]]:
    """Write tables to one file of any of Beam's filesystems; yield each one's key, part, and number of rows."""
    path, offset = f"{folder}/shuffle-{uuid.uuid4().hex}.arrow", 0
    with beam.io.filesystems.FileSystems.create(path, "application/octet-stream", "uncompressed") as file:
        for key, table in tables:
            stream = as_stream(table)
            file.write(stream)
            yield key, (path, offset, stream.size), table.num_rows
            offset += stream.size


def as_stream(table: pa.Table) -> pa.Buffer:
    """Return a table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def take_over(parts: Iterable[Part]) -> pa.Table | None:
    """Return tables of one schema as one; None where there is none."""
    found = list(parts)
    return joined(found) if found else None


def joined(parts: Sequence[Part]) -> pa.Table:
    """Return one or more tables of one schema as one."""
    return pa.concat_tables([read(each) for each in parts])


def read(part: Part) -> pa.Table:
    """Read one part; a local file is mapped."""
    path, offset, size = part
    if "://" not in path:
        with pa.memory_map(path) as file:
            file.seek(offset)
            return pa.ipc.open_stream(file).read_all()
    with beam.io.filesystems.FileSystems.open(path, "application/octet-stream", "uncompressed") as file:
        file.seek(offset)
        return pa.ipc.open_stream(file.read(size)).read_all()
