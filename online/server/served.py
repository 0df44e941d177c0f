"""Writes served rows to Kafka, a share of the entities, from a thread of its own: no request waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

import numpy as np
import orjson

from unskew.online.asked import Asked
from unskew.online.live.served_source import served_source
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import make_topics
from unskew.online.read import Reading
from unskew.online.served_rows import chosen, served_row
from unskew.online.server.metrics import Metrics
from unskew.online.server.question import Part

MOST_WAITING = 2_000  # readings; more are dropped, and counted
KEPT = {"retention.ms": str(7 * 86_400_000), "message.timestamp.type": "CreateTime"}
RETRY = 5.0  # s until a broker that was away is asked again
LOG = logging.getLogger("unskew.server")


class Offer(NamedTuple):
    """A reading and those of its rows that are logged."""

    part: Part
    reading: Reading
    asked: Asked
    t: np.ndarray[Any, np.dtype[np.int64]]
    rows: Sequence[int]


class ServedLog:
    """The served log of a server.

    Parameters
    ----------
    settings
        The broker.
    share
        Of the entities, 0 to 1: all rows of an entity are logged, or none.
    metrics
        Counts what is logged and what is dropped, because the broker is away or too slow.
    """

    def __init__(self, settings: KafkaSettings, share: float, metrics: Metrics) -> None:
        self.settings, self.share, self.metrics = settings, share, metrics
        self.queue: Queue[Offer] = Queue(MOST_WAITING)
        self.stopped = threading.Event()
        self.known: set[str] = set()
        self.producer: Any = None
        self.thread = threading.Thread(target=self.work, daemon=True, name="unskew-served")

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self.stopped.set()
        self.thread.join(timeout=5.0)

    def offer(self, part: Part, reading: Reading, asked: Asked, t: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Take the rows of a reading whose entity is sampled."""
        rows = chosen(asked, self.share)
        if not rows:
            return
        try:
            self.queue.put_nowait(Offer(part, reading, asked, t, rows))
        except Full:
            self.metrics.served("dropped", len(rows))

    def work(self) -> None:
        """Write rows until told to stop."""
        while not (self.stopped.is_set() and self.queue.empty()):
            try:
                found = self.queue.get(timeout=0.2)
            except Empty:
                continue
            try:
                self.write(found)
            except Exception:
                LOG.exception("served rows were not logged")
                self.metrics.served("dropped", len(found.rows))
                self.stopped.wait(RETRY)
        if self.producer is not None:
            self.producer.close(timeout=5)

    def write(self, offer: Offer) -> None:
        """Put a reading's rows on the topic."""
        source = served_source(offer.part.whole.name)
        if source.topic not in self.known:
            make_topics(self.settings, {source.topic: self.settings.partitions}, KEPT)
            self.known.add(source.topic)
        producer = self.connected()
        for key, value in messages(offer):
            producer.send(source.topic, key=key, value=value).add_both(self.noted)

    def noted(self, outcome: object) -> None:
        """Count a row that is on the topic, or is not."""
        self.metrics.served("dropped" if isinstance(outcome, BaseException) else "logged", 1)

    def connected(self) -> Any:
        """Return the producer."""
        if self.producer is None:
            from kafka import KafkaProducer  # noqa: PLC0415 - only where rows are logged

            self.producer = KafkaProducer(**self.settings.client(), linger_ms=50, compression_type="lz4")
        return self.producer


def messages(offer: Offer) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each row."""
    cells = {name: offer.reading.columns[name].cells() for name in offer.part.names}
    first = next(iter(offer.asked.keys.values()))
    for row in offer.rows:
        at = int(offer.t[row])
        values = {name: own[row] for name, own in cells.items()}
        content = served_row(offer.reading, offer.asked, offer.part.form, values, row, at, offer.part.fingerprint)
        entity = first[row]
        message = {
            "at": at,
            "entity": entity.decode(),
            "fingerprint": offer.part.fingerprint,
            "content": content.decode(),
        }
        yield entity, orjson.dumps(message)
