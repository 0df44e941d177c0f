"""Writes served rows to Kafka, a share of the entities, from a thread of its own: no request waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import orjson

from unskew.online.asked import Asked
from unskew.online.live.served_source import KEPT, served_source
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import make_topics
from unskew.online.read import Reading
from unskew.online.served_rows import chosen, known_part, served_row
from unskew.online.server.metrics import Metrics
from unskew.online.server.question import Part

MOST_BYTES = 64 * 2**20  # of rows that wait for the broker; more are dropped, and counted
ROW_BYTES = 2_000  # of a row beside its values and records
RETRY = 5.0  # s until a broker that was away is asked again
LOG = logging.getLogger("unskew.server")


class Offer(NamedTuple):
    """Rows that are logged, and nothing else of their reading.

    Parameters
    ----------
    values
        For each row its values in the order of the part's names, as JSON: maps as pairs.
    """

    part: Part
    reading: Reading
    asked: Asked
    t: np.ndarray[Any, np.dtype[np.int64]]
    values: Sequence[bytes]

    @property
    def size(self) -> int:
        """About how many bytes it keeps."""
        records = sum(len(opened or b"") for view in self.reading.views.values() for _, opened in view.records)
        return records + sum(len(each) + ROW_BYTES for each in self.values)


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
        self.queue: SimpleQueue[Offer] = SimpleQueue()
        self.bytes = 0  # of the queue, and of messages that the broker has not acknowledged
        self.lock = threading.Lock()
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
        found = offered(part, reading, asked, t, rows)
        if self.bytes and self.bytes + found.size > MOST_BYTES:
            self.metrics.served("dropped", len(rows))
            return
        self.hold(found.size)
        self.queue.put(found)

    def hold(self, size: int) -> None:
        """Count bytes that are kept, or let go of; in any thread."""
        with self.lock:
            self.bytes += size

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
                self.metrics.served("dropped", len(found.values))
                self.stopped.wait(RETRY)
            finally:
                self.hold(-found.size)
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
            future = producer.send(source.topic, key=key, value=value)
            self.hold(len(value))  # after what may fail
            future.add_both(partial(self.noted, len(value)))

    def noted(self, size: int, outcome: object) -> None:
        """Count a row that is on the topic, or is not."""
        self.hold(-size)
        self.metrics.served("dropped" if isinstance(outcome, BaseException) else "logged", 1)

    def connected(self) -> Any:
        """Return the producer."""
        if self.producer is None:
            from kafka import KafkaProducer  # noqa: PLC0415 - only where rows are logged

            self.producer = KafkaProducer(**self.settings.client(), linger_ms=50, compression_type="lz4")
        return self.producer


def offered(
    part: Part, reading: Reading, asked: Asked, t: np.ndarray[Any, np.dtype[np.int64]], rows: Sequence[int]
) -> Offer:
    """Return rows of a reading to be logged."""
    columns = [reading.columns[name].taken(rows).cells() for name in part.names]
    values = [
        orjson.dumps([list(each.items()) if isinstance(each, dict) else each for each in row])
        for row in zip(*columns, strict=True)
    ]
    return Offer(part, known_part(reading, rows), asked.taken(rows), t[list(rows)], values)


def messages(offer: Offer) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each row."""
    fingerprint = offer.part.whole.fingerprint
    for row, entity in enumerate(next(iter(offer.asked.keys.values()))):
        at = int(offer.t[row])
        values = dict(zip(offer.part.names, orjson.loads(offer.values[row]), strict=True))
        content = served_row(offer.reading, offer.asked, offer.part.form, values, row, at, fingerprint)
        message = {"at": at, "entity": entity.decode(), "fingerprint": fingerprint, "content": content.decode()}
        yield entity, orjson.dumps(message)
