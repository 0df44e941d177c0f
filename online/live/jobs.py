"""The jobs of a source: what the store records of each, and what it takes to run one on a cluster."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from unskew.online.live.settings import Settings
from unskew.online.live.topics import fates_topic, topic_of, view_topic
from unskew.pipelines.backends.flink import FlinkJob, compile_job, job_streams
from unskew.pipelines.backends.flink_ends import Topics
from unskew.pipelines.errors import StoreError
from unskew.pipelines.plan import SetPlan

State = Literal["starting", "running", "stopped", "replaced"]
FATES = ""  # the name of the topic of what is in no tile, among the views' own
MILLISECONDS = 1_000
FOREVER = str(2**31 - 1)


@dataclass(frozen=True)
class Job:
    """One job of a source, under its epoch.

    Parameters
    ----------
    views
        Fingerprints of the views that it computes, by name.
    topics
        Where it writes, by view; `FATES` for what is in no tile.
    starts
        First offset that it reads of each partition.
    since
        First event time that it keeps, ms: the batch_end of the upload that it began with; None: all.
    job_ids
        Its names on the cluster, the newest last.
    topic_id
        The broker's id of the source's topic: one that was made again has another.
    checkpoints
        Folder of its checkpoints.
    created
        ms since the epoch.
    """

    epoch: str
    source: str
    set: str
    views: Mapping[str, str]
    topics: Mapping[str, str]
    starts: Mapping[int, int]
    since: int | None
    target: str
    job_ids: tuple[str, ...]
    topic_id: str
    checkpoints: str
    state: State
    created: int

    def to_json(self) -> dict[str, Any]:
        """Return what the store keeps."""
        found = asdict(self)
        return found | {"starts": {str(partition): offset for partition, offset in self.starts.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        """Read `to_json` back.

        Raises
        ------
        StoreError
            If it is none.
        """
        try:
            starts = {int(partition): int(offset) for partition, offset in content["starts"].items()}
            return cls(**{**content, "starts": starts, "job_ids": tuple(content["job_ids"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"job `{content}` of the store cannot be read: `{error}`; submit the source's job anew"
            raise StoreError(message) from error

    @property
    def job_id(self) -> str:
        """Its newest name on the cluster."""
        return self.job_ids[-1] if self.job_ids else ""

    @property
    def row_topics(self) -> list[str]:
        """Where it writes the rows of its views."""
        return [topic for view, topic in self.topics.items() if view != FATES]

    def as_(self, state: State) -> Job:
        """Return the job in another state."""
        return replace(self, state=state)

    def submitted(self, job_id: str) -> Job:
        """Return the job, running under a new name."""
        return replace(self, job_ids=(*self.job_ids, job_id), state="running")


def new_epoch(name: str, source: str, now: int) -> str:
    """Return a name for a job of a set's source that no other has.

    Parameters
    ----------
    now
        ms since the epoch.
    """
    moment = datetime.fromtimestamp(now / MILLISECONDS, UTC)
    return f"{name}-{source}-{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def is_epoch_of(text: str, name: str, source: str) -> bool:
    """Return whether a text is the name of a job of a set's source.

    Examples
    --------
    >>> is_epoch_of("fraud-labels-20261126T203147-4cf1", "fraud", "labels")
    True
    """
    return re.fullmatch(rf"{re.escape(name)}-{re.escape(source)}-\d{{8}}T\d{{6}}-[0-9a-f]{{4}}", text) is not None


def new_job(
    plan: SetPlan,
    source: str,
    settings: Settings,
    topic_id: str,
    starts: Mapping[int, int],
    since: int | None,
    now: int,
) -> Job:
    """Return a job that is not running yet."""
    epoch = new_epoch(plan.name, source, now)
    views = [each for each in plan.views if each.source == source]
    topics = {each.name: view_topic(each, epoch) for each in views} | {FATES: fates_topic(source, epoch)}
    checkpoints = f"{checkpoint_root(settings)}/{epoch}"
    prints = {each.name: each.fingerprint for each in views}
    return Job(epoch, source, plan.name, prints, topics, dict(starts), since, settings.flink.target, (), topic_id, checkpoints, "starting", now)  # fmt: skip


def checkpoint_root(settings: Settings) -> str:
    """Return the folder of checkpoints as a URI."""
    given = settings.flink.checkpoints
    return given.rstrip("/") if "://" in given else Path(given).resolve().as_uri()


def compiled(plan: SetPlan, job: Job, settings: Settings) -> FlinkJob:
    """Return the Flink job of a source over its topics."""
    streams = job_streams(plan, job.source, topics=True)
    ends = Topics(
        read=topic_of(plan.source(job.source)),
        group=job.epoch,
        starts=tuple(sorted(job.starts.items())),
        write={each.name: job.topics[each.view or FATES] for each in streams},
        numbers={each.name: number for number, each in enumerate(streams)},
        connection=settings.kafka.flink(),
    )
    return compile_job(plan, job.source, ends, since=job.since)


def cluster_settings(job: Job, settings: Settings, jar: Path, start: str | None) -> dict[str, str]:
    """Return how the job runs on the cluster; what it means is in its own settings.

    Parameters
    ----------
    jar
        Of Flink's Kafka connector.
    start
        Path of the checkpoint to go on from; None: from the job's `starts`.
    """
    host, _, port = settings.flink.target.rpartition(":")
    found = {
        "execution.target": "remote",
        "rest.address": host,
        "rest.port": port,
        "pipeline.name": job.epoch,
        "pipeline.jars": jar.resolve().as_uri(),
        "parallelism.default": str(settings.flink.parallelism),
        "state.backend.type": "rocksdb",
        # Snappy, the default, made each compaction take a core for seconds; state is small and short-lived
        "state.backend.rocksdb.compression.per.level": "NO_COMPRESSION",
        # each checkpoint writes a small file; levels, the default, would merge every four of them with all there is
        "state.backend.rocksdb.compaction.style": "UNIVERSAL",
        "state.backend.rocksdb.use-bloom-filter": "true",  # most events and tiles are in none of the files
        # a large file's filter does not fit into a shard of the cache whole, and would be read again for each event
        "state.backend.rocksdb.memory.partitioned-index-filters": "true",
        "execution.buffer-timeout.interval": "20 ms",  # a row waits so long at each of two shuffles; by default 100 ms
        "execution.checkpointing.incremental": "true",
        "execution.checkpointing.interval": settings.flink.checkpoint_interval,
        "execution.checkpointing.storage": "filesystem",
        "execution.checkpointing.dir": job.checkpoints,
        "execution.checkpointing.num-retained": "3",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # A disk that is full for an hour makes checkpoints old, which is measured; it must not end the job.
        "execution.checkpointing.tolerable-failed-checkpoints": FOREVER,
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "500 ms",
        "restart-strategy.exponential-delay.max-backoff": "10 s",
        "restart-strategy.exponential-delay.attempts-before-reset-backoff": FOREVER,
    }
    return found | ({"execution.state-recovery.path": start} if start else {})
