"""Parts die under traffic; after each fault all that was sent is served as the backfill computes it."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

from kafka.admin import KafkaAdminClient

from tests.live.conftest import NewWorld
from tests.live.world import World, wait
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.redis_server import RedisServer

RATE = 100.0  # payments/s


@contextmanager
def traffic(world: World, seconds: float) -> Iterator[None]:
    """Send payments from before the block until after it."""
    thread = Thread(target=world.send, args=(int(RATE * seconds), RATE))
    thread.start()
    time.sleep(1)
    yield
    thread.join()


def survives(world: World, fault: Callable[[], object], seconds: float = 6.0) -> None:
    """Let something happen under traffic; then all must be there."""
    with traffic(world, seconds):
        fault()
    world.settle()
    world.require_parity()
    world.require_account()


def test_every_part_may_die(
    new_world: NewWorld, broker: Broker, flink_cluster: FlinkCluster, redis_server: RedisServer
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
        time.sleep(8)
        redis_server.process.signal(signal.SIGCONT)

    def materialiser() -> None:
        one.kill()
        world.start("materialize-2", "materialize")
        world.start("materialize-3", "materialize")

    def partition() -> None:
        client = KafkaAdminClient(**world.settings.kafka.client())
        client.create_partitions({world.topic: world.partitions + 1})
        client.close()

    survives(world, task_manager)
    survives(world, materialiser)
    survives(world, redis)
    survives(world, paused_redis, 10.0)
    survives(world, kafka)
    survives(world, job_manager)
    survives(world, partition)
    survives(world, lambda: world.send_again(world.send(2000)))  # a burst, and all of it once more
    assert "resuming" in (world.folder / "run.log").read_text()
