"""Programs that run beside a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import AnyStr


@contextmanager
def beside(process: "subprocess.Popen[AnyStr]") -> Iterator["subprocess.Popen[AnyStr]"]:
    """Wait for a program's end after the block; kill it if the block fails: it might run for ever, and hide that."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
