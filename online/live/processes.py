"""Programs that run beside this one for a while: started, waited for, ended, never left behind."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from unskew.online.live import warden
from unskew.online.live.settings import LAST_PORT
from unskew.pipelines.errors import EngineError, InputError

HOST = "127.0.0.1"
PORTS = range(
    15_000, 30_000
)  # below those that the kernel gives to outgoing connections: they stay free over a restart
TICK = 0.05  # s between two looks
GRACE = 20.0  # s between TERM and KILL
AUTOGROUP_TRIES = 5
GONE = 10.0  # s that the kernel may take to end what was killed
NO_SIGNAL = 0  # only asks whether there is somebody
SIGNALLED = 128  # and the number of a signal: the code of what it ended, as shells have it
COMPLAINT = re.compile("warn|error|fatal|exception", re.IGNORECASE)
TAIL = 300  # characters of a log that an error quotes


class Process:
    """A program in a process group of its own, which also ends if this process is killed.

    Parameters
    ----------
    name
        What errors call it.
    command
        Program and arguments.
    folder
        Working folder; it must exist.
    log
        File that its output is appended to.
    environment
        Beside this process's own.
    keeps
        Open files, by their descriptors, that stay open for as long as it runs.
    nice
        From 0 to 19: how much it leaves the processors to others.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, log: Path,
        environment: Mapping[str, str] | None = None, keeps: Sequence[int] = (), nice: int = 0,
    ) -> None:  # fmt: skip
        """Start it."""
        self.name, self.log = name, log
        guarded = [sys.executable, "-I", "-S", warden.__file__, str(os.getpid()), *command]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(  # noqa: S603 - what the caller says
                guarded, cwd=folder, env={**os.environ, **(environment or {})}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=keeps,
            )  # fmt: skip
        if nice:
            leave_to_others(self.pid, nice)

    @property
    def pid(self) -> int:
        """Its process group."""
        return self.popen.pid

    def alive(self) -> bool:
        """Return whether it runs."""
        return self.popen.poll() is None

    def wait_for(self, answers: Callable[[], bool], patience: float) -> None:
        """Wait until it answers.

        Parameters
        ----------
        answers
            Asks it once.
        patience
            s.

        Raises
        ------
        EngineError
            If it ends or does not answer in time.
        """
        last = time.monotonic() + patience
        while not answers():
            self.must_run()
            if time.monotonic() > last:
                self.end()
                self.refuse(f"gave no answer within {patience:.0f} s: `{tail(self.log)}`")
            time.sleep(TICK)

    def watch(self, patience: float = 0.5) -> None:
        """Look at it for `patience` seconds.

        Raises
        ------
        EngineError
            If it ends.
        """
        try:
            self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        self.must_run()

    def must_run(self) -> None:
        """Raise an EngineError if it has ended."""
        if not self.alive():
            self.refuse(how_ended(self.popen.returncode, self.log))

    def refuse(self, what: str) -> None:
        """Raise an error that names the log."""
        message = f"{self.name} {what}; see `{self.log}`"
        raise EngineError(message)

    def end(self, grace: float = GRACE) -> None:
        """End it: TERM, and KILL after `grace` seconds."""
        if self.alive():
            self.signal(signal.SIGTERM)
            try:
                self.popen.wait(grace)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Kill it and everything in its group, as a crash would."""
        if self.alive():
            self.signal(signal.SIGKILL)
            self.popen.wait()  # the warden; what it ran may take longer, and has its ports until then
            last = time.monotonic() + GONE
            while self.signal(NO_SIGNAL) and time.monotonic() < last:
                time.sleep(TICK / 10)

    def signal(self, number: int) -> bool:
        """Send a signal to the group; return whether somebody is in it."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def leave_to_others(session: int, nice: int) -> None:
    """Give a session and its process group a nice value.

    Linux may share its processors among sessions first (sched(7), autogroup); then a process's own value counts
    within its session only.
    """
    with suppress(ProcessLookupError):  # it has ended
        os.setpriority(os.PRIO_PGRP, session, nice)
    group = Path(f"/proc/{session}/autogroup")
    for _ in range(AUTOGROUP_TRIES if group.exists() else 0):
        try:
            group.write_text(str(nice))
        except BlockingIOError:  # one may be set in a tenth of a second, but by root
            time.sleep(TICK * 2)
        except OSError:
            return
        else:
            return


def how_ended(code: int, log: Path) -> str:
    """Say how a program ended, with the last line of its log; of one that was killed, only if it is a complaint."""
    number = -code if code < 0 else code - SIGNALLED
    last = tail(log)
    if not 0 < number < signal.NSIG:
        return f"ended with code `{code}`: `{last}`"
    return f"was killed (signal {number})" + (f": `{last}`" if COMPLAINT.search(last) else "")


def tail(log: Path) -> str:
    """Return the last line of a log that is no line of a stack trace, cut to what an error can hold."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [each.strip() for each in text.splitlines() if each.strip()]
    telling = [each for each in lines if not each.startswith(("at ", "... "))]
    return (telling or ["nothing was said"])[-1][:TAIL]


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    for port in random.sample(PORTS, 100):
        if is_free(port):
            return port
    message = f"no port between `{PORTS.start}` and `{PORTS.stop}` is free; end what listens there"
    raise EngineError(message)


def take_port(port: int | None) -> int:
    """Return a port that was asked for, or any free one for None.

    Raises
    ------
    InputError
        If it is no port, or somebody listens on it.
    """
    if port is not None and not 0 < port <= LAST_PORT:
        message = f"port `{port}` is none; choose one from 1 to {LAST_PORT}"
        raise InputError(message)
    if port is not None and not is_free(port):
        message = f"port `{port}` is taken; end what listens there, or choose another"
        raise InputError(message)
    return free_port() if port is None else port


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port now."""
    with socket.socket() as trial:
        trial.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: a closed connection is no hindrance
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a port."""
    with socket.socket() as trial:
        trial.settimeout(1.0)
        return trial.connect_ex((HOST, port)) == 0
