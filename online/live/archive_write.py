"""Batches written so that a kill at any point neither loses nor repeats a row.

Files are written under hidden names, then the commit that lists them, then the files get their names. Before the commit
a batch is not there, and will be read from the broker again; after it, whoever comes next finishes the renaming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.online.live.held import hold
from unskew.pipelines.archive import COMMITS, PART, Commit, Span, hidden, last_commits, record, stem, uncovered
from unskew.pipelines.durable import sync
from unskew.pipelines.errors import InputError


def write(archive: Path, commit: Commit, files: Iterable[tuple[str, pa.Table]]) -> None:
    """Bring a batch into the archive.

    Raises
    ------
    InputError
        If the disk is full or cannot be written; what is committed stays whole.
    """
    with disk(archive):
        for _ in steps(archive, commit, files):
            pass


def steps(archive: Path, commit: Commit, files: Iterable[tuple[str, pa.Table]]) -> Iterator[str]:
    """Do what `write` does, and pause after each step: between any two of them the program may be killed."""
    name = Span(commit.topic, commit.partition, commit.first, commit.last).name
    rows: dict[str, int] = {}
    for folder, table in files:
        part = hidden(archive / folder / name)
        part.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, part, compression="zstd")
        sync(part)
        rows[f"{folder}/{name}"] = table.num_rows
        yield f"written {folder}"
    for parent in {(archive / each).parent for each in rows}:
        sync(parent)
    sync(archive)
    yield "synced"
    record(archive, replace(commit, files=rows))
    yield "committed"
    yield from named(archive, rows)


def named(archive: Path, files: Iterable[str]) -> Iterator[str]:
    """Give the files of a commit their names; those that have them keep them."""
    folders = set()
    for each in files:
        path = archive / each
        if hidden(path).exists():
            hidden(path).replace(path)
            folders.add(path.parent)
            yield f"named {each}"
    for folder in folders:
        sync(folder)


def recover(archive: Path, topic: str, partition: int) -> Commit | None:
    """Finish the last commit of a partition, remove what has none, and return it.

    Raises
    ------
    InputError
        If a file of the commit is gone.
    """
    with disk(archive):
        commit = last_commits(archive, topic).get((topic, partition))
        if commit is not None:
            for _ in named(archive, commit.files):
                pass
            require_files(archive, commit)
        for each in archive.glob(f"*/.{glob_escaped(stem(topic, partition))}-*{PART}"):
            each.unlink()
        return commit


def require_files(archive: Path, commit: Commit) -> None:
    """Refuse to go on from a commit whose rows are not there."""
    for each in commit.files:
        path = archive / each
        if not path.exists() and path in uncovered([path, *path.parent.glob("*.parquet")]):
            message = f"archive `{archive}` has lost `{each}` of its last commit; restore it from a backup"
            raise InputError(message)


def glob_escaped(text: str) -> str:
    """Return a text that stands for itself in a pattern of file names."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)


@contextmanager
def disk(archive: Path) -> Iterator[None]:
    """Turn an error of the disk into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        message = f"archive `{archive}` cannot be written: {reason}; nothing is lost: make room or give rights, and start it again"
        raise InputError(message) from error


def lock(archive: Path, topic: str, partition: int) -> IO[str]:
    """Take a partition of an archive for as long as the returned file is open.

    Raises
    ------
    InputError
        If another program has it.
    """
    what = f"partition {partition} of archive `{archive}` is being written"
    path = archive / COMMITS / f".{stem(topic, partition)}.lock"
    with disk(archive):
        return hold(path, what, "end that one, or choose other --partitions")
