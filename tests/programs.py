"""Programs that run beside a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def beside(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Wait for a program's end after the block; kill it if the block fails: it might run for ever, and hide that."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
