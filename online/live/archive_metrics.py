"""What the archiver counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from unskew.online.live.exposition import expose


class Metrics:
    """Counters of one archiver.

    Parameters
    ----------
    port
        Where they are served at ``/metrics``; None serves them nowhere.
    host
        Address to listen at.

    Raises
    ------
    InputError
        If the port cannot be had.
    """

    def __init__(self, source: str, topic: str, port: int | None = None, host: str = "127.0.0.1") -> None:
        """Begin at zero."""
        self.source, self.topic = source, topic
        self.registry = CollectorRegistry()
        labels = ("source", "fate", "reason")
        self.events = Counter("unskew_events", "Messages in the archive, by fate.", labels, registry=self.registry)
        self.lag = Gauge(
            "unskew_consumer_lag", "Messages not yet in the archive.", ("topic", "partition"), registry=self.registry
        )
        self.belied = Counter(
            "unskew_belied_batches", "Batches with a message that an earlier upload may lack: upload again.", ("source",),
            registry=self.registry,
        )  # fmt: skip
        self.belied.labels(source)
        self.server = None if port is None else expose(self.registry, port, host)

    def count(self, fates: Mapping[tuple[str, str], int]) -> None:
        """Count messages that are in the archive now."""
        for (fate, reason), count in fates.items():
            self.events.labels(self.source, fate, reason).inc(count)

    def behind(self, partition: int, messages: int) -> None:
        """Say how many messages of a partition are not in the archive."""
        self.lag.labels(self.topic, str(partition)).set(messages)

    def close(self) -> None:
        """Stop serving them."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
