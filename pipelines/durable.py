"""Files that are replaced whole: a reader, and whoever comes after a crash, sees the old one or the new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".erasing"
REPLACED = ".replaced"


def aside(path: Path) -> Path:
    """Return the hidden name beside a file under which its successor is written."""
    return path.with_name(f".{path.name}{SUFFIX}")


def replaced(path: Path) -> Path:
    """Return the hidden name under which a file is kept for a while once another has taken its place."""
    return path.with_name(f".{path.name}{REPLACED}")


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield what a run that was cut off has left aside below a folder, and what is kept there of replaced files."""
    yield from folder.rglob(f".*{SUFFIX}")
    yield from folder.rglob(f".*{REPLACED}")


def show(path: Path, content: str) -> None:
    """Write a file that appears whole to who reads it; a machine that loses power may lose it."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)


def write_whole(path: Path, content: str) -> None:
    """Write a file that appears whole, once it is on the disk."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(content, encoding="utf-8")
    sync(new)
    new.replace(path)
    sync(path.parent)


def swap(path: Path) -> None:
    """Let what was written aside take a file's place, with its rights and times, once it is on the disk."""
    new = aside(path)
    if path.exists():
        shutil.copystat(path, new)  # the order of a stream's attempts is told by their times
    sync(new)
    new.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or a folder's names are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
