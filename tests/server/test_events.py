"""Events over HTTP onto a real broker: judged, acknowledged, or refused."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from tests.server.processes import Served, serving
from tests.server.world import PLANS
from tests.servers import paused
from unskew.online.live.broker import Broker
from unskew.online.live.settings import KafkaSettings
from unskew.online.server.events import Events
from unskew.online.server.metrics import Metrics
from unskew.online.server.producer import Producer
from unskew.online.server.refusal import Refusal

EVENT = {"id": 1, "ts": 1_700_010_000_000, "who": 7, "shop": "a", "amount": "12.50", "big": None}
PARTITIONS = 3


@pytest.fixture(scope="module")
def posting(broker: Broker, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_topics([NewTopic("tx", PARTITIONS, 1)])
    admin.close()
    settings = f"timeout = '3s'\nmax_waiting = 2000\n[kafka]\nbootstrap_servers = '{broker.address}'\n"
    with serving(tmp_path_factory.mktemp("events"), store_path, "--set", "cards", settings=settings) as found:
        yield found


def messages(broker: Broker) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    """Return what the topic holds, by partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest", enable_auto_commit=False)
    parts = [TopicPartition("tx", each) for each in range(PARTITIONS)]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = consumer.end_offsets(parts)
    found: dict[tuple[int, int], tuple[bytes, bytes]] = {}
    while len(found) < sum(ends.values()):
        for records in consumer.poll(1_000).values():
            found |= {(each.partition, each.offset): (each.key, each.value) for each in records}
    consumer.close()
    return found


def lines(*events: Any) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in events) + b"\n"


def test_events_are_where_the_reply_says(posting: Served, broker: Broker) -> None:
    status, one, _ = posting.ask("POST", "/v1/events/tx", EVENT)
    assert (status, one["source"], one["topic"], len(one["events"])) == (202, "tx", "tx", 1)
    many = [EVENT | {"id": each} for each in range(100)]
    status, found, _ = posting.ask("POST", "/v1/events/tx", lines(*many), {"content-type": "application/x-ndjson"})
    assert (status, len(found["events"])) == (202, 100)
    held = messages(broker)
    for event, place in zip([EVENT, *many], one["events"] + found["events"], strict=True):
        key, value = held[place["partition"], place["offset"]]
        assert json.loads(value) == event and json.loads(key) == [event["id"]]
    copies = {place["partition"] for place in (one["events"][0], found["events"][1])}
    assert len(copies) == 1  # copies of an event meet in one partition
    assert len({place["partition"] for place in found["events"]}) == PARTITIONS


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"amount": "1.234"}, "wrong_type", "column `amount` is `Decimal(12, 2)`"),
        ({"amount": 10**12}, "out_of_range", "column `amount`"),
        ({"ts": None}, "null_event_time", "its event time is missing or null"),
        ({"id": None}, "null_event_id", "its event id is missing or null"),
        ({"ts": 32_503_680_000_000}, "future", "further ahead of the clock"),
        ({"who": "seven"}, "wrong_type", "column `who` is `Int64`"),
        ({"ts": "2025-01-01T00:00:00Z"}, "wrong_type", "column `ts` is `Timestamp`, in ms since 1970"),
    ],
)
def test_what_the_stream_would_quarantine_is_refused(
    posting: Served, broker: Broker, change: dict[str, Any], code: str, message: str
) -> None:
    before = len(messages(broker))
    status, body, _ = posting.ask("POST", "/v1/events/tx", EVENT | change)
    assert (status, body["error"]["code"]) == (422, code) and message in body["error"]["message"]
    batch = lines(EVENT, EVENT | change)
    status, body, _ = posting.ask("POST", "/v1/events/tx", batch, {"content-type": "application/x-ndjson"})
    assert (status, body["error"]["code"]) == (422, code) and body["error"]["message"].startswith("line 2: event `")
    assert len(messages(broker)) == before  # all of a batch or nothing


def test_other_refusals(posting: Served) -> None:
    assert "no single JSON object" in posting.refused(422, b"[1]", "/v1/events/tx")
    assert "no single JSON object" in posting.refused(422, b"\xff", "/v1/events/tx")
    assert "the body holds no events" in posting.refused(
        422, b"\n\n", "/v1/events/tx", **{"content-type": "application/x-ndjson"}
    )
    assert "source `txs` takes no events: it is unknown, or declares no topic; did you mean `tx`?" in posting.refused(
        404, EVENT, "/v1/events/txs"
    )
    assert "content type `text/csv`" in posting.refused(415, b"x", "/v1/events/tx", **{"content-type": "text/csv"})
    large = EVENT | {"shop": "x" * 1_100_000}
    assert "the event has `1100084` bytes; send at most 1048064" in posting.refused(413, large, "/v1/events/tx")
    assert posting.refused(
        413, lines(EVENT, large), "/v1/events/tx", **{"content-type": "application/x-ndjson"}
    ).startswith("line 2: ")
    many = lines(*[EVENT] * 2_001)
    assert (
        posting.ask("POST", "/v1/events/tx", many, {"content-type": "application/x-ndjson"})[0] == 202
    )  # alone, any number


def test_a_broker_that_is_down_is_503_until_it_is_back(posting: Served, broker: Broker) -> None:
    assert broker.process is not None
    before = len(messages(broker))
    with paused(broker.process):
        status, body, headers = posting.ask("POST", "/v1/events/tx", EVENT)
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "broker_down", "1")
        assert posting.ask("GET", "/healthz")[0] == 200
        assert posting.ask("GET", "/readyz")[0] == 200  # reads go on
    until = time.monotonic() + 60
    while posting.ask("POST", "/v1/events/tx", EVENT)[0] != 202:
        assert time.monotonic() < until
    assert len(messages(broker)) > before


def test_nothing_is_kept_of_what_was_refused_while_the_broker_is_away() -> None:
    #   s:       0    0.5        1
    #   thread:  [connect for the first)[nothing is left to do
    #   100:     [wait)[refused: nobody connects for them
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        address = "{}:{}".format(*silent.getsockname())
        producer = Producer(KafkaSettings(address), timeout=0.5)
        events = Events(PLANS.values(), producer, Metrics([]), max_waiting=100)
        codes = asyncio.run(refusals(events, 101))
        assert codes == ["broker_down"] * 100 + ["overloaded"]
        until = time.monotonic() + 10
        while producer.waiting:
            assert time.monotonic() < until
            time.sleep(0.02)
        asyncio.run(producer.stop())


async def refusals(events: Events, count: int) -> list[str]:
    """Post events at a time; return why each was refused."""
    body = json.dumps(EVENT).encode()
    found = await asyncio.gather(
        *(events.take("tx", body, "application/json") for _ in range(count)), return_exceptions=True
    )
    return [each.code for each in found if isinstance(each, Refusal)]
