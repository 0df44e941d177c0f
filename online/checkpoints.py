"""Checkpoints of a job: where they are, and whether one may be resumed."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from pathlib import Path

from unskew.pipelines.backends.flink import DOWNTIME
from unskew.pipelines.errors import InputError
from unskew.pipelines.timegrid import DAY

CHECKPOINTS = "_checkpoints"
NANOSECONDS = 1_000_000  # in a millisecond
NO_STOP = (-(2**63)).to_bytes(8, "big", signed=True)  # of a partition that is read for ever


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint or savepoint that is complete, if there is one: its metadata is written last.

    A job that runs may delete it at any time.
    """
    complete: dict[Path, int] = {}
    for path, _, files in os.walk(folder):  # passes over folders that vanish meanwhile
        if "_metadata" in files:
            with contextlib.suppress(FileNotFoundError):
                complete[Path(path)] = (Path(path) / "_metadata").stat().st_mtime_ns
    return max(complete, key=complete.__getitem__, default=None)


def require_living(checkpoint: Path, now: int, instead: str) -> None:
    """Refuse a checkpoint whose state expires: its tiles would start again from nothing.

    Parameters
    ----------
    checkpoint
        Folder with the metadata.
    now
        The clock, ms since the epoch.
    instead
        What to do otherwise, for the error.

    Raises
    ------
    InputError
        If it is older than the downtime that the state's life allows.
    """
    age = now - (checkpoint / "_metadata").stat().st_mtime_ns // NANOSECONDS
    if age > DOWNTIME:
        message = (
            f"checkpoint `{checkpoint.name}` is `{age / DAY:.1f}` days old, but state lives {DOWNTIME // DAY} days "
            f"without a job; {instead}"
        )
        raise InputError(message)


def next_offsets(checkpoint: Path, topic: str) -> dict[int, int]:
    """Return by partition of a topic where a job goes on that resumes a checkpoint; none for one that it had not begun.

    Flink's Kafka source keeps for each partition topic, number, next offset and where it stops, as Java's DataOutput
    writes them (`KafkaPartitionSplitSerializer`, version 0). They are small, and so stand in the metadata, or else in a
    file beside it.

    Parameters
    ----------
    checkpoint
        Folder with the metadata.
    """
    name = topic.encode()
    form = re.compile(re.escape(len(name).to_bytes(2, "big") + name) + b"(.{4})(.{8})" + re.escape(NO_STOP), re.DOTALL)
    found = {}
    for each in checkpoint.iterdir():
        if each.is_file() and each.stat().st_size:
            with each.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for match in form.finditer(content):
                    partition, offset = (int.from_bytes(part, "big", signed=True) for part in match.groups())
                    found[partition] = offset
    return {partition: offset for partition, offset in found.items() if offset >= 0}
