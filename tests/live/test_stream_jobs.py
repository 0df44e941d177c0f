"""The job of a source on a cluster: from Kafka to a store, and what is served is what the backfill computes."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from threading import Event, Thread

import numpy as np
import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from tests.live.conftest import NewWorld
from tests.live.world import World, wait
from unskew.online.checkpoints import newest_checkpoint, next_offsets
from unskew.online.live.beginnings import starting_offsets
from unskew.online.live.control import now
from unskew.online.live.job_report import Fates, gauges
from unskew.online.live.jobs import Job, new_job
from unskew.online.live.redis_server import RedisServer
from unskew.online.live.supervision import Supervisor
from unskew.online.live.topics import administration, end_offsets, topic_id
from unskew.online.read import FeatureReader
from unskew.online.stores import open_store
from unskew.pipelines.errors import EngineError, InputError, StoreError, UnskewError
from unskew.pipelines.plan import SetPlan


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


@contextmanager
def reading(plan: SetPlan, world: World) -> Iterator[None]:
    """Read all the while by some definitions; every read must find all of their views, of one job."""
    stop, epochs, failures = Event(), list[str](), list[UnskewError]()

    def read() -> None:
        asked = [{"card": each["card"], "shop": each["shop"]} for each in world.payments.sent[-50:]]
        with open_store(world.settings.store) as store:
            reader = FeatureReader(plan, store)
            while not stop.wait(0.02):
                try:
                    found = reader.read(asked, world.payments.now + 1)
                    epochs.append(found.pointers["payments"].epoch)
                except UnskewError as error:
                    failures.append(error)

    thread = Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert len(epochs) > 20 and list(dict.fromkeys(epochs)) == [epochs[0], world.job().epoch]


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
    world.send_large()
    world.send_poison()
    world.settle()
    world.flip()
    world.require_parity()
    world.require_account()
    ends = end_offsets(world.settings.kafka, world.topic)
    older, offsets = newest_metadata(world)
    assert offsets == ends
    world.send(100)
    world.settle()

    assert "stopped" in world.run("stream", "stop")  # a savepoint, and on from there
    assert newest_metadata(world)[1] == end_offsets(world.settings.kafka, world.topic)
    an_older_checkpoint_is_not_gone_on_with_over_deleted_messages(world, older, ends)
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


def newest_metadata(world: World) -> tuple[bytes, dict[int, int]]:
    """Return the newest checkpoint's metadata and next offsets; the job that runs deletes one for the next."""
    while True:
        checkpoint = newest_checkpoint(world.folder / "checkpoints")
        assert checkpoint
        with contextlib.suppress(FileNotFoundError):
            return (checkpoint / "_metadata").read_bytes(), next_offsets(checkpoint, world.topic)


def an_older_checkpoint_is_not_gone_on_with_over_deleted_messages(
    world: World, older: bytes, ends: Mapping[int, int]
) -> None:
    """All newer checkpoints are lost, and messages that came since then are deleted, though the job had read them."""
    checkpoint = newest_checkpoint(world.folder / "checkpoints")
    assert checkpoint
    newest = checkpoint / "_metadata"
    lost = newest.read_bytes()
    partition, end = max(ends.items())
    with administration(world.settings.kafka) as client:
        client.delete_records({TopicPartition(world.topic, partition): end + 1})
    newest.write_bytes(older)
    said = world.run("stream", "resume", refused=True)
    assert f"from offset `{end + 1}` only" in said and f"must read from `{end}` on; run `unskew stream rebuild`" in said
    newest.write_bytes(lost)


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
    cells, older = world.require_parity(), world.plan

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
    with reading(older, world):
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
        world.send(300)
        new = control.stop("payments")  # what was replaced or stopped is not resumed by who supervises it
        wait(lambda: not control.rows_waiting(new))
        assert control.account(new).read + sum(control.lag(new).values()) == world.messages
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


def new_definitions_wait_for_an_upload(world: World) -> None:
    """A view is hidden from reads of new definitions, and no other; those of the old ones go on."""
    asked = [{"card": each["card"], "shop": each["shop"]} for each in world.payments.sent[-5:]]
    older, at = world.plan, world.payments.now + 1
    world.define('"least": paid.min().over("1d"),')
    said = world.run("stream", "upgrade", "--dry-run")
    assert said.startswith("views that reads have not until `unskew upload` of these definitions: cards\nviews to comp")
    with open_store(world.settings.store) as store:
        reader = FeatureReader(world.plan, store)
        with pytest.raises(StoreError, match=r"cards.*upload"):
            reader.read(asked, at)
        shown = reader.read_asked(reader.form.asked(asked), np.full(len(asked), at, np.int64), lenient=True)
        assert shown.hidden == {"cards"}
        wanted = FeatureReader(older, store).read(asked, at).table()
        assert shown.table().select(["shops.n_1h"]) == wanted.select(["shops.n_1h"])
    world.define()


def an_upload_that_lacks_a_message_is_due(world: World, cut: int) -> None:
    """A message comes that is older than the upload's cut."""
    assert json.loads(world.run("stream", "status", "--json"))[0]["upload"] == ""
    event = {"id": 10**9, "at": cut - 2, "arrived": cut - 1, "card": 999, "shop": "none", "paid": "1.00"}
    world.produce([(b"999", json.dumps(event).encode(), cut - 1)])
    world.run("archive", "--once")
    said = f"lacks a message that arrived at {cut - 1}, before its cut {cut}, but came later; run `unskew upload` again"
    assert json.loads(world.run("stream", "status", "--json"))[0]["upload"] == said
    with world.control() as control:
        assert gauges(control, "payments")["unskew_upload_due"] == 1


def test_a_lost_store_and_a_topic_made_again_are_survived(new_world: NewWorld, redis_server: RedisServer) -> None:
    """Redis is killed and has lost its data; then the topic is made again."""
    world = new_world("redis")
    world.start("materialize", "materialize")
    with world.control() as control:
        lost = control.submit("payments")
    world.payments.step, world.payments.share_late = 400_000, 0.0  # an upload has late events, the ideal has not
    world.send(1500)  # five days
    world.settle()
    redis_server.kill()
    shutil.rmtree(redis_server.folder / "data")
    redis_server.start()
    world.send(200)
    with world.control() as control:
        assert control.jobs("payments") == []
    world.run("archive", "--once")
    cut = world.payments.now - 60_000  # the topic's clock is not this machine's
    words = ("--events", str(world.folder / "archive"), "--output", str(world.folder / "upload"), "--cut", str(cut))
    world.run("upload", *words, "--store", world.store_url)
    rebuilt(world)
    with world.control() as control:
        assert control.cluster.jobs()[lost.job_id] == "CANCELED"
    new_definitions_wait_for_an_upload(world)
    an_upload_that_lacks_a_message_is_due(world, cut)

    with administration(world.settings.kafka) as client:
        client.delete_topics([world.topic])
        wait(lambda: world.topic not in client.list_topics())
    world.run("replay", str(world.folder / "archive"))
    rebuilt(world, "--as-it-is")
