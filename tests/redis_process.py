"""A real Redis for tests: on a free port of this machine, in a folder of its own; it ends with the process that began it."""

import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from tests.required import missing

PATIENCE = 20.0  # seconds until it answers
DATABASES = 64


@dataclass
class Server:
    """A redis-server; `kill` and `start` it again over the same files."""

    folder: Path
    port: int
    options: Sequence[str] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "Redis":
        return Redis(port=self.port)

    def start(self) -> None:
        command = [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
            "--databases", str(DATABASES), "--logfile", str(self.folder / "log"), *self.options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=end_with_parent)  # noqa: PLW1509
        until = time.monotonic() + PATIENCE
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except RedisError:
            return False

    def send(self, which: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(which)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def end_with_parent() -> None:
    """Let the kernel end this process when its parent ends, however that ends (Linux alone knows how)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[Server]:
    """Run a redis-server over the files of a folder; skip the test where there is none to run."""
    if shutil.which("redis-server") is None:
        missing("redis-server is not installed")
    server = Server(folder, free_port(), options)
    try:
        server.start()
        yield server
    finally:
        server.end()
