"""Fixtures that several folders share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.redis_process import Server, redis_server
from tests.required import missing
from unskew.online.java import SHORT_WORK
from unskew.online.store import Store
from unskew.online.store_redis import RedisStore
from unskew.online.store_sqlite import SqliteStore

pytest_plugins = ["tests.servers", "tests.leftovers"]
# programs of tests end before Java's second compiler has paid for itself
os.environ.setdefault("JDK_JAVA_OPTIONS", SHORT_WORK)
# a loaded machine is slow, which is no failure
settings.register_profile("unskew", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("unskew")
SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return the path of a file of real data; without it, skip on a laptop and fail in CI."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            missing(f"real data `{name}` is not beside the checkout")
        return path

    return find


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def fresh_store(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return what opens an empty store, of each kind."""
    if request.param == "sqlite":
        return lambda: SqliteStore(":memory:")
    server: Server = request.getfixturevalue("redis")

    def fresh() -> Store:
        with server.client() as client:
            client.flushdb()
        return RedisStore(server.url)

    return fresh
