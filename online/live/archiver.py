"""The archiver: reads a source's topic, judges each message, and keeps all of them as Parquet (`docs/live.md`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

from unskew.online.live.archive_compact import compact_many
from unskew.online.live.archive_metrics import Metrics
from unskew.online.live.archive_rows import Batch
from unskew.online.live.archive_write import disk, lock, recover, write
from unskew.online.live.topic_reader import OutOfReachError, Topic, TopicReader
from unskew.pipelines.archive import (
    CLOCK_SLACK,
    Commit,
    Seen,
    all_seen,
    commits_of,
    complete_until,
    read_commit,
    record,
)
from unskew.pipelines.errors import EngineError, InputError, UnskewError
from unskew.pipelines.json_lines import LineJudge
from unskew.pipelines.plan import SourcePlan

POLL_MS, POLL_ROWS = 250, 10_000
LOOK_MS = 10_000  # at most so long between two looks at the topic
MOST_BYTES = 128 << 20  # of all batches together; past it the largest is written
MOST_GAPS = 20  # that a commit lists one by one
LOOK_BACK = 100  # commits in which the last one may be older than those before


@dataclass(frozen=True)
class Pace:
    """When a batch is written: at so many rows, or ms after its first message came."""

    rows: int = 100_000
    every: int = 60_000


PACE = Pace()


@dataclass
class Totals:
    """What an archiver has done: messages by fate, batches, offsets that were missing."""

    fates: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    missing: int = 0


class Archiver:
    """Keeps some partitions of a source's topic in its archive.

    Parameters
    ----------
    source
        With a topic, an archive and an arrival column.
    reader
        Of the topic.
    partitions
        None: all, those added later too.
    report
        Is told, in one line each, what a person should know.

    Raises
    ------
    InputError
        If the topic is another one than the archive's, or another archiver writes a partition.
    EngineError
        If the broker does not answer.
    """

    def __init__(
        self,
        source: SourcePlan,
        reader: TopicReader,
        archive: Path,
        *,
        partitions: Collection[int] | None = None,
        pace: Pace = PACE,
        report: Callable[[str], None] = lambda _: None,
        metrics: Metrics | None = None,
    ) -> None:
        """Take the partitions, and finish what an archiver before this one began."""
        self.source, self.reader, self.archive, self.pace, self.report = source, reader, archive, pace, report
        self.judge, self.metrics = LineJudge(source), metrics or Metrics(source.name, source.topic)
        self.chosen, self.totals = partitions, Totals()
        self.locks, self.batches, self.next = ExitStack(), dict[int, Batch](), dict[int, int]()
        self.pending: dict[int, list[list[Any]]] = {}
        self.complete: dict[int, int] = {}  # up to when by arrival, ms, as an upload would take it
        self.silent = False
        self.topic = reader.describe()
        self.missing_partitions()
        with self.locks:
            self.take_partitions()
            self.locks = self.locks.pop_all()

    def missing_partitions(self) -> None:
        """Refuse partitions that the topic does not have."""
        unknown = [each for each in self.chosen or () if not 0 <= each < self.topic.partitions]
        if unknown:
            message = f"partition `{unknown[0]}` is not one of topic `{self.topic.name}`; it has 0 to {self.topic.partitions - 1}"
            raise InputError(message)

    def take_partitions(self) -> None:
        """Take those partitions that are not taken yet, and read all from where the archive ends."""
        wanted = range(self.topic.partitions) if self.chosen is None else sorted(self.chosen)
        new = [each for each in wanted if each not in self.next]
        for each, (first, end) in self.reader.bounds(new).items() if new else ():
            self.locks.enter_context(lock(self.archive, self.topic.name, each))
            commit = recover(self.archive, self.topic.name, each)
            if commit is not None:
                self.require_same(commit)
            self.next[each] = first if commit is None else commit.last + 1
            self.complete[each] = self.taken_as_complete(each)
            self.within(each, first, end)
        if new:
            self.reader.start(self.next)

    def taken_as_complete(self, partition: int) -> int:
        """Return up to when an upload may have taken a partition to be complete, ms, by its newest commits."""
        seen = all_seen(self.archive).get((self.topic.name, partition))
        commits = commits_of(self.archive, self.topic.name, partition)[-LOOK_BACK:]
        return max(complete_until(each, seen) for each in (None, *map(read_commit, commits)))

    def require_same(self, commit: Commit) -> None:
        """Refuse a topic that was made again since the archive was written."""
        if commit.topic_id != self.topic.id:
            raise another(
                self.archive, f"its id is `{self.topic.id}`, the archive's is `{commit.topic_id}`", self.topic
            )

    def within(self, partition: int, first: int, end: int) -> None:
        """Go on from the first offset that is there; refuse a partition that ends before the archive."""
        ours = self.next[partition]
        if end < ours:
            raise another(
                self.archive, f"partition {partition} ends at offset {end}, the archive at {ours}", self.topic
            )
        if first > ours:
            self.gap(partition, ours, first - 1, "deleted by the broker")
            self.next[partition] = first

    def gap(self, partition: int, first: int, last: int, why: str) -> None:
        """Tell of messages that will never be in the archive, and keep it for the next commit."""
        self.report(f"partition {partition} of `{self.topic.name}`: offsets {first} to {last} are not there: {why}")
        self.pending.setdefault(partition, []).append([first, last, why])
        self.totals.missing += last - first + 1

    def run(self, stop: Event, *, once: bool = False) -> Totals:
        """Archive until told to stop, or once up to where the partitions end now.

        Whatever ends it but a kill or a full disk, what was read is committed.

        Raises
        ------
        InputError
            If the topic is made again, or the disk cannot be written.
        EngineError
            If the broker refuses; once, if it does not answer.
        """
        goals = {each: end for each, (_, end) in self.reader.bounds(list(self.next)).items()} if once else None
        looked = -inf
        try:
            while not stop.is_set():
                if (time.monotonic() - looked) * 1_000 >= min(self.pace.every, LOOK_MS):
                    self.look(patient=not once)
                    looked = time.monotonic()
                if goals is not None and self.reached(goals):
                    break
                self.take(self.poll())
                self.write_due()
        except UnskewError:
            self.write_all()
            raise
        self.write_all()
        self.look(patient=not once)
        return self.totals

    def write_all(self) -> None:
        """Commit all batches."""
        for each in list(self.batches):
            self.write(each)

    def reached(self, goals: dict[int, int]) -> bool:
        """Return whether all partitions have been read up to their goals."""
        return all(self.next[each] >= goal or self.reader.position(each) >= goal for each, goal in goals.items())

    def poll(self) -> dict[int, list[Any]]:
        """Return messages by partition; find again the place in partitions whose next offset is gone."""
        try:
            return self.reader.poll(POLL_MS, POLL_ROWS)
        except OutOfReachError:
            self.require_topic(self.reader.describe())
            for each, (first, end) in self.reader.bounds(list(self.next)).items():
                self.within(each, first, end)
            self.reader.start(self.next)
            return {}

    def take(self, messages: dict[int, list[Any]]) -> None:
        """Judge messages."""
        for partition, found in messages.items():
            if partition not in self.batches:
                self.batches[partition] = Batch(self.judge, self.topic.name, partition, time.monotonic())
            if found[-1].offset - self.next[partition] + 1 != len(found):
                self.note_gaps(partition, found)
            self.batches[partition].add(found)
            self.next[partition] = found[-1].offset + 1

    def note_gaps(self, partition: int, found: Sequence[Any]) -> None:
        """Note the offsets that are missing before and between messages."""
        gaps, expected = [], self.next[partition]
        for each in found:
            if each.offset > expected:
                gaps.append((expected, each.offset - 1))
            expected = each.offset + 1
        why = "compacted away, or marks of transactions"
        if len(gaps) > MOST_GAPS:
            why = f"{sum(last - first + 1 for first, last in gaps)} of them, in {len(gaps)} places, {why}"
            gaps = [(gaps[0][0], gaps[-1][1])]
        for first, last in gaps:
            self.gap(partition, first, last, why)

    def write_due(self) -> None:
        """Write the batches that are full or old, and the largest while all together are too large."""
        now = time.monotonic()
        for partition, batch in list(self.batches.items()):
            if batch.rows >= self.pace.rows or (now - batch.began) * 1_000 >= self.pace.every:
                self.write(partition)
        while sum(each.size() for each in self.batches.values()) > MOST_BYTES:
            self.write(max(self.batches, key=lambda each: self.batches[each].size()))

    def write(self, partition: int) -> None:
        """Commit a partition's batch."""
        batch = self.batches.pop(partition)
        gaps = self.pending.get(partition, [])
        commit = Commit(
            self.topic.name, self.topic.id, self.topic.partitions, partition, batch.first, batch.last, batch.newest,
            wall(), gaps, early=self.early(partition, batch.earliest),
        )  # fmt: skip
        write(self.archive, commit, batch.files())
        self.pending.pop(partition, None)
        self.complete[partition] = max(self.complete[partition], complete_until(commit, None))
        if commit.early:
            self.metrics.belied.labels(self.source.name).inc()
            self.report(
                f"partition {partition} of `{self.topic.name}` has a message that arrived at {commit.early[0]}, after the "
                f"archive was taken to be complete: an upload whose cut is later, up to {commit.early[1]}, lacks it; run "
                "`unskew upload` again"
            )
        self.metrics.count(batch.fates)
        self.totals.batches += 1
        for (fate, _), count in batch.fates.items():
            self.totals.fates[fate] += count
        with disk(self.archive):
            compact_many(self.archive, self.topic.name, partition)

    def early(self, partition: int, earliest: int | None) -> list[int]:
        """Return a commit's `early` by the arrival of its oldest message."""
        cut = self.complete[partition] - CLOCK_SLACK
        return [] if earliest is None or earliest >= cut else [earliest, cut]

    def look(self, *, patient: bool) -> None:
        """See whether the topic is the same, has more partitions, and where its partitions end; wait for a broker, or not."""
        at = wall()
        try:
            self.require_topic(self.reader.describe())
            self.take_partitions()
            bounds = self.reader.bounds(list(self.next))
        except EngineError as error:
            if not patient:
                raise
            if not self.silent:
                self.report(f"{error}; what it has will be read once it does")
            self.silent = True
            return
        self.silent = False
        for partition, (_, end) in bounds.items():
            batch = self.batches.get(partition)
            self.metrics.behind(partition, max(0, end - (self.next[partition] if batch is None else batch.first)))
            if batch is None and (self.next[partition] >= end or self.reader.position(partition) >= end):
                self.see(partition, end, at)

    def require_topic(self, topic: Topic) -> None:
        """Refuse a topic that was made again while it was read."""
        if topic.id != self.topic.id:
            raise another(self.archive, f"its id is `{topic.id}` now, the archive's is `{self.topic.id}`", topic)
        self.topic = topic

    def see(self, partition: int, end: int, at: int) -> None:
        """Record that nothing more was there at an instant."""
        with disk(self.archive):
            record(self.archive, Seen(self.topic.name, self.topic.id, self.topic.partitions, partition, end, at))
        self.complete[partition] = max(self.complete[partition], at)

    def close(self) -> None:
        """Let go of the partitions; what is not committed will be read again."""
        self.locks.close()
        self.metrics.close()


def another(archive: Path, why: str, topic: Topic) -> InputError:
    """Say that a topic is not the archive's."""
    message = (
        f"topic `{topic.name}` is not the one in archive `{archive}`: {why}; it was made again, or this is another broker: "
        "move the archive away, or give the source another one"
    )
    return InputError(message)


def wall() -> int:
    """Return the clock, ms."""
    return time.time_ns() // 1_000_000
