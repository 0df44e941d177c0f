"""The server gives what the library gives: every cell, bit for bit, whoever else asks at the same time."""

import random
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tests.server.processes import Served
from tests.server.world import END, HOUR, PLANS, question
from tests.strategies import POOL
from unskew.online.read import FeatureReader
from unskew.online.server.client import Client
from unskew.online.store_sqlite import SqliteStore

CLIENTS, ROUNDS = 8, 6
THREAD = threading.local()


def bits(value: Any) -> Any:
    """Return a value in a form in which only the same bits are equal; map keys as JSON writes them."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, list):
        return [bits(each) for each in value]
    if isinstance(value, dict):
        return {key_text(key): bits(each) for key, each in value.items()}
    return type(value), value


def key_text(key: Any) -> str:
    return (
        str(key).lower()
        if isinstance(key, bool)
        else orjson.dumps(key).decode()
        if isinstance(key, float)
        else str(key)
    )


class Library:
    """The library's reads of the same store."""

    def __init__(self, store: Path) -> None:
        self.store = SqliteStore(store)
        self.readers = {name: FeatureReader(made, self.store) for name, made in PLANS.items()}

    def table(self, name: str, rows: list[dict[str, Any]], at: list[int]) -> pa.Table:
        return self.readers[name].read(rows, at).table()

    def rows(self, name: str, rows: list[dict[str, Any]], at: list[int]) -> list[dict[str, Any]]:
        return [self.readers[name].read([row], t).row() for row, t in zip(rows, at, strict=True)]


def ask(server: Served, store: Path, seed: int) -> int:
    """Compare some rounds of questions; return how many cells were compared."""
    rng, cells = random.Random(seed), 0  # noqa: S311
    library = Library(store)
    with Client(server.url) as client:
        for _ in range(ROUNDS):
            made = rng.choice(list(PLANS.values()))
            client.set_name = made.name
            pairs = [question(made, rng) for _ in range(rng.choice([1, 1, 1, 2, 5]))]
            rows, at = [row for row, _ in pairs], [t for _, t in pairs]
            wanted = library.table(made.name, rows, at)
            assert client.read(rows, at).table() == wanted, (rows, at)
            wide = [{name: sent(value) for name, value in row.items()} for row in rows]
            found = server.read(set=made.name, rows=wide, at=at)
            own = library.rows(made.name, rows, at)
            assert found["columns"] == wanted.column_names
            for values, row in zip(found["rows"], own, strict=True):
                for name, value in zip(found["columns"], values, strict=True):
                    assert bits(value) == bits(row[name]), (made.name, name, row)
                    cells += 1
    return cells


def sent(value: Any) -> Any:
    """Return a value as JSON takes it."""
    return value if value is None or isinstance(value, int | str | float) else str(value)


def test_many_clients_at_once_read_what_the_library_reads(server: Served, store_path: Path) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        cells = list(clients.map(lambda seed: ask(server, store_path, seed), range(CLIENTS)))
    assert sum(cells) > CLIENTS * ROUNDS * 6
    _, text, _ = server.ask("GET", "/metrics")
    assert b'unskew_requests_total{route="/v1/features",status="200"}' in text


def test_large_integers_survive(server: Served, store_path: Path) -> None:
    row = {"shop": "a", "paid": 1, "asked_at": None}
    rows = [row | {"who": who} for who in POOL]
    own = Library(store_path).rows("cards", rows, [END + HOUR] * len(rows))
    found = server.read(set="cards", features=["card.most_1d"], rows=rows, at=END + HOUR)
    assert [values for (values,) in found["rows"]] == [each["card.most_1d"] for each in own]
    assert max(abs(each["card.most_1d"] or 0) for each in own) > 2**53
