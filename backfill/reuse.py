"""What an earlier training set of the same rows, events and rules already holds: only the rest is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.frames import as_table, parquet_files
from unskew.pipelines.archive import read_current
from unskew.pipelines.errors import InputError
from unskew.pipelines.manifest import MANIFEST
from unskew.pipelines.plan import SetPlan

ROWS_AT_ONCE = 1 << 18
FOOTER = 8  # bytes: the length of a Parquet file's footer and its magic


@dataclass(frozen=True)
class Reused:
    """Features that an earlier training set holds.

    Parameters
    ----------
    parts
        Files of the earlier training set; none where nothing is taken over.
    columns
        Its column of each feature that is taken over.
    account
        Its account by source.
    """

    parts: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    account: Mapping[str, dict[str, int]] = field(default_factory=dict)


class Digest:
    """A file that keeps nothing but the digest of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self.hash.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing."""


def table_digest(table: pa.Table) -> str:
    """Return the digest of a table's content, however it is cut into chunks."""
    sink = Digest()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        for start in range(0, table.num_rows, ROWS_AT_ONCE):
            writer.write_table(table.slice(start, ROWS_AT_ONCE).combine_chunks())
    return sink.hash.hexdigest()


def events_digest(events: Any) -> str:
    """Return the digest of a table of events, or of names, sizes, times and footers of Parquet files."""
    if not isinstance(events, str | Path):
        return table_digest(as_table(events))
    found = hashlib.blake2b(digest_size=16)
    for path in parquet_files(Path(events)):
        found.update(path.name.encode() + b"\0" + read_current(path, size_and_footer))
    return found.hexdigest()


def size_and_footer(path: Path) -> bytes:
    """Return a Parquet file's size, time and footer."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - FOOTER, 0))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(size - FOOTER - length, 0))
        return f"{size}\0{path.stat().st_mtime_ns}\0".encode() + file.read()


def reused(plan: SetPlan, folder: str | Path, inputs: Mapping[str, Any], rows: Sequence[int]) -> Reused:
    """Return what a training set holds of a plan's features.

    Parameters
    ----------
    inputs
        Digests of spine and events, and how the features are to be computed.
    rows
        Number of rows of each part.

    Raises
    ------
    InputError
        If the folder is no training set, or one of other rows, events or rules.
    """
    try:
        manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
        given, prints, account = manifest["inputs"], manifest["fingerprints"], manifest["account"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"folder `{folder}` is no training set that can be reused: its {MANIFEST} cannot be read ({error})"
        raise InputError(message) from error
    unlike = [each for each in inputs if each != "events" and given.get(each) != inputs[each]]
    unlike += [
        f"events of `{name}`"
        for name, each in inputs["events"].items()
        if given["events"].get(name) not in (None, each)
    ]
    if unlike:
        message = f"training set `{folder}` is of another {' and '.join(unlike)}; compute it without reuse"
        raise InputError(message)
    parts = sorted(Path(folder).glob("part-*.parquet"))
    if [pq.read_metadata(each).num_rows for each in parts] != list(rows):
        message = f"training set `{folder}` has other parts than it was written with; compute it without reuse"
        raise InputError(message)
    names = {each: name for name, each in prints.items()}
    columns = {name: names[each.fingerprint] for name, each in plan.features().items() if each.fingerprint in names}
    return Reused(tuple(str(each) for each in parts), columns, account)
