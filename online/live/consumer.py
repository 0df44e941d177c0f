"""The materialiser's consumer: topics of the running jobs into the store. Any number of processes share the partitions."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import OffsetOutOfRangeError

from unskew.online.changelog import read_messages
from unskew.online.live.jobs import FATES, Job
from unskew.online.live.metrics import Metrics
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import broker_errors
from unskew.online.materialise import Batch, Materialiser
from unskew.online.store import Store
from unskew.pipelines.backends.flink import Stream, job_streams
from unskew.pipelines.errors import EngineError, StoreDown
from unskew.pipelines.plan import SetPlan

LIVING = ("starting", "running", "stopped")  # jobs whose rows are still taken
POLL, RECORDS = 200, 20_000  # ms that one poll waits, messages that it returns at most
REFRESH, BACKOFF = 1.0, 0.5  # s between two looks at the jobs, s until a store that is down is tried again
# fewer bytes than these are waited for, so long: rows cost less in batches
FEW = {"fetch_min_bytes": 1 << 15, "fetch_max_wait_ms": 50}
FETCH = {"fetch_max_bytes": 32 << 20, "max_partition_fetch_bytes": 8 << 20, "max_poll_records": RECORDS}
ANSWER = 5_000  # ms that the broker has to say where topics end
WATCH, PATIENCE = 3.0, 15.0  # s between two looks at the group's progress, s without any until a member joins anew
LIFE = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_500}  # until the others take over from one that died
# ms until topics are asked for again: kafka-python forgets a question that is put while an earlier one is under way
ASK = 5_000
LOG = logging.getLogger("unskew.materialize")


class RowsLostError(EngineError):
    """The broker has deleted rows that the store has not taken."""


@dataclass(frozen=True)
class Route:
    """What a topic of a job holds: the streams by number, of one view."""

    job: Job
    view: str
    streams: Mapping[bytes, Stream]


def routes(plan: SetPlan, job: Job) -> dict[str, Route]:
    """Return a route for each view's topic of a job; none where the job is of other definitions."""
    views = {each.name: each.fingerprint for each in plan.views if each.source == job.source}
    if job.state not in LIVING or dict(job.views) != views:
        return {}
    found: dict[str, dict[bytes, Stream]] = defaultdict(dict)
    for number, each in enumerate(job_streams(plan, job.source, topics=True)):
        found[each.view][str(number).encode()] = each
    return {topic: Route(job, view, found[view]) for view, topic in job.topics.items() if view != FATES}


def batch_of(route: Route, values: Sequence[bytes]) -> Batch:
    """Return messages of a topic as the rows of the view's streams."""
    apart: dict[bytes, list[bytes]] = defaultdict(list)
    for each in values:
        apart[each[: each.index(b",")]].append(each)
    return [(stream, read_messages(apart[number], stream)) for number, stream in route.streams.items()]


class Member(KafkaConsumer):  # type: ignore[misc]
    """A member of a group that finishes what it began.

    kafka-python 3.0.12 forgets a join that new topics or partitions made it begin, where the broker answers only after the poll
    has ended: from then on it is given nothing, and sends no heartbeats. Java's client had the like (KAFKA-9815).
    """

    def poll(self, *arguments: Any, **options: Any) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Return what has arrived."""
        if self._coordinator.rejoining:
            self._coordinator.request_rejoin()
        found: dict[TopicPartition, list[ConsumerRecord]] = super().poll(*arguments, **options)
        return found


class Seeking(ConsumerRebalanceListener):  # type: ignore[misc] # kafka-python has no types
    """Goes on where the store says, whenever partitions are assigned."""

    def __init__(self, consumer: TileConsumer) -> None:
        self.consumer = consumer

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Do nothing: what was read is written, and may be written again."""

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Seek; nothing may be asked of the broker here."""
        try:
            self.consumer.seek(assigned)
        except StoreDown:  # rows from the begin on do no harm, and are not taken before the store has said where it is
            self.consumer.astray = True
            for each in assigned:
                self.consumer.places.pop(each, None)
                self.consumer.client.seek(each, 0)


@dataclass
class Progress:
    """How far the store was when it was last looked at."""

    looked: float = 0.0
    done: int = -1
    since: float = 0.0

    def stands_still(self, done: int, written: int) -> bool:
        """Return whether rows have waited for `PATIENCE` with none taken; then the patience begins anew."""
        self.looked = now = time.monotonic()
        if done != self.done or written <= done:
            self.done, self.since = done, now
            return False
        if now - self.since < PATIENCE:
            return False
        self.since = now
        return True


class TileConsumer:
    """Writes what the jobs of a set's sources compute into the store.

    Parameters
    ----------
    plan
        The set.
    store
        Where to; it also has the jobs, and the offsets up to which their rows are in it.
    settings
        The broker.
    metrics
        What is counted.
    """

    def __init__(self, plan: SetPlan, store: Store, settings: KafkaSettings, metrics: Metrics) -> None:
        self.plan, self.store, self.settings, self.metrics = plan, store, settings, metrics
        self.routes: dict[str, Route] = {}
        self.joined: set[str] = set()  # the topics that a share was asked of
        self.materialisers: dict[str, Materialiser] = {}
        self.progress = Progress()
        self.places: dict[TopicPartition, int] = {}  # up to where the store has taken each partition
        self.ends: dict[TopicPartition, int] = {}  # where each partition ended when the broker was last asked
        self.looked = -REFRESH
        self.astray = False  # whether the client may stand elsewhere than the store
        self.client = self.connected()

    def connected(self) -> Member:
        """Return a new member of the set's group."""
        with broker_errors(self.settings):
            return Member(
                **self.settings.client(),
                group_id=f"unskew.materialize.{self.plan.name}",
                enable_auto_commit=False,
                metadata_max_age_ms=ASK,
                auto_offset_reset="none",  # rows that the broker no longer has are an error, no gap
                **FEW,
                **FETCH,
                **LIFE,
            )

    def run(self, stop: Event) -> None:
        """Take rows until told to stop; wait for a store that is down.

        Raises
        ------
        RowsLostError
            If the broker no longer has rows that were not taken.
        """
        try:
            while not stop.is_set():
                try:
                    if time.monotonic() - self.looked >= REFRESH:
                        self.look()
                    if self.astray:
                        self.seek(self.client.assignment())
                        self.astray = False
                    self.step()
                except RowsLostError:
                    raise
                except (StoreDown, EngineError) as error:
                    LOG.warning("%s; trying again", error)
                    self.astray = True  # what was read and not written is read again, before anything else
                    stop.wait(BACKOFF)
        finally:
            self.client.close()

    def look(self) -> None:
        """Look what there is to do; how much waits is told also while the store fails."""
        self.looked = time.monotonic()
        try:
            self.refresh()
        finally:
            try:
                self.measure()
            except EngineError as error:  # it is told later then
                LOG.warning("%s", error)
        self.watch()

    def refresh(self) -> None:
        """Look for jobs that were submitted or replaced, and subscribe to their topics."""
        jobs = [Job.from_json(each) for each in self.store.jobs().values()]
        found = {
            topic: route for job in jobs if job.set == self.plan.name for topic, route in routes(self.plan, job).items()
        }
        living = {each.job.epoch: each.job for each in found.values()}
        self.materialisers = {epoch: self.materialiser(job) for epoch, job in living.items()}
        self.routes = found
        if self.joined - found.keys():
            self.rejoin()  # kafka-python goes on asking for topics that were deleted
        elif self.joined != found.keys():
            self.subscribe()

    def materialiser(self, job: Job) -> Materialiser:
        """Return what writes a job's rows; a new one where the store has not, or has lost, how they are laid out."""
        known = self.materialisers.get(job.epoch)
        if known is not None and all(self.store.content("open", job.epoch, view) for view in job.views):
            return known
        if known is not None and job.epoch not in self.store.jobs():  # it was dropped a moment ago
            return known
        return Materialiser(self.store, self.plan, job.source, job.epoch, flip=False)

    def rejoin(self) -> None:
        """Join the group anew."""
        joining = self.connected()  # first: where that fails, the old one goes on
        self.client.close(autocommit=False)
        self.client = joining
        self.subscribe()

    def subscribe(self) -> None:
        """Ask for a share of the jobs' topics."""
        if self.routes:
            self.client.subscribe(sorted(self.routes), listener=Seeking(self))
        else:
            self.client.unsubscribe()
        self.joined = set(self.routes)  # last: what fails before is done again

    def measure(self) -> None:
        """Ask the broker where the topics end, and report how many messages of the own partitions the store has not."""
        with broker_errors(self.settings):
            parts = [
                TopicPartition(name, each)
                for name in self.routes
                for each in self.client.partitions_for_topic(name) or ()
            ]
            self.ends = self.client.end_offsets(parts, timeout_ms=ANSWER) if parts else {}
        known = self.client.assignment() & self.ends.keys() & self.places.keys()
        self.metrics.waiting({each: self.ends[each] - self.places[each] for each in known})

    def watch(self) -> None:
        """Join the group anew if rows wait and nobody takes any: kafka-python's members have been seen to hang after one died."""
        if time.monotonic() - self.progress.looked < WATCH:
            return
        taken = {name: self.store.offsets(name) for name in self.routes}
        done = sum(sum(each.values()) for each in taken.values())
        if self.progress.stands_still(done, sum(self.ends.values())):
            LOG.warning("rows wait and nobody takes them; joining the group anew")
            self.rejoin()

    def step(self) -> None:
        """Take what is there, write it, and record how far the store is."""
        if not self.routes:
            time.sleep(POLL / 1_000)
            return
        try:
            with broker_errors(self.settings):
                found = self.client.poll(timeout_ms=POLL)
        except OffsetOutOfRangeError:
            self.require_all()
            found = {}
        taken: dict[str, list[ConsumerRecord]] = defaultdict(list)
        steps: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
        for place, records in found.items():
            taken[place.topic] += records
            steps[place.topic][place.partition] = self.places.get(place, 0), records[-1].offset + 1
        for topic, records in taken.items():
            if topic in self.routes:  # else the job was replaced since
                self.write(self.routes[topic], records)
                self.advance(topic, steps[topic])

    def advance(self, topic: str, steps: Mapping[int, tuple[int, int]]) -> None:
        """Record how far the store is; where it is elsewhere, it came back as it was earlier, or another wrote: go by it."""
        if not self.store.advance(topic, steps):
            self.astray = True
            return
        for partition, (_, after) in steps.items():
            self.places[TopicPartition(topic, partition)] = after

    def write(self, route: Route, records: Sequence[ConsumerRecord]) -> None:
        """Merge messages of one view into the store."""
        batch = batch_of(route, [each.value for each in records])
        materialiser = self.materialisers[route.job.epoch]
        before = materialiser.applied.rejected
        with self.metrics.store_time("write").time():
            materialiser.apply({route.view: batch})
        self.metrics.wrote(route.job.source, batch, materialiser.applied.rejected - before)

    def seek(self, assigned: Sequence[TopicPartition]) -> None:
        """Set the position of partitions to what the store has taken of them."""
        for each in assigned:
            place = self.store.offsets(each.topic).get(each.partition, 0)
            self.client.seek(each, place)
            self.places[each] = place

    def require_all(self) -> None:
        """Go on where the store is, if the broker still has that.

        Raises
        ------
        RowsLostError
            If its rows begin later.
        """
        own = list(self.client.assignment())
        with broker_errors(self.settings):
            first = self.client.beginning_offsets(own)
        for each in own:
            wanted = self.store.offsets(each.topic).get(each.partition, 0)
            if first[each] > wanted:
                message = f"topic `{each.topic}` begins at offset `{first[each]}`, but the store has it up to `{wanted}`: rows are lost; run `unskew stream rebuild`"
                raise RowsLostError(message)
        self.seek(own)
