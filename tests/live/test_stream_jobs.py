"""The job of a source on a cluster: from Kafka to a store, and what is served is what the backfill computes."""

import json
import os
import time
from dataclasses import asdict

import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from redis import Redis

from tests.live.conftest import NewWorld
from tests.live.world import World, wait
from unskew.online.live.beginnings import starting_offsets
from unskew.online.live.control import now
from unskew.online.live.job_report import Fates, gauges
from unskew.online.live.jobs import Job, new_job
from unskew.online.live.redis_server import RedisServer
from unskew.online.live.supervision import Supervisor
from unskew.online.live.topics import administration, end_offsets, topic_id
from unskew.online.read import FeatureReader
from unskew.online.stores import open_store
from unskew.pipelines.errors import EngineError, InputError


def downgrade(world: World) -> None:
    """Go back to older definitions, while their reads go on: what the newer ones compute beside is nothing to them."""
    world.define()
    asked = [{"card": each["card"], "shop": each["shop"]} for each in world.payments.sent[-50:]]
    with open_store(world.settings.store) as store:
        reader, at = FeatureReader(world.plan, store), world.payments.now + 1
        before = reader.read(asked, at).table()
        process = world.start("downgrade", "stream", "upgrade")

        def over() -> bool:
            assert reader.read(asked, at).table() == before
            return not process.alive()

        wait(over, told=(world.folder / "downgrade.log").read_text)
        assert reader.read(asked, at).table() == before


def a_topic_made_again_is_refused(world: World) -> None:
    """The topic is made again, and begins late."""
    with administration(world.settings.kafka) as client:
        client.delete_topics([world.topic])
        wait(lambda: world.topic not in client.list_topics())
        client.create_topics({world.topic: {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)
    with world.control() as control, pytest.raises(EngineError, match=r"was made again .* `unskew replay` the archive"):
        control.replacement("payments", forced=True)
    world.produce([(b"1", b"{}", world.payments.now)] * 9)
    (full,) = (partition for partition, end in end_offsets(world.settings.kafka, world.topic).items() if end)
    with administration(world.settings.kafka) as client:
        client.delete_records({TopicPartition(world.topic, full): 5})
    with (
        world.control() as control,
        pytest.raises(EngineError, match=r"no longer has partition .* but from offset `5`"),
    ):
        starting_offsets(control.settings, control.plan.source("payments"), None)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_what_is_served_is_what_the_backfill_computes(new_world: NewWorld, kind: str) -> None:
    world = new_world(kind)
    world.start("materialize", "materialize")
    assert "reads 0 messages and those to come" in world.run("stream", "submit", "--no-wait")
    with world.control() as control:
        with pytest.raises(InputError, match=r"has the job .* \(running\)"):
            control.submit("payments")
    first = world.send(1500)
    world.send_poison()
    world.settle()
    world.flip()
    world.require_parity()
    world.require_account()

    assert "stopped" in world.run("stream", "stop")  # a savepoint, and on from there
    world.send(500)
    world.send_again(first[-300:])
    an_old_checkpoint_is_refused(world)
    assert "goes on as job" in world.run("stream", "resume")
    assert len(world.job().job_ids) == 2
    world.settle()
    world.require_parity()
    world.require_account()
    what_commands_tell(world)
    what_prometheus_is_told(world, duplicates=300)


def an_old_checkpoint_is_refused(world: World) -> None:
    """State that has expired meanwhile is not gone on with; then it is made young again."""
    complete = list((world.folder / "checkpoints").rglob("_metadata"))
    ages = {each: each.stat().st_mtime for each in complete}
    for each in complete:
        os.utime(each, (0, 0))
    assert "days old, but state lives 7 days without a job; run `unskew stream rebuild`" in world.run(
        "stream", "resume", refused=True
    )
    for each, age in ages.items():
        os.utime(each, (age, age))


def what_commands_tell(world: World) -> None:
    nowhere = {**os.environ, "UNSKEW_FLINK_TARGET": "127.0.0.1:1"}
    (away,) = json.loads(world.run("stream", "status", "--json", environment=nowhere))
    (there,) = json.loads(world.run("stream", "status", "--json", "--target", world.cluster, environment=nowhere))
    assert (away["cluster"], there["cluster"], there["recorded"]) == ("unknown", "RUNNING", "running")
    assert there["messages_waiting"] == 0 and set(there["events_applied"].values()) == {world.sound()}
    with world.control() as control:
        account = control.account(control.job("payments"))
    assert json.loads(world.run("stream", "account", "--json")) == asdict(account)
    assert f"applied {account.applied}" in world.run("stream", "account")


def what_prometheus_is_told(world: World, duplicates: int) -> None:
    with world.control() as control:
        account = control.account(control.job("payments"))
        wait(
            lambda: gauges(control, "payments").get("unskew_job_duplicates_total") == duplicates
        )  # since it was resumed
        found = gauges(control, "payments")
        told = Fates(control, "payments")()
    assert found["unskew_job_running"] == 1
    assert found["unskew_job_messages_waiting"] == 0
    assert found["unskew_checkpoint_age_seconds"] >= 0
    assert (told["applied", ""], told["late", ""]) == (account.applied, account.late)
    assert {reason: n for (fate, reason), n in told.items() if fate == "quarantined"} == account.reasons


def test_other_definitions_take_over_when_they_have_caught_up(new_world: NewWorld) -> None:
    world = new_world("sqlite")
    world.start("materialize", "materialize")
    run = world.start("run", "stream", "run")
    wait(world.read_by, told=(world.folder / "run.log").read_text)
    world.send(800)
    world.settle()
    old = world.job()
    cells = world.require_parity()

    world.define('"least": paid.min().over("1d"),')
    with world.control() as control, pytest.raises(InputError, match=r"other definitions of view `cards`.*upgrade"):
        control.resume("payments")
    with world.control() as control:
        jobs = control.jobs("payments")
        said = world.run("stream", "upgrade", "--dry-run")
        assert said == f"views to compute anew: cards\nmessages to read again: {world.messages}\n"
        assert control.jobs("payments") == jobs
    world.start("materialize-new", "materialize")
    upgrade = world.start("upgrade", "stream", "upgrade")
    world.send(400)
    wait(lambda: not upgrade.alive(), told=(world.folder / "upgrade.log").read_text)
    world.settle()
    assert world.require_parity() == cells + cells // 14, "one feature more"
    world.require_account()
    more = world.job()

    downgrade(world)
    world.send(200)
    world.settle()
    assert world.require_parity() == cells
    world.require_account()
    assert len({old.epoch, more.epoch, world.job().epoch}) == 3
    with world.control() as control:
        assert [each.epoch for each in control.jobs("payments")] == [world.job().epoch]
        assert [control.cluster.jobs()[each.job_id] for each in (old, more)] == ["CANCELED"] * 2
        assert control.replacement("payments", forced=False) is None
        new = control.stop("payments")  # what was replaced or stopped is not resumed by who supervises it
        time.sleep(4)
        assert run.alive()
        assert "resuming" not in (world.folder / "run.log").read_text()
        assert not {old.job_id, more.job_id, new.job_id} & set(control.cluster.running())
    a_topic_made_again_is_refused(world)


def commit(world: World, job: Job) -> None:
    """Commit that a job has read all of its topic, as Flink does once it has a checkpoint."""
    kafka = world.settings.kafka
    group = KafkaConsumer(**kafka.client(), group_id=job.epoch, enable_auto_commit=False)
    ends = end_offsets(kafka, world.topic)
    group.commit({TopicPartition(world.topic, each): OffsetAndMetadata(end, "", -1) for each, end in ends.items()})
    group.close()


def test_a_job_without_checkpoints_does_not_begin_anew_over_what_it_has_written(new_world: NewWorld) -> None:
    world = new_world("sqlite")
    world.send(90)
    with world.control() as control:
        starts = starting_offsets(world.settings, world.plan.source("payments"), None)
        made = topic_id(world.settings.kafka, world.topic)
        job = new_job(world.plan, "payments", world.settings, made, starts, None, now()).submitted("0" * 32)
        control.record(job)
        going_on = (Supervisor(control, "payments", print).look, lambda: control.resume("payments"))
        with administration(world.settings.kafka) as client:
            client.delete_records({TopicPartition(world.topic, 1): 5})
        for each in going_on:  # it was lost before its first checkpoint
            with pytest.raises(EngineError, match=r"from offset `5` only, .* from `0` on; run `unskew stream rebuild`"):
                each()
        commit(world, job)
        for each in going_on:
            with pytest.raises(EngineError, match=r"has lost its checkpoints.* run `unskew stream rebuild`"):
                each()
        assert control.cluster.running() == {}


def rebuilt(world: World, *words: str) -> None:
    """Replace the job by one that reads the log again; then all is there, and each message has one fate."""
    name = f"rebuild{len(world.processes)}"
    rebuild = world.start(name, "stream", "rebuild", *words)
    wait(lambda: not rebuild.alive(), told=(world.folder / f"{name}.log").read_text)
    world.send(100)
    world.settle()
    world.require_parity()
    with world.control() as control:
        job = control.job("payments")
        found = control.account(job)
        ends = end_offsets(world.settings.kafka, world.topic)
    assert found.read == sum(ends.values()) - sum(job.starts.values()) == found.applied + found.late + found.archived


def test_a_lost_store_and_a_topic_made_again_are_survived(new_world: NewWorld, redis_server: RedisServer) -> None:
    world = new_world("redis")
    world.start("materialize", "materialize")
    with world.control() as control:
        lost = control.submit("payments")
    world.payments.step, world.payments.share_late = 400_000, 0.0  # an upload has late events, the ideal has not
    world.send(1500)  # five days
    world.settle()
    with Redis.from_url(redis_server.address) as client:
        client.flushall()
    world.send(200)
    with world.control() as control:
        assert control.jobs("payments") == []
    world.run("archive", "--once")
    cut = str(world.payments.now - 60_000)  # the topic's clock is not this machine's
    words = ("--events", str(world.folder / "archive"), "--output", str(world.folder / "upload"), "--cut", cut)
    world.run("upload", *words, "--store", world.store_url)
    rebuilt(world)
    with world.control() as control:
        assert control.cluster.jobs()[lost.job_id] == "CANCELED"

    world.run("archive", "--once")
    with administration(world.settings.kafka) as client:
        client.delete_topics([world.topic])
        wait(lambda: world.topic not in client.list_topics())
    world.run("replay", str(world.folder / "archive"))
    rebuilt(world, "--as-it-is")
