"""What the live parts count, for Prometheus."""

from __future__ import annotations

import time

import numpy as np
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from unskew.online.materialise import Batch

FRESH = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 30.0, 300.0)  # s
QUICK = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)  # s


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows = Counter(
            "unskew_rows", "Rows of the stream written into the store.", ["source"], registry=self.registry
        )
        self.rejected = Counter(
            "unskew_rejected_writes", "Rows that the store's guard refused.", ["source"], registry=self.registry
        )
        self.freshness = Histogram(
            "unskew_freshness_seconds", "From an event's arrival to when a read has it.", ["source"],
            buckets=FRESH, registry=self.registry,
        )  # fmt: skip
        self.lag = Gauge("unskew_consumer_lag", "Messages that wait.", ["topic", "partition"], registry=self.registry)
        self.store = Histogram(
            "unskew_store_seconds", "Time of the store.", ["op"], buckets=QUICK, registry=self.registry
        )

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

    def serve(self, port: int) -> None:
        """Answer Prometheus at ``/metrics`` of a port of this machine."""
        start_http_server(port, registry=self.registry)


def observe(histogram: Histogram, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Observe many values."""
    for each in values.tolist():
        histogram.observe(each)
