"""Several materialisers write the same entities at once, in either store."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.online.stream_rows import stream_rows
from tests.online.test_store import HOUR, PLAN, read, row
from tests.redis_process import Server
from unskew.online.materialise import Batch, Materialiser
from unskew.online.store import Store
from unskew.online.store_redis import RedisStore
from unskew.online.store_sqlite import SqliteStore

EVENTS = [row(n, (n % 4) * HOUR + n, x=n % 7, who=n % 3) for n in range(240)]  # three entities, four tiles of each
WRITERS, AT_ONCE = 4, 10


@pytest.fixture(params=["sqlite", "redis"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Return what opens one more store on the same data, at first none."""
    made: list[Store] = []
    if request.param == "redis":
        server: Server = request.getfixturevalue("redis")
        with server.client() as client:
            client.flushdb()

    def opened() -> Store:
        made.append(SqliteStore(tmp_path / "store") if request.param == "sqlite" else RedisStore(server.url))
        return made[-1]

    yield opened
    for each in made:
        each.close()


def parts(batches: Mapping[str, Batch], low: int, high: int) -> dict[str, Batch]:
    """Return the rows of some events."""
    return {
        view: [(each, rows.filter(pa.array([low <= seq < high for seq in rows["seq"].to_pylist()]))) for each, rows in batch]
        for view, batch in batches.items()
    }  # fmt: skip


def values(store: Store) -> list[dict[str, Any]]:
    return [read(store, at, who) for at in (HOUR, 3 * HOUR, 5 * HOUR) for who in range(3)]


def test_writers_at_once_lose_nothing(another: Callable[[], Store]) -> None:
    batches = stream_rows(PLAN, "tx", EVENTS)
    Materialiser(another(), PLAN, "tx", "alone").apply(batches)
    expected = values(another())
    together = threading.Barrier(WRITERS)
    failed: list[Exception] = []

    def write(which: int) -> None:
        """Write each fourth batch of ten events."""
        try:
            writer = Materialiser(another(), PLAN, "tx", "job", version_life=2**60)
            together.wait()
            for low in range(AT_ONCE * which, len(EVENTS), AT_ONCE * WRITERS):
                writer.apply(parts(batches, low, low + AT_ONCE))
        except Exception as error:  # told to the main thread
            failed.append(error)

    writers = [threading.Thread(target=write, args=(which,)) for which in range(WRITERS)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert failed == []
    found = another()
    assert values(found) == expected
    assert found.written("job").applied == found.written("job", "card").applied == len(EVENTS)
    assert found.written("job", "other").applied == 0
