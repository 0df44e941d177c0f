"""Submits, stops, resumes and replaces the job of a source; its record is in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event

from unskew.online.account import Account
from unskew.online.checkpoints import newest_checkpoint, next_offsets
from unskew.online.flink_process import execute
from unskew.online.live.beginnings import local_folder, resuming_point, starting_offsets
from unskew.online.live.catching_up import CatchingUp, rows_behind
from unskew.online.live.fates import take_account
from unskew.online.live.flink_rest import ENDED, FlinkRest, JobStatus
from unskew.online.live.jars import connector_jar
from unskew.online.live.jobs import FATES, Job, cluster_settings, compiled, is_epoch_of, new_job
from unskew.online.live.settings import Settings
from unskew.online.live.topics import (
    TILES,
    committed,
    delete_topics,
    end_offsets,
    ends_of,
    make_topics,
    offsets_since,
    partition_count,
    topic_id,
    topic_of,
)
from unskew.online.store import BEGINNING, NO_GENERATION, Store, other_features
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.timegrid import DAY

ACTIVE = ("starting", "running")
FATES_KEPT = 30 * DAY  # ms
TICK = 1.0  # s between two looks
Say = Callable[[str], None]


@dataclass(frozen=True)
class Control:
    """The jobs of one set.

    Parameters
    ----------
    plan, settings, store
        The set, where the parts are, the open store.
    logs
        Folder of the submitting process's log.
    as_it_is
        Take a topic as it is now, even if it begins late or was made again.
    """

    plan: SetPlan
    settings: Settings
    store: Store
    logs: Path
    as_it_is: bool = False

    @cached_property
    def cluster(self) -> FlinkRest:
        """The cluster."""
        return FlinkRest(self.settings.flink.target)

    def jobs(self, source: str) -> list[Job]:
        """Return the recorded jobs of a source, oldest first."""
        found = [Job.from_json(each) for each in self.store.jobs().values()]
        own = [each for each in found if each.source == source and each.set == self.plan.name]
        return sorted(own, key=lambda each: (each.created, each.epoch))

    def job(self, source: str) -> Job:
        """Return the job that reads see; where they see none the oldest that is active, else the newest.

        Raises
        ------
        InputError
            If there is none.
        """
        living = [each for each in self.jobs(source) if each.state != "replaced"]
        if not living:
            message = f"source `{source}` has no job; run `unskew stream submit`"
            raise InputError(message)
        pointer = self.store.pointer(source)
        seen = [each for each in living if pointer is not None and each.epoch == pointer.epoch]
        active = [each for each in living if each.state in ACTIVE]
        return (seen or active[:1] or living)[-1]

    def submit(self, source: str) -> Job:
        """Start the first job of a source, from the upload's batch_end on; reads see it once it has caught up.

        Raises
        ------
        InputError
            If there is one already, or the source has no topic.
        EngineError
            If the broker no longer has what the job must read, or the cluster refuses it.
        """
        active = [each for each in self.jobs(source) if each.state in (*ACTIVE, "stopped")]
        if active:
            message = f"source `{source}` has the job `{active[-1].epoch}` ({active[-1].state}); run `unskew stream resume`, upgrade or rebuild"
            raise InputError(message)
        return self.first(source)

    def first(self, source: str) -> Job:
        """Start the first job of a source.

        Raises
        ------
        EngineError
            If another process started one at the same time, and was first.
        """
        job = self.start(source)
        oldest = next((each for each in self.jobs(source) if each.state in ACTIVE), job)
        if oldest.epoch != job.epoch:
            self.replace(job)
            message = f"source `{source}` has the job `{oldest.epoch}`, which another process started at the same time; run `unskew stream status`"
            raise EngineError(message)
        return job

    def start(self, source: str) -> Job:
        """Record and start a new job of a source."""
        log = self.plan.source(source)
        topic = topic_of(log)
        since, topic_id = self.since(source), self.known_topic(source, topic)
        starts = starting_offsets(self.settings, log, since, as_it_is=self.as_it_is)
        job = new_job(self.plan, source, self.settings, topic_id, starts, since, now())
        partitions = self.settings.kafka.partitions
        make_topics(self.settings.kafka, dict.fromkeys(job.row_topics, partitions), TILES)
        make_topics(
            self.settings.kafka,
            {job.topics[FATES]: partition_count(self.settings.kafka, topic)},
            {"retention.ms": str(FATES_KEPT)},
        )
        self.record(job)
        try:
            return self.run(job, None)
        except BaseException:
            recorded = self.recorded(job)
            if recorded is None or recorded.state != "stopped":  # `resume` goes on with one that was stopped meanwhile
                self.replace(job)
            raise

    def known_topic(self, source: str, topic: str) -> str:
        """Return the broker's id of a topic.

        Raises
        ------
        EngineError
            If it was made again since a job of this source began: what it held is in the archive alone.
        """
        found = topic_id(self.settings.kafka, topic)
        other = next((each for each in self.jobs(source) if each.topic_id != found), None)
        if other is not None and not self.as_it_is:
            message = f"topic `{topic}` was made again since job `{other.epoch}` began; `unskew replay` the archive into it, then give --as-it-is"
            raise EngineError(message)
        return found

    def since(self, source: str) -> int | None:
        """Return where the closed tiles end that reads see, ms; None where there are none."""
        pointer = self.store.pointer(source)
        return None if pointer is None or pointer.batch_end == BEGINNING else pointer.batch_end

    def record(self, job: Job) -> Job:
        """Write what has become of a job."""
        self.store.put_job(job.epoch, job.to_json())
        return job

    def run(self, job: Job, start: str | None) -> Job:
        """Hand a job to the cluster; one that it runs already, by a submission that was not recorded, is recorded.

        Raises
        ------
        EngineError
            If the cluster refuses it, or it was replaced meanwhile.
        """
        running = self.named(job.epoch)  # a cluster that is away is told in one line, before a JVM starts
        if running:
            return self.adopt(job, running)
        if start is None and job.job_ids:
            self.require_new(job)
        self.require_log(job, start)
        flink = compiled(self.plan, job, self.settings)
        runtime = cluster_settings(job, self.settings, connector_jar(), start)
        self.logs.mkdir(parents=True, exist_ok=True)
        submitted = execute(flink, runtime, self.logs, self.logs, None, detached=True)
        return self.adopt(job, self.named(job.epoch) or [submitted])

    def adopt(self, job: Job, running: Sequence[str]) -> Job:
        """Record what the cluster runs of a job; of several, for processes may have submitted it at once, all keep the same.

        Raises
        ------
        EngineError
            If it was stopped or replaced meanwhile.
        """
        job_id, *twins = sorted(running)
        recorded = self.recorded(job)
        given_up = recorded is None or recorded.state not in {*ACTIVE, job.state}
        for each in [job_id, *twins] if given_up else twins:
            self.cluster.cancel(each)
        if recorded is None or given_up:
            message = f"job `{job.epoch}` was stopped or replaced while it was being submitted; it was ended again"
            raise EngineError(message)
        return self.record(recorded if recorded.job_id == job_id else recorded.submitted(job_id))

    def recorded(self, job: Job) -> Job | None:
        """Return a job as it is recorded now; None where it was forgotten."""
        return next((each for each in self.jobs(job.source) if each.epoch == job.epoch), None)

    def named(self, epoch: str) -> list[str]:
        """Return the cluster's ids of what runs under a job's name."""
        return [job_id for job_id, name in self.cluster.running().items() if name == epoch]

    def require_new(self, job: Job) -> None:
        """Refuse to begin anew what has had a checkpoint.

        Of an event's copies in two partitions another one may be read first then. A tile that begins later than the one
        that the store has is refused by its guard for good, and nobody would see that.

        Raises
        ------
        EngineError
            If the job has committed offsets, or reads see it.
        """
        done = committed(self.settings.kafka, job.epoch, topic_of(self.plan.source(job.source)))
        seen = self.seen(job.source)
        if any(offset > job.starts.get(each, 0) for each, offset in done.items()) or (seen and seen.epoch == job.epoch):
            message = f"job `{job.epoch}` has lost its checkpoints, so it cannot go on; bring `{job.checkpoints}` back, or run `unskew stream rebuild`"
            raise EngineError(message)

    def require_log(self, job: Job, start: str | None) -> None:
        """Refuse to go on where the topic no longer has what comes next: Flink would skip that and say nothing.

        Raises
        ------
        EngineError
            If messages were deleted, or the topic was made again.
        """
        kafka, topic = self.settings.kafka, topic_of(self.plan.source(job.source))
        if topic_id(kafka, topic) != job.topic_id:
            message = f"topic `{topic}` was made again since job `{job.epoch}` began; run `unskew stream rebuild`"
            raise EngineError(message)
        first = offsets_since(kafka, topic, None)
        done = dict(job.starts) | (next_offsets(local_folder(start), topic) if start else {})
        gone = [each for each, offset in first.items() if offset > done.get(each, 0)]
        if gone:
            message = f"topic `{topic}` has partition `{gone[0]}` from offset `{first[gone[0]]}` only, but job `{job.epoch}` must read from `{done.get(gone[0], 0)}` on; run `unskew stream rebuild`"
            raise EngineError(message)

    def status(self, job: Job) -> JobStatus | None:
        """Return what the cluster says; None where it does not know the job."""
        return self.cluster.status(job.job_id) if job.job_id else None

    def state(self, job: Job) -> str | None:
        """Return the state alone, which is one question; None where the cluster does not know the job."""
        return self.cluster.jobs().get(job.job_id)

    def stop(self, source: str) -> Job:
        """End a job with a savepoint, from which `resume` goes on."""
        job = self.job(source)
        self.record(job.as_("stopped"))  # first: who supervises it must not resume it
        try:
            for each in self.named(job.epoch):
                self.cluster.stop(each, job.checkpoints)
        except BaseException:
            self.record(job)
            raise
        return job.as_("stopped")

    def resume(self, source: str) -> Job:
        """Go on from the newest complete checkpoint or savepoint; from the begin where there was none yet.

        Raises
        ------
        InputError
            If the job runs, is of other definitions, or its state has expired.
        EngineError
            If its checkpoints are lost, or the broker no longer has what it must read.
        """
        job = self.job(source)
        self.require_same(job)
        found = self.status(job)
        if found is not None and found.state not in ENDED:
            message = f"job `{job.epoch}` is `{found.state}` already; run `unskew stream status`"
            raise InputError(message)
        return self.run(job, resuming_point(job, now()))

    def require_same(self, job: Job) -> None:
        """Refuse to go on from the state of other definitions."""
        changed = self.changed(job)
        if changed:
            message = f"job `{job.epoch}` computes other definitions of view `{changed[0]}`: its state does not fit; run `unskew stream upgrade`"
            raise InputError(message)

    def fingerprints(self, source: str) -> dict[str, str]:
        """Return the fingerprints of the views over a source."""
        return {each.name: each.fingerprint for each in self.plan.views if each.source == source}

    def catching_up(self, job: Job) -> CatchingUp:
        """Return the wait for a job to catch up with what is on its topic now."""
        kafka = self.settings.kafka
        ends = end_offsets(kafka, topic_of(self.plan.source(job.source)))
        return CatchingUp(self.plan, kafka, self.store, job, ends)

    def flip_when_covered(self, job: Job, stop: Event, say: Say) -> Job:
        """Let reads see a job once it has caught up with what is on the topic now; then replace the ones before it."""
        waiting = self.catching_up(job)
        say(f"{job.epoch}: catching up to {sum(waiting.ends.values()) - sum(job.starts.values())} messages")
        while not waiting.over():
            self.require_going(job)
            if stop.wait(TICK):
                message = (
                    f"job `{job.epoch}` goes on, but reads do not see it yet; run `unskew stream upgrade` to wait again"
                )
                raise EngineError(message)
        self.store.start_epoch(job.source, job.epoch)
        say(f"{job.epoch}: reads see it")
        self.replace_older(job.source)
        return job

    def replace_older(self, source: str) -> None:
        """Delete what jobs have left that are older than the one that reads see."""
        jobs, seen = self.jobs(source), self.seen(source)
        for each in jobs:
            if each.state == "replaced" or (seen is not None and each.created < seen.created):
                self.replace(each)

    def seen(self, source: str) -> Job | None:
        """Return the job that reads see; None where there is none."""
        pointer = self.store.pointer(source)
        return next((each for each in self.jobs(source) if pointer is not None and each.epoch == pointer.epoch), None)

    def require_going(self, job: Job) -> None:
        """Refuse to wait for a job that has ended."""
        found = self.status(job)
        if found is None:
            message = f"job `{job.epoch}` is not on the cluster any more; run the command again to resume it"
            raise EngineError(message)
        if found.state in ENDED:
            message = (
                f"job `{job.epoch}` is `{found.state}`: `{found.problem}`; correct that, and run the command again"
            )
            raise EngineError(message)

    def replace(self, job: Job) -> None:
        """End a job that reads do not see, and delete what it left."""
        self.record(job.as_("replaced"))  # first: who supervises it must not resume it
        for each in self.named(job.epoch):
            self.cluster.cancel(each)
        self.forget(job)

    def forget(self, job: Job) -> None:
        """Delete the record of a job that does not run, its rows in the store, and its topics."""
        self.record(job.as_("replaced"))  # materialisers leave it alone
        self.store.drop_epoch(job.epoch)
        delete_topics(self.settings.kafka, list(job.topics.values()))

    def changed_views(self, source: str) -> list[str]:
        """Return the views that the job of a source computes otherwise, or not."""
        return self.changed(self.job(source))

    def changed(self, job: Job) -> list[str]:
        """Return the views that a job computes otherwise, or not."""
        views = self.fingerprints(job.source)
        return sorted(name for name in {*views, *job.views} if views.get(name) != job.views.get(name))

    def waiting(self, source: str) -> Job | None:
        """Return a job of these definitions that is newer than the one that reads see."""
        seen = self.seen(source)
        found = [
            each for each in self.jobs(source)
            if each.state in ACTIVE and dict(each.views) == self.fingerprints(source)
            and (seen is None or each.created > seen.created)
        ]  # fmt: skip
        return found[-1] if found else None

    def lag(self, job: Job) -> dict[int, int]:
        """Return for each partition how many messages the job's checkpoints do not hold yet."""
        done, topic = self.done(job), topic_of(self.plan.source(job.source))
        return {each: end - done.get(each, 0) for each, end in end_offsets(self.settings.kafka, topic).items()}

    def done(self, job: Job) -> dict[int, int]:
        """Return for each partition up to where the job's checkpoints hold its messages; a savepoint commits nothing."""
        topic = topic_of(self.plan.source(job.source))
        found = dict(job.starts) | committed(self.settings.kafka, job.epoch, topic)
        newest = newest_checkpoint(local_folder(job.checkpoints)) if job.state == "stopped" else None
        return found if newest is None else found | next_offsets(newest, topic)

    def rows_waiting(self, job: Job) -> int:
        """Return how many rows of a job the store has not taken yet."""
        topics = () if job.state == "replaced" else job.row_topics  # they are deleted
        return rows_behind(self.store, ends_of(self.settings.kafka, topics))

    def account(self, job: Job) -> Account:
        """Return what became of every message up to the job's last checkpoint.

        Raises
        ------
        EngineError
            If the store has not taken all rows yet, or counts do not add up.
        """
        waiting = self.rows_waiting(job)
        if waiting:
            message = f"store has yet to take `{waiting}` rows of job `{job.epoch}`, so its events cannot be counted; wait for `unskew materialize`"
            raise EngineError(message)
        read = sum(self.done(job).values()) - sum(job.starts.values())
        return take_account(self.plan, job, self.store, self.settings.kafka, read)

    def replacement(self, source: str, *, forced: bool) -> Job | None:
        """Return the job that takes the place of a source's: one that was started already, else a new one.

        None where the job computes just these definitions, and it is not `forced`.
        """
        self.replace_older(source)
        waiting = self.waiting(source)
        if waiting is not None:
            found = self.status(waiting)
            if found is not None and found.state not in ENDED:
                return waiting
            if not forced:
                return self.run(waiting, resuming_point(waiting, now()))
            self.replace(waiting)
        if forced:
            self.cancel_unknown(source)
        return self.start(source) if forced or self.changed_views(source) else None

    def cancel_unknown(self, source: str) -> None:
        """End jobs of this set's source that the store does not know: those of a store that was lost."""
        for job_id in self.unknown(source):
            self.cluster.cancel(job_id)

    def unknown(self, source: str) -> dict[str, str]:
        """Return the names of jobs of this set's source that run and that the store does not know, by id."""
        running = self.cluster.running()
        known = {each.epoch for each in self.jobs(source)}
        return {
            job_id: name
            for job_id, name in running.items()
            if is_epoch_of(name, self.plan.name, source) and name not in known
        }

    def hidden_views(self, source: str) -> list[str]:
        """Return the views that a read of these definitions lacks until an upload of them: their closed tiles are of others."""
        pointer = self.store.pointer(source)
        if pointer is None or pointer.generation == NO_GENERATION:
            return []
        found = []
        for view in (each for each in self.plan.views if each.source == source):
            held = self.store.content("closed", str(pointer.generation), view.name)
            if held is None or other_features(view.features, held.features):
                found.append(view.name)
        return found

    def cost(self, source: str) -> int:
        """Return how many messages a new job of a source would read again."""
        log = self.plan.source(source)
        starts = starting_offsets(self.settings, log, self.since(source), as_it_is=self.as_it_is)
        ends = end_offsets(self.settings.kafka, topic_of(self.plan.source(source)))
        return sum(ends.values()) - sum(starts.values())


def now() -> int:
    """Return the clock, ms since the epoch."""
    return time.time_ns() // 1_000_000
