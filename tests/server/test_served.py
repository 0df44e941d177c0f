"""The served log keeps of a reading the rows that it logs, within bounds of bytes, and puts them on a real broker."""

import gc
import random
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
from kafka import KafkaConsumer, KafkaProducer

from tests.server.world import PLANS, question
from unskew.online.asked import Asked
from unskew.online.kernels import Ints
from unskew.online.live.broker import Broker
from unskew.online.live.served_source import served_source
from unskew.online.live.settings import KafkaSettings
from unskew.online.read import FeatureReader, Reading
from unskew.online.served_rows import chosen, served_row
from unskew.online.server import served
from unskew.online.server.metrics import Metrics
from unskew.online.server.question import Part, part_of
from unskew.online.server.served import ServedLog, messages, offered
from unskew.online.store_sqlite import SqliteStore

ROWS = 60


def read(store_path: Path, part: Part) -> tuple[Reading, Asked, Ints]:
    """Read rows of a set."""
    rng = random.Random(5)  # noqa: S311
    pairs = [question(part.whole, rng) for _ in range(ROWS)]
    t = np.array([at for _, at in pairs], np.int64)
    with SqliteStore(store_path) as store:
        reader = FeatureReader(part.plan, store)
        asked = reader.form.asked([row for row, _ in pairs])
        return reader.read_asked(asked, t, lenient=True), asked, t


def contents(part: Part, reading: Reading, asked: Asked, t: Ints, rows: Sequence[int]) -> list[bytes]:
    """Return what is logged of rows, made of the whole reading."""
    cells = {name: reading.columns[name].cells() for name in part.names}
    return [
        served_row(reading, asked, part.form, {name: own[row] for name, own in cells.items()}, row, int(t[row]), part.whole.fingerprint)
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("rows", [range(ROWS), [3], [7, 8, 31, 59]], ids=["all", "one", "some"])
def test_what_is_kept_of_some_rows_is_what_the_reading_had(store_path: Path, name: str, rows: Sequence[int]) -> None:
    part = part_of(PLANS[name], None)
    reading, asked, t = read(store_path, part)
    found = [orjson.loads(value) for _, value in messages(offered(part, reading, asked, t, rows))]
    assert [each["content"].encode() for each in found] == contents(part, reading, asked, t, rows)
    assert [each["at"] for each in found] == [int(t[row]) for row in rows]


def test_one_row_keeps_no_reading_alive(store_path: Path) -> None:
    part = part_of(PLANS["cards"], None)
    reading, asked, t = read(store_path, part)
    log = ServedLog(KafkaSettings(), 1.0, Metrics([]))
    whole, records = weakref.ref(reading), weakref.ref(reading.views["card"])
    log.offer(part, reading, asked, t)
    del reading
    gc.collect()
    assert log.queue.qsize() == 1 and whole() is None and records() is None


def test_what_waits_is_bounded_by_bytes_and_what_is_dropped_is_counted(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_of(PLANS["cards"], None)
    reading, asked, t = read(store_path, part)
    size = offered(part, reading, asked, t, chosen(asked, 1.0)).size
    assert size > ROWS * served.ROW_BYTES
    monkeypatch.setattr(served, "MOST_BYTES", size * 5 // 2)
    metrics = Metrics([])
    log = ServedLog(KafkaSettings(), 1.0, metrics)
    for _ in range(5):
        log.offer(part, reading, asked, t)
    assert (log.queue.qsize(), log.bytes) == (2, 2 * size)
    assert f'unskew_served_rows_total{{outcome="dropped"}} {3 * ROWS}.0' in metrics.text().decode()


def test_rows_are_on_the_topic_and_let_go_of(broker: Broker, store_path: Path) -> None:
    part = part_of(PLANS["everything"], None)
    reading, asked, t = read(store_path, part)
    log = ServedLog(KafkaSettings(broker.address), 1.0, Metrics([]))
    log.start()
    log.offer(part, reading, asked, t)
    until = time.monotonic() + 60
    while log.bytes:
        assert time.monotonic() < until
        time.sleep(0.05)
    log.stop()
    topic = served_source("everything").topic
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.address, auto_offset_reset="earliest", consumer_timeout_ms=10_000
    )
    found = [orjson.loads(next(consumer).value)["content"].encode() for _ in range(ROWS)]
    consumer.close()
    assert sorted(found) == sorted(contents(part, reading, asked, t, range(ROWS)))


def test_rows_that_are_too_large_are_let_go_of(
    broker: Broker, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "RETRY", 0.0)
    part = part_of(PLANS["cards"], None)
    reading, asked, t = read(store_path, part)
    metrics = Metrics([])
    log = ServedLog(KafkaSettings(broker.address), 1.0, metrics)
    log.producer = KafkaProducer(bootstrap_servers=broker.address, max_request_size=100)
    log.start()
    log.offer(part, reading, asked, t)
    log.stop()
    assert (log.queue.qsize(), log.bytes) == (0, 0)
    assert f'unskew_served_rows_total{{outcome="dropped"}} {ROWS}.0' in metrics.text().decode()
