"""What became of every message that a job has read, counted from what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kafka import KafkaConsumer

from unskew.online.account import Account, counts, require_equal
from unskew.online.changelog import read_messages
from unskew.online.live.jobs import FATES, Job
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import partitions_of, reading
from unskew.online.store import Store
from unskew.pipelines.backends.flink import job_streams
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import SetPlan

POLL = 500  # ms


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
    fates, reasons, skipped = apart_counts(plan, job, settings)
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


def apart_counts(plan: SetPlan, job: Job, settings: KafkaSettings) -> Apart:
    """Count the messages that a job has written to its topic of fates, each once.

    Raises
    ------
    EngineError
        If the topic has lost its first messages to its retention.
    """
    stream = next(each for each in job_streams(plan, job.source, topics=True) if each.kind == "apart")
    names = [name for name, _ in stream.columns]
    rows = read_messages(values_of(settings, job.topics[FATES]), stream).group_by(names).aggregate([])
    found = (rows[name].drop_null() if rows.num_rows else rows[name] for name in ("fate", "reason", "view"))
    return Apart(*(counts(each) for each in found))


def unique_events(job: Job, store: Store, skipped: Mapping[str, int]) -> dict[str, int]:
    """Return how many events each view has taken or skipped: the same, once the store has all rows and kept up."""
    return {view: store.written(job.epoch, view).applied + skipped.get(view, 0) for view in job.views}


def values_of(settings: KafkaSettings, topic: str) -> list[bytes]:
    """Return the messages that a topic holds now; refuse one that has lost its first ones."""
    found: list[bytes] = []
    with reading(settings) as client:
        own = partitions_of(client, topic)
        ends = client.end_offsets(own)
        client.assign(own)
        client.seek_to_beginning(*own)
        while behind(client, ends):
            for records in client.poll(timeout_ms=POLL).values():
                found += [each.value for each in records]
        lost = sum(client.beginning_offsets(own).values())  # last: what is there now was read
    if lost:
        message = (
            f"the first `{lost}` messages of `{topic}` are gone by its retention, so what became of every message "
            "cannot be told any more; `unskew stream rebuild` begins a new account"
        )
        raise EngineError(message)
    return found


def behind(client: KafkaConsumer, ends: dict[object, int]) -> bool:
    """Return whether a partition was not read to its end."""
    return any(client.position(each) < end for each, end in ends.items())
