"""Real servers that tests share: each is started when a test first asks for it, and ended with the session."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.prism import cached_prism, running_prism
from tests.required import missing
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.jars import VARIABLE, cache_folder, jars_folder
from unskew.online.live.processes import Process
from unskew.online.live.redis_server import PROGRAM, RedisServer

LONGEST = "test_mutants.py"


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what runs in one process of several (pytest-xdist): tests of the shared servers, and tests of one file.

    Those that take longest come first: the tests of the servers, and the longest file. pytest-xdist 3.8 needs a pytest
    before 9.2 for that.
    """
    for each in items:
        each.add_marker(pytest.mark.xdist_group("servers" if shares(each) else each.nodeid.partition("::")[0]))
    items.sort(key=lambda each: (not shares(each), each.path.name != LONGEST))


def shares(item: pytest.Item) -> bool:
    """Return whether a test asks for a server of this module: each has its folder in the common one."""
    return "servers_folder" in getattr(item, "fixturenames", ())


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return what runs in a folder or below it."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.status() != psutil.STATUS_ZOMBIE and Path(each.cwd()).is_relative_to(folder):
                found.append(each)
        except psutil.Error:
            continue
    return found


@contextmanager
def paused(process: Process) -> Iterator[None]:
    """Stop a program for a while, and not its warden, who ends it if this process is killed meanwhile."""
    programs = psutil.Process(process.pid).children(recursive=True)
    for each in programs:
        each.suspend()
    try:
        yield
    finally:
        for each in programs:
            each.resume()


def wait_for_none_in(folder: Path, patience: float = 10.0) -> None:
    """Wait until nothing runs in a folder; fail with what does."""
    last = time.monotonic() + patience
    while left := processes_in(folder):
        assert time.monotonic() < last, f"left behind: {left}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of all servers; nothing may run in it at the end."""
    folder = tmp_path_factory.mktemp("servers")
    if "PYTEST_XDIST_WORKER" in os.environ:  # then the folder above is common to all processes
        (folder.parents[1] / "servers").touch(exist_ok=False)  # they are shared: only one process has them
    yield folder
    wait_for_none_in(folder)


@pytest.fixture(scope="session")
def jars() -> Path:
    """Return the folder with the connector and the broker."""
    if not os.environ.get(VARIABLE) and not cache_folder(os.environ).is_dir() and shutil.which("mvn") is None:
        missing(f"there is no Maven to fetch the jars, and no {VARIABLE}")
    return jars_folder()


@pytest.fixture(scope="session")
def broker(servers_folder: Path, jars: Path) -> Iterator[Broker]:
    """Run one Kafka broker; tests use topics of their own."""
    assert jars.is_dir()
    with Broker(servers_folder / "kafka") as server:
        yield server


@pytest.fixture(scope="session")
def flink_cluster(servers_folder: Path, jars: Path) -> Iterator[FlinkCluster]:
    """Run one JobManager and two TaskManagers of two slots; a test that kills one starts one again."""
    assert jars.is_dir()
    with FlinkCluster(servers_folder / "flink") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[RedisServer]:
    """Run one Redis server; tests use databases or prefixes of their own."""
    if shutil.which(PROGRAM) is None:
        missing(f"there is no {PROGRAM}")
    with RedisServer(servers_folder / "redis") as server:
        yield server


@pytest.fixture(scope="session")
def prism(servers_folder: Path) -> Iterator[str]:
    """Run Beam's Prism, and give the address of its job service."""
    if not cached_prism(os.environ).is_file() and shutil.which("go") is None:
        missing("there is no Go to build Prism with")
    with running_prism(servers_folder / "prism") as address:
        yield address
