"""What the server counts, in Prometheus' form."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from unskew.online.store import Pointer, Records, Store

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds


class Metrics:
    """The server's metrics, in a registry of their own.

    Parameters
    ----------
    sets
        Names of the sets: their series are there from the beginning.
    """

    def __init__(self, sets: Sequence[str]) -> None:
        self.registry = CollectorRegistry()
        read = Histogram(
            "unskew_read_seconds", "Time of a read that answers one or many requests.", ["set"], registry=self.registry,
            buckets=BUCKETS,
        )  # fmt: skip
        rows = Counter("unskew_rows_total", "Rows that were read.", ["set"], registry=self.registry)
        self.reads = {name: read.labels(name) for name in sets}
        self.rows = {name: rows.labels(name) for name in sets}
        store = Histogram("unskew_store_seconds", "Time of the store.", ["op"], registry=self.registry, buckets=BUCKETS)
        self.store = store.labels("read")
        self.requests = Counter(
            "unskew_requests_total", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.events = Counter(
            "unskew_posted_events_total",
            "Posted events by source and fate.",
            ["source", "fate"],
            registry=self.registry,
        )
        self.logged = Counter(
            "unskew_served_rows_total",
            "Served rows that were logged, and dropped.",
            ["outcome"],
            registry=self.registry,
        )
        self.waiting = Gauge("unskew_waiting_rows", "Rows that wait for the store.", registry=self.registry)
        self.counters: dict[tuple[str, int], Any] = {}

    def read(self, name: str, seconds: float, rows: int) -> None:
        """Count a read."""
        self.reads[name].observe(seconds)
        self.rows[name].inc(rows)

    def request(self, route: str, status: int) -> None:
        """Count a request."""
        if (route, status) not in self.counters:
            self.counters[route, status] = self.requests.labels(route, str(status))
        self.counters[route, status].inc()

    def served(self, outcome: str, rows: int) -> None:
        """Count served rows that were logged or dropped."""
        self.logged.labels(outcome).inc(rows)

    def watch(self, waiting: Callable[[], float]) -> None:
        """Take the number of waiting rows from a function."""
        self.waiting.set_function(waiting)

    def text(self) -> bytes:
        """Return all of them."""
        return generate_latest(self.registry)


class TimedStore:
    """A store whose reads are timed; else it is the store."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self.store = store
        self.metrics = metrics
        self.pointer = store.pointer
        self.content = store.content
        self.close = store.close

    def read(
        self, views: Mapping[str, tuple[str, str]], keys: Mapping[str, Sequence[bytes]]
    ) -> tuple[dict[str, Pointer], dict[str, Records]]:
        """Read as the store does."""
        began = time.perf_counter()
        try:
            return self.store.read(views, keys)
        finally:
            self.metrics.store.observe(time.perf_counter() - began)
