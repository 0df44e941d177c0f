"""Fixtures that several folders share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis

from unskew.online.live.redis_server import RedisServer
from unskew.online.store import Store
from unskew.online.store_redis import RedisStore
from unskew.online.store_sqlite import SqliteStore

pytest_plugins = ["tests.servers"]
# a loaded machine is slow, which is no failure
settings.register_profile("unskew", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("unskew")
STORE_DATABASE = 15  # of the shared Redis: it is emptied again and again
SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return the path of a file of real data; without it, skip on a laptop and fail in CI."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            reason = f"real data `{name}` is not beside the checkout"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def fresh_store(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return what opens an empty store, of each kind."""
    if request.param == "sqlite":
        return lambda: SqliteStore(":memory:")
    server: RedisServer = request.getfixturevalue("redis_server")

    def fresh() -> Store:
        with Redis(port=server.port, db=STORE_DATABASE) as client:
            client.flushdb()
        return RedisStore(server.address.removesuffix("/0") + f"/{STORE_DATABASE}")

    return fresh
