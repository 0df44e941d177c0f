"""Temporary folders that go with their owner, or, where that was killed, with the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

YOUNG = 60.0  # s in which an owner has taken its lock


@contextmanager
def scratch(prefix: str) -> Iterator[str]:
    """Give a folder until the end of the block; first remove those of the same prefix that nobody owns any more.

    An owner holds a lock on its folder, which the system takes back however the owner ends.
    """
    for each in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        remove_if_left(each)
    # who writes into it may be killed late, and leave something even then
    with TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder, locked(Path(folder)):
        yield folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def remove_if_left(folder: Path) -> None:
    """Remove a folder whose owner is gone; leave what is young, owned, or another user's."""
    with suppress(OSError):
        if time.time() - folder.stat().st_mtime > YOUNG:
            with locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
