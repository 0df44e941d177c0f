"""A store and a server that the tests of a module share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.processes import Served, serving
from tests.server.world import fill, make_uploads
from unskew.online.store_sqlite import SqliteStore


@pytest.fixture(scope="session")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sets' uploads."""
    folder = tmp_path_factory.mktemp("uploads")
    make_uploads(folder)
    return folder


@pytest.fixture(scope="session")
def store_path(uploads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that holds an upload and a stream; it is only read."""
    path = tmp_path_factory.mktemp("store") / "store.sqlite"
    with SqliteStore(path) as store:
        fill(store, uploads)
    return path


@pytest.fixture(scope="module")
def server(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a running server without keys."""
    with serving(tmp_path_factory.mktemp("server"), store_path, "--max-age", "36h", "--max-rows", "500") as found:
        yield found
