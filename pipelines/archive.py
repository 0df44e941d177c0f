"""The archive of a topic on disk: names of files, commits, what a reader may see, and up to when it is complete.

`docs/live.md` has the layout. The archiver (`online.live.archiver`) writes it; uploads and backfills read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from unskew.pipelines.durable import replaced, write_whole
from unskew.pipelines.errors import InputError
from unskew.pipelines.timegrid import DAY, MINUTE

T = TypeVar("T")
COMMITS, QUARANTINE = "_commits", "_quarantine"
PART = ".part"  # what a batch is called until its commit is there
CLOCK_SLACK = MINUTE  # how far the clocks of what writes the archive may be apart (design section 8)
FIRST_DAY = date(1970, 1, 1).toordinal()
NAME = re.compile(r"(?P<topic>.+)-p(?P<partition>\d{5})-(?P<first>\d{20})-(?P<last>\d{20})\.parquet")
COMMIT = re.compile(r"(?P<topic>.+)-p(?P<partition>\d{5})-(?P<last>\d{20})\.json")
SEEN = re.compile(r"(?P<topic>.+)-p(?P<partition>\d{5})\.seen\.json")


@dataclass(frozen=True, order=True)
class Span:
    """The messages of a partition that a file has been made of: offsets, both inclusive."""

    topic: str
    partition: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """Name of its Parquet files."""
        return f"{stem(self.topic, self.partition)}-{self.first:020d}-{self.last:020d}.parquet"

    @staticmethod
    def of(name: str) -> Span | None:
        """Read a file's name; None for another one."""
        found = NAME.fullmatch(name)
        return (
            None
            if found is None
            else Span(found["topic"], *(int(found[each]) for each in ("partition", "first", "last")))
        )


@dataclass(frozen=True)
class Commit:
    """A batch that is in the archive.

    Parameters
    ----------
    topic_id
        The broker's id: a topic that is made again under its name has another.
    partitions
        Number of the topic's partitions when it was written.
    newest
        Timestamp of the last message, ms.
    written
        The archiver's clock, ms.
    gaps
        Offsets that were not there any more, [first, last, why].
    early
        Where a message is older than the archive had been complete up to: that message's arrival, and the latest cut
        that an upload can have had before; else nothing.
    files
        Rows of each file, by its path below the archive.
    """

    topic: str
    topic_id: str
    partitions: int
    partition: int
    first: int
    last: int
    newest: int
    written: int
    gaps: list[list[Any]] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    early: list[int] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Its path below the archive."""
        return Path(COMMITS) / f"{stem(self.topic, self.partition)}-{self.last:020d}.json"

    def belies(self, cut: int) -> bool:
        """Return whether a message of it is older than an upload's cut that can have been before it."""
        return bool(self.early) and self.early[0] < cut <= self.early[1]


@dataclass(frozen=True)
class Seen:
    """The end of a partition as the archiver last saw it with nothing left to read: next offset, and when, ms."""

    topic: str
    topic_id: str
    partitions: int
    partition: int
    end: int
    at: int

    @property
    def path(self) -> Path:
        """Its path below the archive."""
        return Path(COMMITS) / f"{stem(self.topic, self.partition)}.seen.json"


def stem(topic: str, partition: int) -> str:
    """Return how the names of a partition's files begin."""
    return f"{topic}-p{partition:05d}"


def date_folder(day: int) -> str:
    """Return the folder of a day since the epoch."""
    return f"date={date.fromordinal(FIRST_DAY + day).isoformat()}"


def day_of(ts: int) -> int:
    """Return the day since the epoch of an instant, ms."""
    return ts // DAY


def record(archive: Path, entry: Commit | Seen) -> None:
    """Write a commit, or what was seen: whole, and on the disk."""
    write_whole(archive / entry.path, json.dumps(asdict(entry)) + "\n")


def last_commits(archive: Path, topic: str = "") -> dict[tuple[str, int], Commit]:
    """Return the newest commit of each partition, by topic and partition."""
    newest: dict[tuple[str, int], str] = {}
    for each in sorted(names_in(archive / COMMITS)):
        if (found := COMMIT.fullmatch(each)) and topic in ("", found["topic"]):
            newest[found["topic"], int(found["partition"])] = each
    return {key: read_commit(archive / COMMITS / each) for key, each in newest.items()}


def committed_partitions(archive: Path) -> set[tuple[str, int]]:
    """Return topic and partition of all that has commits."""
    found = (COMMIT.fullmatch(each) for each in names_in(archive / COMMITS))
    return {(each["topic"], int(each["partition"])) for each in found if each}


def commits_of(archive: Path, topic: str, partition: int) -> list[Path]:
    """Return the paths of a partition's commits, oldest first."""
    start = f"{stem(topic, partition)}-"
    return sorted(
        archive / COMMITS / each
        for each in names_in(archive / COMMITS)
        if each.startswith(start) and COMMIT.fullmatch(each)
    )


def read_commit(path: Path) -> Commit:
    """Read a commit."""
    return Commit(**read_entry(path, {each.name for each in fields(Commit)}, {"early"}))


def all_seen(archive: Path) -> dict[tuple[str, int], Seen]:
    """Return what was seen of the end of each partition, by topic and partition."""
    known = {each.name for each in fields(Seen)}
    entries = (
        Seen(**read_entry(archive / COMMITS / each, known))
        for each in names_in(archive / COMMITS)
        if SEEN.fullmatch(each)
    )
    return {(each.topic, each.partition): each for each in entries}


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none where there is no folder."""
    return [each.name for each in folder.iterdir()] if folder.is_dir() else []


def read_entry(path: Path, known: set[str], new: Set[str] = frozenset()) -> dict[str, Any]:
    """Read an entry of `_commits`; older archivers did not write what is new."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not known - new <= set(found) <= known:
            raise ValueError(path)
    except (OSError, ValueError) as error:
        message = f"commit `{path}` cannot be read; restore it from a backup of the archive"
        raise InputError(message) from error
    return found


def uncovered(paths: Iterable[Path]) -> Iterator[Path]:
    """Leave out files whose rows are in a larger one of the same folder: it has just taken their place."""
    reach: dict[tuple[Path, str, int], int] = {}
    spans = [(Span.of(each.name), each) for each in paths]
    covered = set()
    for span, path in sorted(
        ((s, p) for s, p in spans if s is not None), key=lambda each: (each[0].first, -each[0].last)
    ):
        key = (path.parent, span.topic, span.partition)
        if span.last <= reach.get(key, -1):
            covered.add(path)
        reach[key] = max(span.last, reach.get(key, -1))
    return (each for _, each in spans if each not in covered)


def read_current(path: Path, read: Callable[[Path], T]) -> T:
    """Read a file of an archive: under its name, or the one that it has since another took its place."""
    try:
        return read(path)
    except FileNotFoundError:
        if not replaced(path).exists():
            raise
        return read(replaced(path))


def cut_of(archive: Path) -> int:
    """Return the instant up to which the archive is complete by arrival, ms.

    The smallest over all partitions of the last message's timestamp, less the slack of clocks. A timestamp past the
    commit's own time counts as that time, and a commit does once all its files have their names. A partition of which the end was seen after its last message counts by when
    that was.

    Raises
    ------
    InputError
        If the archive has no commits, or none of some partition of its topic.
    """
    commits = {key: finished(archive, each) for key, each in last_commits(archive).items()}
    seen = all_seen(archive)
    known: list[Commit | Seen] = [*(each for each in commits.values() if each is not None), *seen.values()]
    if not known:
        message = f"archive `{archive}` has no commits; run `unskew archive`, or upload with --cut"
        raise InputError(message)
    complete = []
    for topic in {each.topic for each in known}:
        for partition in range(max(each.partitions for each in known if each.topic == topic)):
            key = (topic, partition)
            if key not in commits and key not in seen:
                message = f"archive `{archive}` has nothing of partition {partition} of `{topic}`; archive it too, or upload with --cut"
                raise InputError(message)
            complete.append(complete_until(commits.get(key), seen.get(key)))
    return min(complete) - CLOCK_SLACK


def belied(archive: Path, cut: int) -> int | None:
    """Return the arrival of the oldest message that an upload of an archive lacks though it is older than the cut, ms.

    The upload's tiles are wrong by it, and so an upload is due (design section 8). None where there is no such message;
    one whose commit came between the cut and the reading of the files counts, too.
    """
    found = []
    for topic, partition in committed_partitions(archive):
        for path in reversed(commits_of(archive, topic, partition)):
            commit = read_commit(path)
            if commit.written < cut:  # as those before it
                break
            found += commit.early[:1] if commit.belies(cut) else []
    return min(found, default=None)


def finished(archive: Path, last: Commit) -> Commit | None:
    """Return the last commit of a partition of which no file waits for its name."""
    if not any(hidden(archive / each).exists() for each in last.files):
        return last
    before = commits_of(archive, last.topic, last.partition)[:-1]
    return read_commit(before[-1]) if before else None


def hidden(path: Path) -> Path:
    """Return what a file is called until its commit is there and it gets its name."""
    return path.with_name(f".{path.name}{PART}")


def complete_until(commit: Commit | None, seen: Seen | None) -> int:
    """Return up to when one partition is complete by arrival, ms."""
    last = -1 if commit is None else commit.last
    found = [] if commit is None else [min(commit.newest, commit.written)]
    if seen is not None and seen.end > last:  # nothing came between the last message and then
        found.append(seen.at)
    return max(found, default=0)
