"""Topics of Kafka: their names, positions in them, and what the broker is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from unskew.online.live.settings import KafkaSettings
from unskew.pipelines.backends.flink_ends import LARGEST_ROW, PARTITIONS
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.plan import SourcePlan, ViewPlan
from unskew.pipelines.timegrid import DAY

COORDINATOR, TICK = 10.0, 0.2  # s that a broker has to know its groups after it has started; s between two questions
PRINT = 12  # digits of a fingerprint in a name
KEPT = DAY  # how long rows of the stream wait for a materialiser, ms
TILES = {"retention.ms": str(KEPT), "max.message.bytes": str(LARGEST_ROW)}


def position(sequence: int) -> tuple[int, int]:
    """Return the partition and the offset of an event's sequence.

    Examples
    --------
    >>> position(7 * 65536 + 3)
    (3, 7)
    """
    offset, partition = divmod(sequence, PARTITIONS)
    return partition, offset


def sequence(partition: int, offset: int) -> int:
    """Return one number for a place in a topic.

    Examples
    --------
    >>> sequence(3, 7) == 7 * 65536 + 3
    True
    """
    return offset * PARTITIONS + partition


def view_topic(view: ViewPlan, epoch: str) -> str:
    """Return the topic of a view's rows, of one job."""
    return f"unskew.{view.name}.{view.fingerprint[:PRINT]}.{epoch}"


def fates_topic(source: str, epoch: str) -> str:
    """Return the topic of the messages that are in no tile."""
    return f"unskew.{source}.fates.{epoch}"


def topic_of(source: SourcePlan) -> str:
    """Return a source's topic.

    Raises
    ------
    InputError
        If it declares none, or no column for the arrival, which is the message's timestamp.
    """
    missing = 'topic="..."' if not source.topic else 'arrival="..."' if source.arrival is None else ""
    if missing:
        message = f"source `{source.name}` is not read from Kafka; declare {missing} in its EventSource"
        raise InputError(message)
    return source.topic


@contextmanager
def broker_errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn errors of Kafka's client into one line; that an offset is not there any more is for the caller."""
    try:
        yield
    except OffsetOutOfRangeError:
        raise
    except KafkaError as error:
        raise broker_failure(settings, str(error) or type(error).__name__) from error


def broker_failure(settings: KafkaSettings, said: str) -> EngineError:
    """Return the error of a broker that a client could not work with."""
    # who is refused is not told so by the client: it tries again until its time is over
    login = ": sasl_mechanism, sasl_username, sasl_password" if settings.security_protocol.startswith("SASL") else ""
    return EngineError(
        f"kafka at `{settings.bootstrap_servers}` failed: `{said}`; check that it runs, and [kafka] of the settings{login}"
    )


@contextmanager
def administration(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """Give a client that makes and deletes topics."""
    with broker_errors(settings):
        client = KafkaAdminClient(**settings.client())
        try:
            yield client
        finally:
            client.close()


@contextmanager
def reading(settings: KafkaSettings, **options: object) -> Iterator[KafkaConsumer]:
    """Give a consumer of no group, to ask for offsets or, with further options, to read."""
    with broker_errors(settings):
        client = KafkaConsumer(**settings.client(), enable_auto_commit=False, **options)
        try:
            yield client
        finally:
            client.close()


def make_topics(settings: KafkaSettings, names: Mapping[str, int], options: Mapping[str, str]) -> None:
    """Make topics, each of so many partitions; those that exist stay."""
    with administration(settings) as client:
        for name, partitions in names.items():
            wanted = {
                "num_partitions": partitions,
                "replication_factor": settings.replication,
                "configs": dict(options),
            }
            try:
                client.create_topics({name: wanted}, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                pass


def delete_topics(settings: KafkaSettings, names: list[str]) -> None:
    """Delete topics; those that are not there are fine."""
    with administration(settings) as client:
        for each in names:
            try:
                client.delete_topics([each])
            except UnknownTopicOrPartitionError:
                pass


def partitions_of(client: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic, ascending.

    Raises
    ------
    InputError
        If there is no such topic.
    """
    found = client.partitions_for_topic(topic)
    if not found:
        message = f"topic `{topic}` does not exist; make it, or correct the source's `topic`"
        raise InputError(message)
    return [TopicPartition(topic, each) for each in sorted(found)]


def end_offsets(settings: KafkaSettings, topic: str) -> dict[int, int]:
    """Return for each partition the offset that its next message will have."""
    return ends_of(settings, [topic])[topic]


def ends_of(settings: KafkaSettings, topics: Sequence[str]) -> dict[str, dict[int, int]]:
    """Return `end_offsets` of several topics."""
    found: dict[str, dict[int, int]] = {each: {} for each in topics}
    with reading(settings) as client:
        places = [each for name in topics for each in partitions_of(client, name)]
        for place, offset in client.end_offsets(places).items():
            found[place.topic][place.partition] = offset
    return found


def offsets_since(settings: KafkaSettings, topic: str, instant: int | None) -> dict[int, int]:
    """Return for each partition the first offset whose message has a timestamp of at least `instant` (ms).

    The end where there is none; the first that the broker still has where `instant` is None.
    """
    with reading(settings) as client:
        own = partitions_of(client, topic)
        first = client.beginning_offsets(own)
        if instant is None:
            return {each.partition: first[each] for each in own}
        ends = client.end_offsets(own)  # first: a message that comes in between is read
        found = client.offsets_for_times(dict.fromkeys(own, max(instant, 0)))
    return {each.partition: ends[each] if found[each] is None else found[each].offset for each in own}


def committed(settings: KafkaSettings, group: str, topic: str) -> dict[int, int]:
    """Return for each partition the next offset that a group will read, by its last commit."""
    last = time.monotonic() + COORDINATOR
    with administration(settings) as client:
        while True:
            try:
                found = client.list_group_offsets({group: None}).get(group, {})
                break
            except GroupIdNotFoundError:  # it has committed nothing yet
                return {}
            except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError):  # the broker has just started
                if time.monotonic() > last:
                    raise
                time.sleep(TICK)
    return {each.partition: place.offset for each, place in found.items() if each.topic == topic}


def partition_count(settings: KafkaSettings, topic: str) -> int:
    """Return how many partitions a topic has."""
    with reading(settings) as client:
        return len(partitions_of(client, topic))


def topic_id(settings: KafkaSettings, topic: str) -> str:
    """Return the broker's id of a topic.

    Raises
    ------
    InputError
        If there is none.
    """
    with administration(settings) as client:
        (found,) = client.describe_topics([topic])
    if found["error_code"]:
        message = f"topic `{topic}` does not exist; make it, or correct the source's `topic`"
        raise InputError(message)
    return str(found["topic_id"])
