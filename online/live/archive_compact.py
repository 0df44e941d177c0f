"""Many small files of one date and partition become one: the same rows in the same order.

The new file is written under a hidden name; the moment it gets its own, readers that go by `pipelines.archive.uncovered`
see it in place of those that it covers, which are then hidden, and deleted a day later: a reader that has listed them
still finds them. Who lists the folder in another way may see rows twice for as long as some renames take, and never
misses one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.online.live.archive_write import disk, glob_escaped, lock, recover
from unskew.pipelines.archive import (
    COMMITS,
    Commit,
    Span,
    commits_of,
    hidden,
    last_commits,
    read_commit,
    record,
    stem,
    uncovered,
)
from unskew.pipelines.durable import REPLACED, replaced, sync
from unskew.pipelines.errors import InputError

MANY = 32  # files of a date and partition that a running archiver lets stand
MOST_ROWS, MOST_BYTES = 1_000_000, 128 << 20  # of a compacted file; half of either is large enough to be left alone
GROUP_ROWS, GROUP_BYTES = 100_000, 64 << 20  # of a row group, and so of what is held in memory
KEPT = 86_400  # s that a replaced file can still be read
MANY_COMMITS = 1_000


def compact_many(archive: Path, topic: str, partition: int) -> int:
    """Compact a partition's folders that have many files; return how many files are gone."""
    return sum(compact_folder(each, topic, partition, MANY) for each in folders(archive)) + fold_commits(
        archive, topic, partition, MANY_COMMITS
    )


def compact(archive: Path, topic: str, partition: int) -> int:
    """Compact all that can be of a partition; return how many files are gone."""
    return sum(compact_folder(each, topic, partition, 1) for each in folders(archive)) + fold_commits(
        archive, topic, partition, 1
    )


def compact_archive(archive: Path, topic: str) -> int:
    """Compact all partitions of an archive that no archiver runs for; return how many files are gone.

    Raises
    ------
    InputError
        If there is nothing, an archiver runs, or the disk cannot be written.
    """
    partitions = sorted(partition for _, partition in last_commits(archive, topic))
    if not partitions:
        message = f"archive `{archive}` has nothing of topic `{topic}`; run `unskew archive` first"
        raise InputError(message)
    gone = 0
    for each in partitions:
        with lock(archive, topic, each), disk(archive):
            recover(archive, topic, each)
            gone += compact(archive, topic, each)
    return gone


def folders(archive: Path) -> list[Path]:
    """Return the folders of an archive that hold Parquet files."""
    return sorted(each for each in archive.iterdir() if each.is_dir() and each.name != COMMITS)


def compact_folder(folder: Path, topic: str, partition: int, many: int) -> int:
    """Compact one partition's files in one folder, where there are more than `many`."""
    files = spans(folder, topic, partition)
    if len(files) <= many:
        return 0
    hide_covered(folder, files)
    gone = 0
    for group in groups(list(uncovered(files))):
        for _ in steps(group):
            pass
        gone += len(group) - 1
    drop_old(folder, topic, partition)
    return gone


def spans(folder: Path, topic: str, partition: int) -> list[Path]:
    """Return a partition's files in the order of their offsets."""
    return sorted(folder.glob(f"{glob_escaped(stem(topic, partition))}-*.parquet"))


def groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield runs of consecutive files, of the same columns, that make one file together."""
    group, size, schema = list[Path](), Size(0, 0), None
    for each in files:
        metadata = pq.read_metadata(each)
        own, columns = Size(metadata.num_rows, each.stat().st_size), metadata.schema.to_arrow_schema()
        if own.large(2) or (size + own).large(1) or columns != schema:
            yield from [group] if len(group) > 1 else []
            group, size, schema = [], Size(0, 0), columns
        if not own.large(2):
            group, size = [*group, each], size + own
    if len(group) > 1:
        yield group


class Size(NamedTuple):
    """Rows and bytes of files."""

    rows: int
    bytes: int

    def __add__(self, other: Size) -> Size:  # type: ignore[override]
        """Return the size of both."""
        return Size(self.rows + other.rows, self.bytes + other.bytes)

    def large(self, share: int) -> bool:
        """Return whether it is more than one `share`th of what a compacted file may have."""
        return share * self.rows > MOST_ROWS or share * self.bytes > MOST_BYTES


def steps(group: Sequence[Path]) -> Iterator[str]:
    """Make one file of several, and pause after each step: between any two of them the program may be killed."""
    first, last = (Span.of(each.name) for each in (group[0], group[-1]))
    if first is None or last is None:
        message = "files of an archive have spans"
        raise AssertionError(message)
    target = group[0].with_name(replace(first, last=last.last).name)
    merge(group, hidden(target))
    sync(hidden(target))
    sync(target.parent)
    yield "merged"
    hidden(target).replace(target)
    sync(target.parent)
    yield "named"
    for each in group:
        each.replace(replaced(each))
        os.utime(replaced(each))  # from now on it is kept for a while
        yield f"hidden {each.name}"
    sync(target.parent)


def merge(files: Iterable[Path], target: Path) -> None:
    """Write the rows of several files into one."""
    with ExitStack() as opened:
        parquets = [opened.enter_context(pq.ParquetFile(each)) for each in files]
        writer = opened.enter_context(pq.ParquetWriter(target, parquets[0].schema_arrow, compression="zstd"))
        for table in regrouped(parquets):
            writer.write_table(table)


def regrouped(files: Sequence[pq.ParquetFile]) -> Iterator[pa.Table]:
    """Yield the rows of files in their order, in tables that make a row group each."""
    held: list[pa.Table] = []
    for file in files:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            rows, size = (sum(getattr(each, name) for each in [*held, table]) for name in ("num_rows", "nbytes"))
            if held and (rows > GROUP_ROWS or size > GROUP_BYTES):
                yield pa.concat_tables(held)
                held = []
            held.append(table)
    if held:
        yield pa.concat_tables(held)


def hide_covered(folder: Path, files: Sequence[Path]) -> None:
    """Finish a compaction that was cut off: hide what a larger file has the rows of."""
    for each in set(files) - set(uncovered(files)):
        each.replace(replaced(each))
    sync(folder)


def drop_old(folder: Path, topic: str, partition: int) -> None:
    """Delete what was replaced more than a day ago."""
    for each in folder.glob(f".{glob_escaped(stem(topic, partition))}-*{REPLACED}"):
        if time.time() - each.stat().st_mtime > KEPT:
            each.unlink()


def fold_commits(archive: Path, topic: str, partition: int, many: int) -> int:
    """Make one commit of all but a partition's newest, where there are more than `many`; return how many are gone.

    Their lists of files are not kept, for only the newest one's are ever looked for; their gaps are.
    """
    old = commits_of(archive, topic, partition)[:-1]
    if len(old) <= many:
        return 0
    kept = standing([read_commit(each) for each in old])
    gaps = [gap for each in kept for gap in each.gaps]
    record(archive, replace(kept[-1], first=kept[0].first, gaps=gaps, files={}))
    for each in old[:-1]:
        each.unlink()
    return len(old) - 1


def standing(commits: Sequence[Commit]) -> list[Commit]:
    """Leave out commits that a later one covers: folding them was cut off."""
    found: list[Commit] = []
    for each in reversed(commits):
        if not found or each.first < found[-1].first:
            found.append(each)
    return found[::-1]
