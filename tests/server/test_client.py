"""Clients: attempts, failover, restarts that nobody notices."""

import asyncio
import json
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path

import httpcore
import pyarrow as pa
import pytest

from tests.redis_process import Server, redis_server
from tests.server.processes import Served, serving, started
from tests.server.test_features import AT, ROW
from tests.server.world import END, PLANS, fill, question
from unskew.online.read import FeatureReader
from unskew.online.server.attempts import LONGEST_WAIT, Attempts
from unskew.online.server.client import AsyncClient, Client, read_reply
from unskew.online.server.wire import METADATA
from unskew.online.store_redis import RedisStore
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines.errors import EngineError, InputError, StoreDown, StoreError


def attempts(servers: int, deadline: float = 10.0) -> tuple[Attempts, list[float]]:
    clock = [0.0]
    return Attempts([f"s{each}" for each in range(servers)], 0, deadline, lambda: clock[0], lambda: 1.0), clock


def test_each_server_is_tried_at_once_then_after_pauses_that_double() -> None:
    tried, _ = attempts(2)
    waits = []
    for _ in range(8):
        waits.append((tried.url, tried.failed("x")))
    assert waits == [("s0", 0), ("s1", 0.05), ("s0", 0), ("s1", 0.1), ("s0", 0), ("s1", 0.2), ("s0", 0), ("s1", 0.4)]


def test_pauses_are_as_long_as_the_most_patient_server_asks() -> None:
    tried, _ = attempts(2)
    assert [tried.failed("x", 3.0), tried.failed("x", 1.0)] == [0, 1.0]
    assert [tried.failed("x"), tried.failed("x", 5.0)] == [0, 0.1]
    alone, _ = attempts(1)
    assert alone.failed("x", 2.0) == 2.0


def test_a_deadline_ends_it() -> None:
    tried, clock = attempts(1, deadline=3.0)
    with pytest.raises(
        StoreDown, match=r"no server answered within 3 seconds, after \d+ attempts; the last one: because"
    ):
        for _ in count():
            clock[0] += tried.failed("because")
            assert clock[0] < 3.0
    longest, _ = attempts(1, deadline=1e6)
    assert max(longest.failed("x") for _ in range(20)) == LONGEST_WAIT


def test_it_reads_as_the_library_does(server: Served, store_path: Path) -> None:
    row = {"who": 1, "shop": "a", "paid": Decimal("12.50"), "asked_at": datetime(2023, 11, 15, 1, tzinfo=UTC)}
    with Client(server.url + "/", "cards") as client, SqliteStore(store_path) as store:
        found, own = client.read([row], AT), FeatureReader(PLANS["cards"], store).read([row], AT)
        assert found.row() == own.row() and found.table() == own.table()
        assert (found.at, found.set_name, found.fingerprint) == (AT, "cards", PLANS["cards"].fingerprint)
        assert (
            found.sources["tx"]["batch_end"] == END and found.flags == [{}] and set(found.newest[0]) == {"card", "shop"}
        )
        assert client.read([row], AT, ["share"]).table().column_names == ["share"]
        with pytest.raises(StoreError, match="is before batch_end"):
            client.read([row], END - 1)
        with pytest.raises(InputError, match="column `who` is missing"):
            client.read([{}], AT)
        with pytest.raises(InputError, match="cannot be sent"):
            client.read([{"who": object()}], AT)

    async def one() -> object:
        async with AsyncClient([server.url], "cards") as client:
            return (await client.read([row], AT)).row()

    assert asyncio.run(one()) == own.row()


def test_no_server_at_all() -> None:
    with (
        Client(["http://127.0.0.1:1", "http://127.0.0.1:2"], deadline=0.5) as client,
        pytest.raises(StoreDown, match="ConnectError"),
    ):
        client.read([ROW], AT)


HEAD = {"set": "s", "fingerprint": "f", "at": 1, "sources": {}, "newest": [{}], "flags": [{}]}


def reply(head: dict[str, object]) -> httpcore.Response:
    """Return a reply with one value and that head."""
    table = pa.table({"n": [3]}).replace_schema_metadata({METADATA: json.dumps(head)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    found = httpcore.Response(200, content=sink.getvalue().to_pybytes())
    found.read()
    return found


def test_a_newer_server_may_say_more() -> None:
    found = read_reply("http://server", reply(HEAD | {"model": "m"}))
    assert (found.set_name, found.at, found.row()) == ("s", 1, {"n": 3})


@pytest.mark.parametrize("name", HEAD)
def test_a_reply_that_lacks_something_is_none_of_a_feature_server(name: str) -> None:
    with pytest.raises(EngineError, match="is none of a feature server"):
        read_reply("http://server", reply({key: value for key, value in HEAD.items() if key != name}))


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8080", "ftp://a", "http://", "http://a:x", "http://a:99999", "http://a?b=1", "http://u:p@a", None],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_is_no_servers_address_is_refused(kind: type, url: str) -> None:
    with pytest.raises(InputError, match="write") as caught:
        kind([url])
    assert "u:p" not in str(caught.value)


class Load:
    """Clients that read without a pause and compare."""

    def __init__(self, urls: list[str], store: Path, threads: int = 4) -> None:
        rng = random.Random(11)  # noqa: S311
        pairs = [question(PLANS["cards"], rng) for _ in range(40)]
        with SqliteStore(store) as opened:
            reader = FeatureReader(PLANS["cards"], opened)
            self.expected = [(row, at, reader.read([row], at).row()) for row, at in pairs]
        self.urls, self.reads, self.failures = urls, 0, list[str]()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(each,)) for each in range(threads)]

    def __enter__(self) -> "Load":
        for each in self.threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for each in self.threads:
            each.join(30)

    def run(self, number: int) -> None:
        with Client(self.urls[number % 2 :] + self.urls[: number % 2], "cards") as client:
            for row, at, wanted in self.expected * 10_000:
                if self.stopped.is_set():
                    return
                try:
                    if client.read([row], at).row() != wanted:
                        self.failures.append(f"another value for {row}")
                except Exception as error:
                    self.failures.append(repr(error))
                self.reads += 1

    def wait(self, reads: int) -> None:
        """Wait for so many further reads."""
        until, goal = time.monotonic() + 60, self.reads + reads
        while self.reads < goal:
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_servers_restart_one_after_the_other_and_no_read_fails(sig: int, store_path: Path, tmp_path: Path) -> None:
    servers = [started(tmp_path, store_path, "--set", "cards") for _ in range(2)]
    try:
        with Load([each.url for each in servers], store_path) as load:
            load.wait(100)
            for number in (0, 1, 0):
                assert servers[number].end(sig) == (0 if sig == signal.SIGTERM else -sig)
                load.wait(100)
                servers[number] = started(tmp_path, store_path, "--set", "cards", port=servers[number].port)
                load.wait(100)
        assert load.failures == [] and load.reads > 600
    finally:
        for each in servers:
            each.process.kill()
            each.process.wait(20)


@pytest.fixture
def behind_redis(uploads: Path, tmp_path: Path) -> Iterator[tuple[Served, Server]]:
    """Return a server, and the Redis that it reads from."""
    with redis_server(tmp_path, "--appendonly", "yes") as redis:
        with RedisStore(redis.url) as store:
            fill(store, uploads, ["cards"])
        with serving(tmp_path, redis.url, "--set", "cards") as served:
            yield served, redis


def read_by(kind: str, url: str, deadline: float) -> dict[str, object]:
    """Read a row by one of the clients."""
    if kind == "Client":
        with Client(url, "cards", deadline=deadline) as client:
            return client.read([ROW], AT).row()

    async def read() -> dict[str, object]:
        async with AsyncClient(url, "cards", deadline=deadline) as client:
            return (await client.read([ROW], AT)).row()

    return asyncio.run(read())


def refusals(served: Served) -> int:
    """Return how many requests a server has answered by 503."""
    text = served.ask("GET", "/metrics")[1].decode()
    found = re.search(r'unskew_requests_total\{route="/v1/features",status="503"\} (\d+)', text)
    return int(found[1]) if found else 0


def test_clients_wait_for_a_store_that_is_down_until_it_is_back(behind_redis: tuple[Served, Server]) -> None:
    served, redis = behind_redis
    for kind in ("Client", "AsyncClient"):
        before = read_by(kind, served.url, 10)
        redis.end()
        status, body, headers = served.ask("POST", "/v1/features", {"set": "cards", "row": ROW, "at": AT})
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "store_down", "1")
        refused, began = refusals(served), time.monotonic()
        with ThreadPoolExecutor(1) as thread:
            reading = thread.submit(read_by, kind, served.url, 60)
            time.sleep(2.5)
            redis.start()
            assert reading.result() == before
        attempts, seconds = refusals(served) - refused, time.monotonic() - began
        assert seconds > 2 and 1 <= attempts <= seconds + 1  # no sooner than Retry-After says


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_store_that_stays_away_is_one_clear_error(behind_redis: tuple[Served, Server], kind: str) -> None:
    served, redis = behind_redis
    redis.end()
    began = time.monotonic()
    with pytest.raises(StoreDown) as refused:
        read_by(kind, served.url, 3)
    assert time.monotonic() - began < 10
    wanted = r"no server answered within 3 seconds, after [23] attempts; the last one: store `redis://127.0.0.1:\d+/0` cannot be reached; .*"
    assert re.fullmatch(wanted, str(refused.value))
