"""Runs a program and sees to it that it ends when the one who wanted it is gone, however that ended.

``python warden.py PARENT PROGRAM ARGUMENTS``: it leads a process group of its own that the program is in. It is run as a
file, without the installed packages, and so starts in the blink of an eye.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

TICK = 0.1  # s between two looks at the parent
GRACE = 5.0  # s that the program gets to end by itself
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux' prctl


def main() -> int:
    """Run the program; return its exit code, 128 and its number after a signal."""
    parent = int(sys.argv[1])
    signal.signal(signal.SIGTERM, leave_it)  # not SIG_IGN: the program would inherit that
    signal.signal(signal.SIGINT, leave_it)
    child = subprocess.Popen(sys.argv[2:], preexec_fn=die_with_me)  # noqa: PLW1509, S603 - there is one thread
    while child.poll() is None:
        if os.getppid() != parent:
            end(child)
        time.sleep(TICK)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def leave_it(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the group's signal reaches the program, and this ends after it."""


def die_with_me() -> None:
    """Let the kernel kill the program if this process is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


def end(child: subprocess.Popen[bytes]) -> None:
    """End the program, then everything in the group."""
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
