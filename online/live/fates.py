"""What became of every message that a job has read, counted from what it wrote."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from unskew.online.account import Account, require_equal
from unskew.online.changelog import read_messages
from unskew.online.live.jobs import FATES, Job
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import partitions_of, reading
from unskew.online.store import Store
from unskew.pipelines.backends.flink import job_streams
from unskew.pipelines.backends.flink_ends import PARTITIONS
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import SetPlan

POLL, RECORDS = 500, 20_000  # ms that one poll waits, messages that it returns at most
PATIENCE = 15.0  # s without any message until the broker is given up
BLOCK = 1 << 20  # offsets of a partition that are remembered together
Kind = tuple[str | None, str | None, str | None]  # fate, reason, view
Offsets = np.ndarray[tuple[int], np.dtype[np.uint32]]  # within a block, ascending


def take_account(plan: SetPlan, job: Job, store: Store, settings: KafkaSettings, read: int) -> Account:
    """Count every message once.

    A job writes those that are in no tile to a topic of their own, at least once each; what is in tiles the store has
    counted. The rest are duplicates; with rows that an upload has overtaken (`Account.overtaken`), some were applied. It
    adds up once the store has taken all rows.

    Parameters
    ----------
    read
        Messages from the job's starts to its last checkpoint.

    Raises
    ------
    EngineError
        If two counts of the same messages differ, or the topic of fates has lost its first messages to its retention.
    """
    fates, reasons, skipped = ApartCounts(plan, job, settings).read()
    unique = unique_events(job, store, skipped)
    overtaken = store.written(job.epoch).overtaken
    most = max(unique.values())
    if not overtaken:
        for view, n in unique.items():
            require_equal(f"events of view {view}", n, most)
    quarantined, late, archived = (fates.get(each, 0) for each in ("quarantined", "late", "archived"))
    duplicates = read - quarantined - late - archived - most
    if duplicates < 0:
        message = f"account does not add up: `{read}` messages were read, but `{read - duplicates}` have a fate; wait for a checkpoint"
        raise EngineError(message)
    filtered = fates.get("filtered", 0)
    return Account(read, quarantined, late, archived, duplicates, filtered, most - filtered, reasons, overtaken)


class Apart(NamedTuple):
    """Messages that are not in the tiles of every view: by fate, those quarantined by reason, those skipped by view."""

    fates: dict[str, int]
    reasons: dict[str, int]
    skipped: dict[str, int]


class ApartCounts:
    """Counts the messages that a job writes to its topic of fates, each once; what was read is not read again.

    A job writes some again after a failure, so it is remembered which were counted: 4 bytes for each.
    """

    def __init__(self, plan: SetPlan, job: Job, settings: KafkaSettings) -> None:
        self.job, self.settings = job, settings
        self.stream = next(each for each in job_streams(plan, job.source, topics=True) if each.kind == "apart")
        self.places: dict[int, int] = {}  # the next offset to read, by partition
        self.counts = Counter[Kind]()
        self.seen: dict[tuple[Kind, int], Offsets] = {}  # by kind and block

    def read(self) -> Apart:
        """Return what the topic came to until now.

        Raises
        ------
        EngineError
            If the topic has lost messages to its retention that were not read, or the broker does not answer.
        """
        for values in new_values(self.settings, self.job.topics[FATES], self.places):
            self.add(read_messages(values, self.stream))
        found = (Counter[str](), Counter[str](), Counter[str]())
        for kind, count in self.counts.items():
            for counts, name in zip(found, kind, strict=True):
                counts.update({name: count} if name is not None else {})
        return Apart(*(dict(each) for each in found))

    def add(self, rows: pa.Table) -> None:
        """Count rows that were not seen yet."""
        for row in rows.group_by(["fate", "reason", "view"]).aggregate([("seq", "list")]).to_pylist():
            self.add_kind((row["fate"], row["reason"], row["view"]), row["seq_list"])

    def add_kind(self, kind: Kind, sequences: Sequence[int]) -> None:
        """Count messages of one kind by their sequences."""
        offsets, partitions = np.divmod(np.array(sequences, np.int64), PARTITIONS)
        blocks = offsets // BLOCK * PARTITIONS + partitions
        for block in np.unique(blocks).tolist():
            known = self.seen.get((kind, block), np.empty(0, np.uint32))
            new = np.union1d(known, (offsets[blocks == block] % BLOCK).astype(np.uint32))
            self.seen[kind, block] = new
            self.counts[kind] += len(new) - len(known)


def unique_events(job: Job, store: Store, skipped: Mapping[str, int]) -> dict[str, int]:
    """Return how many events each view has taken or skipped: the same, once the store has all rows and kept up."""
    return {view: store.written(job.epoch, view).applied + skipped.get(view, 0) for view in job.views}


def new_values(settings: KafkaSettings, topic: str, places: dict[int, int]) -> Iterator[list[bytes]]:
    """Yield the messages of a topic up to where it ends now, part by part.

    Parameters
    ----------
    places
        The next offset to read, by partition; it moves on with what was taken.

    Raises
    ------
    EngineError
        If the topic has lost some of them, or the broker does not send them.
    """
    with reading(settings, auto_offset_reset="none", max_poll_records=RECORDS) as client:
        own = partitions_of(client, topic)
        ends = client.end_offsets(own)
        client.assign(own)
        for each in own:
            client.seek(each, places.setdefault(each.partition, 0))
        last = time.monotonic() + PATIENCE
        while behind(places, ends):
            try:
                found = client.poll(timeout_ms=POLL)
            except OffsetOutOfRangeError as error:
                raise lost(topic) from error
            for part, records in found.items():
                yield [each.value for each in records]
                places[part.partition] = records[-1].offset + 1
                last = time.monotonic() + PATIENCE
            if time.monotonic() > last:
                message = f"kafka at `{settings.bootstrap_servers}` has not sent what `{topic}` holds for {PATIENCE:.0f} s; check that it runs"
                raise EngineError(message)


def behind(places: Mapping[int, int], ends: Mapping[TopicPartition, int]) -> bool:
    """Return whether a partition was not read to its end."""
    return any(places[each.partition] < end for each, end in ends.items())


def lost(topic: str) -> EngineError:
    """Return the error of a topic of fates that cannot be counted any more."""
    return EngineError(
        f"the first messages of `{topic}` are gone by its retention, so what became of every message "
        "cannot be told any more; `unskew stream rebuild` begins a new account"
    )
