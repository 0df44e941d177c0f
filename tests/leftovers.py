"""After the tests, nothing that they started may run: a plugin of the process that deals them out (pytest-xdist)."""

import os
import time
import uuid

import psutil  # type: ignore[import-untyped]
import pytest

MARK = "UNSKEW_TEST_RUN"  # in the environment of whatever the tests start, and so of what that starts
PATIENCE = 20.0  # s


def pytest_configure(config: pytest.Config) -> None:
    """Mark what will be started."""
    if deals_out(config):
        os.environ[MARK] = uuid.uuid4().hex


@pytest.hookimpl(trylast=True)  # by then the processes that ran the tests have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if something is left, and say what."""
    if not deals_out(session.config):
        return
    last = time.monotonic() + PATIENCE
    while left := marked():
        if time.monotonic() > last:
            print("\nleft behind:", *left, sep="\n  ")  # noqa: T201
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        time.sleep(0.2)


def deals_out(config: pytest.Config) -> bool:
    """Return whether this process has others to run the tests."""
    return bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")


def marked() -> list[psutil.Process]:
    """Return the processes of this run that live, but for this one."""
    found = []
    for each in psutil.process_iter():
        try:
            of_this_run = each.environ().get(MARK) == os.environ[MARK]
            if of_this_run and each.pid != os.getpid() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
        except psutil.Error:
            continue
    return found
