"""Parts die under traffic; after each fault all that was sent is served as the backfill computes it."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from kafka.admin import KafkaAdminClient
from redis import Redis

from tests.live.conftest import NewWorld
from tests.live.small_disk import SmallDisk
from tests.live.world import World, wait
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.redis_server import RedisServer

RATE = 100.0  # payments/s
PAUSE = 30.0  # s that Redis sleeps


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Return the folder of the world's checkpoints; a test asks for it before the world, whose jobs end first."""
    disk = SmallDisk(tmp_path / "checkpoints")
    yield disk
    disk.free()
    disk.end()


@contextmanager
def traffic(world: World, seconds: float) -> Iterator[None]:
    """Send payments from before the block until after it."""
    thread = Thread(target=world.send, args=(int(RATE * seconds), RATE))
    thread.start()
    time.sleep(1)
    try:
        yield
    finally:
        thread.join()


def survives(world: World, fault: Callable[[], object], seconds: float = 6.0) -> None:
    """Let something happen under traffic; then all must be there."""
    with traffic(world, seconds):
        fault()
    world.settle()
    world.require_parity()
    world.require_account()


def survives_a_full_disk(world: World, disk: SmallDisk, cluster: FlinkCluster) -> None:
    """Let no checkpoint complete under traffic: all is served nevertheless, and how old the last one is can be seen."""
    job = world.job()

    def checkpoints(what: str) -> int:
        return int(cluster.ask(f"/jobs/{job.job_id}/checkpoints")["counts"][what])

    def failing(before: int) -> bool:
        disk.fill()
        return checkpoints("failed") > before

    failed = checkpoints("failed")
    wait(lambda: failing(failed))
    completed, messages, since = checkpoints("completed"), world.messages, time.time()
    with disk.kept_full():
        with traffic(world, 6.0):
            wait(lambda: checkpoints("failed") >= failed + 4)
        wait(world.applied)
        world.require_parity()
        elapsed = time.time() - since
        with world.control() as control:
            status, waiting = control.status(job), sum(control.lag(job).values())
        assert checkpoints("completed") == completed and waiting == world.messages - messages
    assert status is not None and status.state == "RUNNING"
    assert status.checkpoint_age is not None and status.checkpoint_age > elapsed
    disk.free()
    world.settle()
    world.require_parity()
    world.require_account()
    assert world.job().job_ids == job.job_ids


def survives_a_writer_from_the_past(world: World, late: str, redis: RedisServer) -> None:
    """Stop one of two materialisers before a write until the other has its partitions; then both write the same tiles.

    Redis lets writes wait from when none is under way, so what the two wait with is a write of rows, which is lost with
    its connection, and sent again by the one that was stopped when its rows are old.
    """
    process, epoch = world.processes[late], world.job().epoch

    def rejected() -> int:
        with world.control() as control:
            return control.store.written(epoch).rejected

    def fight() -> None:
        wait(lambda: client.info("clients")["blocked_clients"] >= 2)
        process.signal(signal.SIGSTOP)
        client.client_kill_filter(_type="normal", skipme=True)
        client.client_unpause()
        world.settle()  # by the other
        before = rejected()
        process.signal(signal.SIGCONT)
        wait(lambda: rejected() > before)

    step, world.payments.step = world.payments.step, 200  # ms: the same tiles all the time
    with Redis.from_url(redis.address) as client:
        client.client_pause(20_000, all=False)  # ms at most
        survives(world, fight, 9.0)
    world.payments.step = step


def test_every_part_may_die(
    small_disk: SmallDisk, new_world: NewWorld, broker: Broker, flink_cluster: FlinkCluster, redis_server: RedisServer
) -> None:
    world = new_world("redis")
    one = world.start("materialize", "materialize")
    world.start("run", "stream", "run")
    wait(world.read_by, told=(world.folder / "run.log").read_text)

    def task_manager() -> None:
        flink_cluster.kill_task_manager()
        flink_cluster.start_task_manager()

    def job_manager() -> None:
        assert flink_cluster.job_manager is not None
        flink_cluster.job_manager.kill()
        flink_cluster.start_job_manager()

    def kafka() -> None:
        broker.kill()
        broker.start()

    def redis() -> None:
        redis_server.kill()
        time.sleep(1)
        redis_server.start()

    def paused_redis() -> None:
        assert redis_server.process is not None
        redis_server.process.signal(signal.SIGSTOP)
        time.sleep(PAUSE)
        redis_server.process.signal(signal.SIGCONT)

    def materialiser() -> None:
        one.kill()
        world.start("materialize-2", "materialize")
        world.start("materialize-3", "materialize")

    def partition() -> None:
        client = KafkaAdminClient(**world.settings.kafka.client())
        client.create_partitions({world.topic: world.partitions + 1})
        client.close()

    def burst() -> None:
        world.send(8_000, 10 * RATE)

    survives(world, task_manager)
    survives(world, materialiser)
    survives(world, redis)
    survives(world, paused_redis, PAUSE + 2)
    survives_a_writer_from_the_past(world, "materialize-2", redis_server)
    survives_a_full_disk(world, small_disk, flink_cluster)
    survives(world, kafka)
    survives(world, job_manager)
    survives(world, partition)
    survives(world, burst, 9.0)
    copies = world.payments.newest(10_000)
    assert len(copies) == 10_000
    survives(world, lambda: world.send_again(copies))
    assert "resuming" in (world.folder / "run.log").read_text()
