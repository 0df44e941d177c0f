"""A topic as the archiver reads it: what it is now, where its partitions begin and end, its messages in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import LogTruncationError, OffsetOutOfRangeError

from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import broker_errors
from unskew.pipelines.errors import InputError

FETCH_BYTES, PARTITION_BYTES = 32 << 20, 4 << 20  # a message that is larger is fetched all the same
PATIENCE = 15_000  # ms for an answer
FEW_BYTES, FEW_WAIT = 1 << 16, 250  # bytes that the broker waits for, ms that it does: nobody waits for the archiver


@dataclass(frozen=True)
class Topic:
    """A topic: the broker's id of it, and how many partitions it has."""

    name: str
    id: str
    partitions: int


class OutOfReachError(Exception):
    """The broker has not, or no longer, the next offset of a partition."""


class TopicReader:
    """Reads the partitions of one topic, each from an offset that the caller names.

    Raises
    ------
    EngineError
        Here and in the methods, if the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        """Connect."""
        self.settings, self.topic = settings, topic
        with broker_errors(settings):
            self.admin = KafkaAdminClient(**settings.client(), bootstrap_timeout_ms=PATIENCE)
            self.consumer = KafkaConsumer(
                **settings.client(),
                bootstrap_timeout_ms=PATIENCE,
                request_timeout_ms=PATIENCE,
                auto_offset_reset="none",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                fetch_min_bytes=FEW_BYTES,
                fetch_max_wait_ms=FEW_WAIT,
                fetch_max_bytes=FETCH_BYTES,
                max_partition_fetch_bytes=PARTITION_BYTES,
                metrics_enabled=False,
            )

    def describe(self) -> Topic:
        """Return what the topic is now.

        Raises
        ------
        InputError
            If there is none.
        """
        with broker_errors(self.settings):
            (found,) = self.admin.describe_topics([self.topic])
        if found["error_code"] or not found["partitions"]:
            where = self.settings.bootstrap_servers
            message = f"topic `{self.topic}` is not on `{where}`; make it, or name the right broker in [kafka] bootstrap_servers"
            raise InputError(message)
        return Topic(self.topic, str(found["topic_id"]), len(found["partitions"]))

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Return the first offset that is there and the next one that will be written, for each partition."""
        asked = [TopicPartition(self.topic, each) for each in partitions]
        with broker_errors(self.settings):
            first = self.consumer.beginning_offsets(asked, timeout_ms=PATIENCE)
            end = self.consumer.end_offsets(asked, timeout_ms=PATIENCE)
        return {each.partition: (first[each], end[each]) for each in asked}

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions, each from its offset on."""
        self.consumer.assign([TopicPartition(self.topic, each) for each in offsets])
        for partition, offset in offsets.items():
            self.consumer.seek(TopicPartition(self.topic, partition), offset)

    def poll(self, wait: int, most: int) -> dict[int, list[Any]]:
        """Return up to `most` messages by partition, after `wait` ms at the latest.

        Raises
        ------
        OutOfReachError
            If an offset is not there.
        """
        with broker_errors(self.settings):
            try:
                found = self.consumer.poll(timeout_ms=wait, max_records=most)
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                raise OutOfReachError from error
        return {each.partition: records for each, records in found.items()}

    def position(self, partition: int) -> int:
        """Return the offset that will be read next, past marks of transactions."""
        with broker_errors(self.settings):
            return int(self.consumer.position(TopicPartition(self.topic, partition), timeout_ms=PATIENCE) or 0)

    def close(self) -> None:
        """Let go of the broker."""
        self.consumer.close(autocommit=False)
        self.admin.close()
