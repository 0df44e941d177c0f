"""What is produced: where each message goes, in which order that is told, and what is said of one that cannot be taken."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.live.world import unique
from unskew.online.live.broker import Broker
from unskew.online.live.outbox import IN_FLIGHT, LARGEST, Message, Outbox
from unskew.online.live.processes import HOST, free_port
from unskew.online.live.replay import KEPT
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import make_topics
from unskew.pipelines.errors import EngineError

PARTITIONS = 5


@pytest.fixture
def settings(broker: Broker) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=broker.address)


@pytest.fixture
def topic(settings: KafkaSettings) -> str:
    name = unique()
    make_topics(settings, {name: PARTITIONS}, KEPT)
    return name


def keyed(count: int) -> list[Message]:
    return [Message(1_700_000_000_000 + each, f"key {each}".encode(), b"%d" % each) for each in range(count)]


def produced(settings: KafkaSettings, topic: str, messages: list[Message]) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    with Outbox(settings, topic, lambda *place: told.append(place)) as outbox:
        for each in messages:
            outbox.send(each, each.arrival)
    return told


def read(settings: KafkaSettings, topic: str, count: int) -> dict[tuple[int, int], tuple[int, bytes | None, bytes]]:
    """Return timestamp, key and value of each message by its place."""
    places = [TopicPartition(topic, each) for each in range(PARTITIONS)]
    consumer = KafkaConsumer(**settings.client(), group_id=None)
    consumer.assign(places)
    consumer.seek_to_beginning()
    found: dict[tuple[int, int], tuple[int, bytes | None, bytes]] = {}
    last = time.monotonic() + 60.0
    while len(found) < count and time.monotonic() < last:
        for place, records in consumer.poll(500).items():
            found |= {(place.partition, each.offset): (each.timestamp, each.key, each.value) for each in records}
    consumer.close()
    return found


def test_each_message_is_told_of_in_turn_with_its_place(settings: KafkaSettings, topic: str) -> None:
    messages = keyed(IN_FLIGHT + 5_000)  # more than may wait
    told = produced(settings, topic, messages)
    found = read(settings, topic, len(messages))
    assert [found[place] for place in told] == [(each.arrival, each.key, each.value) for each in messages]
    assert len(found) == len(messages)


def test_a_key_goes_where_kafka_python_sends_it(settings: KafkaSettings, topic: str) -> None:
    messages = keyed(500)
    told = produced(settings, topic, messages)
    producer = KafkaProducer(**settings.client())
    sent = [producer.send(topic, each.value, each.key) for each in messages]
    producer.close()
    assert [partition for partition, _ in told] == [each.get().partition for each in sent]
    assert {partition for partition, _ in told} == set(range(PARTITIONS))


def test_a_partition_that_is_said_takes_the_key_s_place(settings: KafkaSettings, topic: str) -> None:
    told = produced(settings, topic, [each._replace(partition=3) for each in keyed(20)])
    assert told == [(3, offset) for offset in range(20)]


@pytest.mark.parametrize(("size", "said"), [(2 << 20, "Message size too large"), (LARGEST + 1, "too large")])
def test_a_message_that_is_too_large_is_refused(settings: KafkaSettings, topic: str, size: int, said: str) -> None:
    """By the broker, whose limit is 1 MiB, or by the client."""
    messages = [*keyed(3), Message(1, b"key", b"x" * size)]
    with pytest.raises(EngineError, match=f"kafka at `{settings.bootstrap_servers}` failed: `.*{said}"):
        produced(settings, topic, messages)
    assert len(read(settings, topic, 3)) == 3


def test_what_was_sent_before_an_error_arrives(settings: KafkaSettings, topic: str) -> None:
    def broken() -> Iterator[Message]:
        yield from keyed(200)
        raise InterruptedError

    with pytest.raises(InterruptedError), Outbox(settings, topic, lambda *_: None) as outbox:
        for each in broken():
            outbox.send(each, each.arrival)
    assert len(read(settings, topic, 200)) == 200


def test_no_broker_at_all() -> None:
    address = f"{HOST}:{free_port()}"
    began = time.monotonic()
    with pytest.raises(EngineError, match=f"kafka at `{address}` failed: `.*; check that it runs"):
        produced(KafkaSettings(bootstrap_servers=address), "none", keyed(1))
    assert time.monotonic() - began < 60


def test_a_broker_that_dies_in_the_middle_gets_the_rest_once(tmp_path: Path, jars: Path) -> None:
    assert jars.is_dir()
    with Broker(tmp_path / "own") as broker:
        settings = KafkaSettings(bootstrap_servers=broker.address)
        make_topics(settings, {"dying": PARTITIONS}, KEPT)
        killed = threading.Event()

        def messages() -> Iterator[Message]:
            for number, each in enumerate(keyed(6_000)):
                if number == 3_000:
                    broker.kill()
                    killed.set()
                yield each

        def again() -> None:
            killed.wait()
            time.sleep(1.0)
            broker.start()

        reviver = threading.Thread(target=again)
        reviver.start()
        told: list[tuple[int, int]] = []
        with Outbox(settings, "dying", lambda *place: told.append(place)) as outbox:
            for each in messages():
                outbox.send(each, each.arrival)
        reviver.join()
        found = read(settings, "dying", 6_000)
        assert sorted(int(value) for _, _, value in found.values()) == list(range(6_000))
        assert [int(found[place][2]) for place in told] == list(range(6_000))
