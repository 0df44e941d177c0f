"""Folders of Parquet files: which of them a reader reads, in which order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.pipelines.archive import read_current, uncovered
from unskew.pipelines.errors import InputError

T = TypeVar("T")


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
    found = files_below(path)
    if not found:
        message = f"folder `{path}` holds no .parquet file; give the folder of the archive"
        raise InputError(message)
    return found


def files_below(folder: Path) -> list[Path]:
    """Return the Parquet files below a folder in the order of their names, each row in one of them.

    An archiver may compact meanwhile: it gives a new file its name, and then hides the ones before. A listing takes time,
    and may overlook both. Of two, one after the other, the second has the new file, or the first has all before it.
    """
    listed = {*visible(folder), *visible(folder)}
    return list(uncovered(sorted(listed)))


def visible(folder: Path) -> list[Path]:
    """Return the Parquet files below a folder but for those that a killed run left, or one under way is writing."""
    return [each for each in folder.rglob("*.parquet") if not hidden(each.relative_to(folder))]


def read_files(path: Path) -> pa.Table:
    """Return a file, or all Parquet files below a folder, as one table; an archiver may be at work in it."""
    return pa.concat_tables([read_table(each) for each in parquet_files(path)], promote_options="default")


def read_table(path: Path) -> pa.Table:
    """Return a file, which an archiver may have replaced."""
    return readable(path, lambda each: read_current(each, lambda own: pq.read_table(own, partitioning=None)))


def readable(path: Path, read: Callable[[Path], T]) -> T:
    """Return what is read of a Parquet file.

    Raises
    ------
    InputError
        If it is no Parquet file, or cannot be read.
    """
    try:
        return read(path)
    except (pa.ArrowInvalid, OSError) as error:
        message = f"file `{path}` is no readable Parquet file: {str(error).splitlines()[0]}"
        raise InputError(message) from error
