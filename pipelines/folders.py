"""Folders of Parquet files: which of them a reader reads, in which order."""

from __future__ import annotations

from pathlib import Path

from unskew.pipelines.archive import uncovered
from unskew.pipelines.errors import InputError


def hidden(path: Path) -> bool:
    """Return whether a file or a folder on its way begins with a dot or an underscore."""
    return any(each.startswith((".", "_")) for each in path.parts)


def parquet_files(path: Path) -> list[Path]:
    """Return a file, or all Parquet files below a folder in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        message = f"path `{path}` does not exist; give a Parquet file or a folder of them"
        raise InputError(message)
    # hidden folders are what a killed run left, or one under way is writing
    visible = (each for each in path.rglob("*.parquet") if not hidden(each.relative_to(path)))
    found = list(uncovered(sorted(visible)))  # while an archiver compacts, rows are in two files for a moment
    if not found:
        message = f"folder `{path}` holds no .parquet file; give the folder of the archive"
        raise InputError(message)
    return found
