"""What the live parts count, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from unskew.online.live.exposition import expose
from unskew.online.materialise import Batch

FRESH = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 30.0, 300.0)  # s
FATES_LIFE = 30.0  # s
QUICK = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)  # s
Place = tuple[str, int]  # topic, partition


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows = Counter(
            "unskew_written_rows", "Rows of the stream written into the store.", ["source"], registry=self.registry
        )
        self.rejected = Counter(
            "unskew_rejected_writes", "Rows that the store's guard refused.", ["source"], registry=self.registry
        )
        self.freshness = Histogram(
            "unskew_freshness_seconds", "From an event's arrival to when a read has it.", ["source"],
            buckets=FRESH, registry=self.registry,
        )  # fmt: skip
        self.lag = Gauge("unskew_consumer_lag", "Messages that wait.", ["topic", "partition"], registry=self.registry)
        self.waited: set[Place] = set()
        self.store = Histogram(
            "unskew_store_seconds", "Time of the store.", ["op"], buckets=QUICK, registry=self.registry
        )

    def watch_job(
        self, source: str, job: Callable[[], Mapping[str, float]], fates: Callable[[], Mapping[tuple[str, str], int]]
    ) -> None:
        """Take what is known of a source's job, and events by fate and reason, from functions when Prometheus asks."""
        self.registry.register(JobCollector(source, job, fates))

    def store_time(self, operation: str) -> Histogram:
        """Return the histogram of one of the store's operations."""
        return self.store.labels(operation)

    def wrote(self, source: str, batch: Batch, rejected: int) -> None:
        """Count rows that a read has from now on."""
        now = time.time()
        self.rejected.labels(source).inc(rejected)
        for stream, rows in batch:
            self.rows.labels(source).inc(rows.num_rows)
            if stream.kind == "tiles" and rows.num_rows:
                observe(self.freshness.labels(source), now - pc.cast(rows["arrival"], "double").to_numpy() / 1_000)

    def waiting(self, messages: Mapping[Place, int]) -> None:
        """Report how many messages wait; of partitions that are not named any more another process tells."""
        for each in self.waited - messages.keys():
            self.lag.remove(*each)
        for each, count in messages.items():
            self.lag.labels(*each).set(count)
        self.waited = set(messages)

    def serve(self, port: int, host: str = "127.0.0.1") -> None:
        """Answer Prometheus at ``/metrics`` of a port."""
        expose(self.registry, port, host)


JOB = {
    "unskew_checkpoint_age_seconds": "Since the job's newest checkpoint was complete.",
    "unskew_job_restarts": "How often the cluster has restarted the job.",
    "unskew_job_running": "1 where the cluster runs the job, else 0.",
    "unskew_job_duplicates_total": "Copies that the job has dropped since it was last started.",
    "unskew_job_messages_waiting": "Messages that the job's checkpoints do not hold yet.",
}


Family = GaugeMetricFamily | CounterMetricFamily


def family(name: str) -> Family:
    """Return one of a job's metrics, without values."""
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(name, JOB[name], labels=["source"])


class JobCollector(Collector):
    """A source's job: asked when Prometheus asks."""

    def __init__(
        self, source: str, job: Callable[[], Mapping[str, float]], fates: Callable[[], Mapping[tuple[str, str], int]]
    ) -> None:
        self.source, self.job, self.fates = source, job, fates
        self.counted: Mapping[tuple[str, str], int] = {}
        self.asked = -FATES_LIFE

    def describe(self) -> Iterator[Family]:
        """Yield the names; nobody is asked for that."""
        yield from (family(name) for name in JOB)

    def collect(self) -> Iterator[Family]:
        """Yield what has a value."""
        known = self.job()
        for name in JOB:
            found = family(name)
            if name in known:
                found.add_metric([self.source], known[name])
            yield found
        yield self.events()

    def events(self) -> GaugeMetricFamily:
        """Return the events that the job has read, by fate; they are counted at most twice a minute."""
        if time.monotonic() - self.asked >= FATES_LIFE:
            self.counted, self.asked = self.fates(), time.monotonic()
        found = GaugeMetricFamily(
            "unskew_job_events", "Events that the job has read.", labels=["source", "fate", "reason"]
        )
        for (fate, reason), count in self.counted.items():
            found.add_metric([self.source, fate, reason], count)
        return found


def observe(histogram: Histogram, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Observe many values."""
    for each in values.tolist():
        histogram.observe(each)
