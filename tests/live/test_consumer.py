"""The materialiser's consumer over a real broker and a real store, while parts of them are away."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from redis import Redis

from tests.live.world import Payments, World, unique, wait
from unskew.online.live.broker import Broker
from unskew.online.live.consumer import LIFE, TileConsumer
from unskew.online.live.control import now
from unskew.online.live.jobs import Job, new_job
from unskew.online.live.metrics import Metrics
from unskew.online.live.outbox import Message
from unskew.online.live.redis_server import RedisServer
from unskew.online.live.replay import produce
from unskew.online.live.topics import TILES, delete_topics, make_topics
from unskew.online.stores import open_store
from unskew.pipelines.errors import EngineError

NOWHERE = "127.0.0.1:1"
PARTITIONS = 4  # of the topics of both views together
OF_NO_STREAM = Message(now(), None, b"99,")  # the broker deletes what is as old as its topic keeps rows


@pytest.fixture
def world(tmp_path: Path, broker: Broker, redis_server: RedisServer) -> World:
    """A world without a cluster; its store is empty."""
    with Redis.from_url(redis_server.address) as client:
        client.flushall()
    return World(tmp_path, broker.address, NOWHERE, redis_server.address, unique(), Payments(7))


@pytest.fixture
def job(world: World) -> Job:
    return recorded(world)


def recorded(world: World) -> Job:
    """Record a job that somebody else runs."""
    found = new_job(world.plan, "payments", world.settings, "", {}, None, now()).as_("running")
    make_topics(world.settings.kafka, dict.fromkeys(found.row_topics, world.settings.kafka.partitions), TILES)
    with open_store(world.settings.store) as store:
        store.put_job(found.epoch, found.to_json())
    return found


@contextmanager
def running(world: World) -> Iterator[TileConsumer]:
    """Give a consumer that runs in a thread of its own."""
    with open_store(world.settings.store) as store:
        consumer, stop = TileConsumer(world.plan, store, world.settings.kafka, Metrics()), threading.Event()
        thread = threading.Thread(target=consumer.run, args=(stop,))
        thread.start()
        try:
            yield consumer
        finally:
            stop.set()
            thread.join()


def refused() -> NoReturn:
    message = "the broker is away"
    raise EngineError(message)


def lag(consumer: TileConsumer) -> list[float]:
    """Return what Prometheus is told of each partition."""
    (family,) = (each for each in consumer.metrics.registry.collect() if each.name == "unskew_consumer_lag")
    return [each.value for each in family.samples]


def test_what_waits_is_told_while_the_store_is_down(
    world: World, job: Job, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        LIFE, "session_timeout_ms", 60_000
    )  # no partition changes hands while nobody can say where it is
    with running(world) as one:
        wait(lambda: lag(one) == [0.0] * PARTITIONS)
        with running(world) as other:
            wait(lambda: len(lag(one)) == len(lag(other)) == PARTITIONS // 2)  # what the other has is its to tell
        wait(lambda: lag(one) == [0.0] * PARTITIONS)
        redis_server.kill()
        try:
            produce(world.settings.kafka, job.topics["cards"], [OF_NO_STREAM] * 500)
            wait(lambda: sum(lag(one)) == 500)
        finally:
            redis_server.start()
        wait(lambda: lag(one) == [0.0] * PARTITIONS)


def test_a_topic_that_was_deleted_is_not_asked_for_any_more(
    world: World, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    recorded(world)
    with running(world) as one, open_store(world.settings.store) as store:
        wait(lambda: lag(one) == [0.0] * 2 * PARTITIONS)
        store.put_job(job.epoch, job.as_("replaced").to_json())
        delete_topics(world.settings.kafka, job.row_topics)
        wait(lambda: lag(one) == [0.0] * PARTITIONS)
        caplog.clear()
        time.sleep(3)
        assert not [each for each in caplog.messages if "not found" in each]


def test_a_layout_that_the_store_has_lost_is_written_again(world: World, job: Job) -> None:
    with running(world), open_store(world.settings.store) as store:

        def laid_out() -> bool:
            return all(store.content("open", job.epoch, view) for view in job.views)

        wait(laid_out)
        with Redis.from_url(world.store_url) as client:
            client.delete("unskew:content")
        assert not laid_out()
        wait(laid_out)


def test_a_member_that_cannot_join_anew_stays_in_the_group(
    world: World, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unskew.online.live.consumer.WATCH", 0.0)
    monkeypatch.setattr("unskew.online.live.consumer.PATIENCE", 0.0)
    with open_store(world.settings.store) as store:
        consumer = TileConsumer(world.plan, store, world.settings.kafka, Metrics())
        produce(world.settings.kafka, job.topics["cards"], [OF_NO_STREAM])
        with monkeypatch.context() as patch:
            patch.setattr(consumer, "connected", refused)
            consumer.look()
            with pytest.raises(EngineError, match="away"):
                consumer.look()
        old = consumer.client
        consumer.look()
        assert consumer.client is not old
        wait(lambda: bool(consumer.client.poll(100)))
        consumer.client.close()


def test_a_join_that_outlasts_its_poll_is_finished(world: World) -> None:
    with open_store(world.settings.store) as store:
        consumer = TileConsumer(world.plan, store, world.settings.kafka, Metrics())
        for jobs in range(1, 7):
            recorded(world)
            consumer.look()

            def joined(jobs: int = jobs) -> bool:
                for _ in range(100):
                    consumer.client.poll(1)
                return len(consumer.client.assignment()) == jobs * PARTITIONS

            wait(joined)
        consumer.client.close()
