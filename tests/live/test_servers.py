"""The servers of a laptop, for real: messages, a job, crashes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from redis import Redis

from tests.live.flink_sql import kafka_table, running_job
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.redis_server import RedisServer


def make_topics(broker: Broker, *names: str) -> None:
    client = KafkaAdminClient(bootstrap_servers=broker.address)
    client.create_topics([NewTopic(each, num_partitions=1, replication_factor=1) for each in names])
    client.close()


def produce(broker: Broker, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.address, acks="all")
    for each in values:
        producer.send(topic, each, timestamp_ms=1_700_000_000_000)
    producer.flush()
    producer.close()


def consume(broker: Broker, topic: str, count: int, patience: float = 60.0) -> list[tuple[int, bytes]]:
    """Return timestamps and values of a topic from its beginning, once there are `count`."""
    consumer = KafkaConsumer(bootstrap_servers=broker.address, group_id=None)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek_to_beginning()
    found: list[tuple[int, bytes]] = []
    last = time.monotonic() + patience
    while len(found) < count and time.monotonic() < last:
        for records in consumer.poll(500).values():
            found += [(each.timestamp, each.value) for each in records]
    consumer.close()
    return found


def wait_until(holds: Callable[[], bool], patience: float = 60.0) -> None:
    last = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < last
        time.sleep(0.2)


def test_messages_outlive_a_killed_broker(broker: Broker) -> None:
    make_topics(broker, "outlive")
    produce(broker, "outlive", [b"one"])
    assert consume(broker, "outlive", 1) == [(1_700_000_000_000, b"one")]
    broker.kill()
    assert not broker.alive()
    broker.start()
    assert consume(broker, "outlive", 1) == [(1_700_000_000_000, b"one")]
    produce(broker, "outlive", [b"two"])
    assert [value for _, value in consume(broker, "outlive", 2)] == [b"one", b"two"]


def test_unknown_topics_are_not_made(broker: Broker) -> None:
    client = KafkaAdminClient(bootstrap_servers=broker.address)
    assert "unheard-of" not in client.list_topics()
    client.close()
    consumer = KafkaConsumer(bootstrap_servers=broker.address)
    assert not consumer.partitions_for_topic("unheard-of")
    assert "unheard-of" not in consumer.topics()
    consumer.close()


def test_a_job_goes_on_without_a_task_manager(broker: Broker, flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    make_topics(broker, "job-in", "job-out")
    tables = [kafka_table("read", "job-in", broker.address), kafka_table("written", "job-out", broker.address)]
    insert = "INSERT INTO written SELECT k, v * 2 FROM `read`"
    settings = {"parallelism.default": "1", "execution.checkpointing.interval": "1s"}
    with running_job(flink_cluster, tmp_path, tables, [insert], settings):
        produce(broker, "job-in", [json.dumps({"k": "a", "v": each}).encode() for each in range(100)])
        first = consume(broker, "job-out", 100, 120.0)
        assert {json.loads(value)["v"] for _, value in first} == set(range(0, 200, 2))
        (job,) = [each["jid"] for each in flink_cluster.ask("/jobs/overview")["jobs"] if each["state"] == "RUNNING"]
        wait_until(lambda: flink_cluster.ask(f"/jobs/{job}/checkpoints")["counts"]["completed"] > 0)
        flink_cluster.kill_task_manager()
        flink_cluster.kill_task_manager()  # one of the two ran it
        flink_cluster.start_task_manager()
        produce(broker, "job-in", [json.dumps({"k": "b", "v": each}).encode() for each in range(100, 200)])
        wait_until(
            lambda: (
                {json.loads(value)["v"] for _, value in consume(broker, "job-out", 200, 5.0)} == set(range(0, 400, 2))
            )
        )
        flink_cluster.cancel(job)
        wait_until(lambda: flink_cluster.ask(f"/jobs/{job}")["state"] == "CANCELED")
    flink_cluster.start_task_manager()
    assert len(flink_cluster.registered()) >= 2
    assert list((flink_cluster.folder / "checkpoints").iterdir())


def test_redis_keeps_what_was_set(redis_server: RedisServer) -> None:
    port = redis_server.port
    with Redis(port=port) as client:
        client.set("test_servers", "kept")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    redis_server.stop()
    redis_server.start()
    with Redis(port=port) as client:
        assert client.get("test_servers") == b"kept"
        client.delete("test_servers")


@pytest.mark.parametrize("attribute", ["broker", "flink_cluster", "redis_server"])
@pytest.mark.usefixtures("servers_folder")  # says with whom it shares them
def test_servers_can_be_watched(attribute: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(attribute)
    assert server.alive()
    for each in server.processes():
        each.watch(0.01)
