"""Checkpoints of a job: where they are, and whether one may be resumed."""

from __future__ import annotations

from pathlib import Path

from unskew.pipelines.backends.flink import DOWNTIME
from unskew.pipelines.errors import InputError
from unskew.pipelines.timegrid import DAY

CHECKPOINTS = "_checkpoints"
NANOSECONDS = 1_000_000  # in a millisecond


def newest_checkpoint(folder: Path) -> Path:
    """Return the newest checkpoint or savepoint that is complete: its metadata is written last.

    Raises
    ------
    InputError
        If there is none.
    """
    complete = sorted(folder.rglob("_metadata"), key=lambda each: each.stat().st_mtime_ns)
    if not complete:
        message = f"folder `{folder}` holds no complete checkpoint; run without resume into a new folder"
        raise InputError(message)
    return complete[-1].parent


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
