"""Worlds over the shared servers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.live.world import Payments, World, unique
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.redis_server import RedisServer

NewWorld = Callable[[str], World]


@pytest.fixture
def new_world(
    tmp_path: Path, broker: Broker, flink_cluster: FlinkCluster, request: pytest.FixtureRequest
) -> Iterator[NewWorld]:
    """Return what makes a world over an SQLite or a Redis store; its processes end with the test."""
    made: list[World] = []

    def make(kind: str) -> World:
        url = str(tmp_path / "store.sqlite")
        if kind == "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            url = server.address
            with Redis.from_url(url) as client:
                client.flushall()  # the world of the test before
        world = World(tmp_path, broker.address, flink_cluster.address, url, unique(), Payments(7))
        made.append(world)
        return world

    yield make
    for each in made:
        each.end()
