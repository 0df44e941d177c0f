"""Parts die under traffic; after each fault all that was sent is served as the backfill computes it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest
from kafka.admin import KafkaAdminClient
from redis import Redis

from tests.live.conftest import NewWorld
from tests.live.serving import all_answered, checked, reads, serve
from tests.live.small_disk import SmallDisk
from tests.live.world import World, wait
from tests.servers import paused
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.processes import HOST, free_port
from unskew.online.live.redis_server import RedisServer
from unskew.pipelines.folders import read_files

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
        with paused(process):
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_unpause()
            world.settle()  # by the other
            before = rejected()
        wait(lambda: rejected() > before)

    step, world.payments.step = world.payments.step, 200  # ms: the same tiles all the time
    with Redis.from_url(redis.address) as client:
        client.client_pause(20_000, all=False)  # ms at most
        survives(world, fight, 9.0)
    world.payments.step = step


def one_job_runs(world: World) -> None:
    """Look for the job on the cluster: it was resumed, and no other was left."""
    assert any("resuming" in (world.folder / f"{each}.log").read_text() for each in ("run", "run-2"))
    with world.control() as control:
        job = control.job("payments")
        found = {
            job_id: each
            for job_id, each in control.cluster.running().items()
            if each.startswith(f"{world.set}-payments-")
        }
    assert found == {job.job_id: job.epoch}


def all_that_was_served_is_explained(world: World, statuses: Sequence[int]) -> None:
    """Compare what was answered in the middle of all faults with the archive, which has every message once."""
    world.processes["serve-2"].end()  # what waits is written
    world.processes["archive-2"].end()
    found = checked(world)
    assert found["unexplained"] == 0, found
    assert found["causes"].keys() <= {"in_flight", "late"}
    assert set(statuses) <= {200, 503, 0}, "0: nobody answered"
    assert found["probes"] > 2 * statuses.count(200), "of six entities three are sampled; what died took some along"
    assert read_files(world.folder / "archive").num_rows == world.messages - world.poison


@dataclass
class Faults:
    """What happens to the parts of a world."""

    world: World
    broker: Broker
    cluster: FlinkCluster
    redis_server: RedisServer
    port: int = field(default_factory=free_port)  # of the feature server

    def start(self) -> str:
        """Start the parts; return the feature server's address."""
        self.world.start("materialize", "materialize")
        self.world.start("archive", "archive")
        for name in ("run", "run-2"):  # two by mistake: one job comes of it, now and after each loss
            self.world.start(name, "stream", "run")
        wait(self.world.read_by, told=(self.world.folder / "run.log").read_text)
        return serve(self.world, port=self.port)

    def task_manager(self) -> None:
        self.cluster.kill_task_manager()
        self.cluster.start_task_manager()

    def job_manager(self) -> None:
        assert self.cluster.job_manager is not None
        self.cluster.job_manager.kill()
        self.cluster.start_job_manager()

    def kafka(self) -> None:
        self.broker.kill()
        self.broker.start()

    def redis(self) -> None:
        self.redis_server.kill()
        time.sleep(1)
        self.redis_server.start()

    def paused_redis(self) -> None:
        assert self.redis_server.process is not None
        with paused(self.redis_server.process):
            time.sleep(PAUSE)

    def materialiser(self) -> None:
        self.world.processes["materialize"].kill()
        self.world.start("materialize-2", "materialize")
        self.world.start("materialize-3", "materialize")

    def archiver(self) -> None:
        self.world.processes["archive"].kill()
        self.world.start("archive-2", "archive")

    def servers(self) -> None:
        """Restart two servers one after the other, and kill one, under the load of clients of both."""
        first, second = f"http://{HOST}:{self.port}", serve(self.world, "other")
        with all_answered(self.world, [first, second]):
            self.world.processes["serve"].end()
            serve(self.world, "serve-1", self.port)
            self.world.processes["other"].end()
            serve(self.world, "other-1", int(second.rpartition(":")[2]))
            self.world.processes["serve-1"].kill()
            serve(self.world, "serve-2", self.port)
        self.world.processes["other-1"].end()

    def partition(self) -> None:
        client = KafkaAdminClient(**self.world.settings.kafka.client())
        client.create_partitions({self.world.topic: self.world.partitions + 1})
        client.close()

    def burst(self) -> None:
        self.world.send(8_000, 10 * RATE)

    def copies(self) -> None:
        found = self.world.payments.newest(10_000)
        assert len(found) == 10_000
        self.world.send_again(found)


def test_every_part_may_die(
    small_disk: SmallDisk, new_world: NewWorld, broker: Broker, flink_cluster: FlinkCluster, redis_server: RedisServer
) -> None:
    world = new_world("redis")
    faults = Faults(world, broker, flink_cluster, redis_server)
    with reads(world, faults.start(), pause=1.0) as statuses:
        survives(world, faults.task_manager)
        survives(world, faults.materialiser)
        survives(world, faults.archiver)
        survives(world, faults.servers, 9.0)
        survives(world, world.send_poison)
        survives(world, faults.redis)
        survives(world, faults.paused_redis, PAUSE + 2)
        survives_a_writer_from_the_past(world, "materialize-2", redis_server)
        survives_a_full_disk(world, small_disk, flink_cluster)
        survives(world, faults.kafka)
        survives(world, faults.job_manager)
        survives(world, faults.partition)
        survives(world, faults.burst, 9.0)
        survives(world, faults.copies)
    one_job_runs(world)
    all_that_was_served_is_explained(world, statuses)
