"""A Redis server for a laptop and for tests: Debian's, with its log of writes on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from unskew.online.live.processes import HOST, Process, take_port
from unskew.online.live.server import Server
from unskew.online.live.settings import NONE, Secret
from unskew.pipelines.errors import EngineError

PROGRAM = "redis-server"
PATIENCE = 30.0  # s
SETTINGS = """\
bind {host}
port {port}
dir {data}
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 400
auto-aof-rewrite-min-size 2gb
save ""
maxmemory-policy noeviction
daemonize no
"""


class RedisServer(Server):
    """One Redis server, on the loopback address.

    Parameters
    ----------
    folder
        Settings, data and log; what is there is used again.
    port
        None takes any free one.
    password
        Clients need it where it is given.

    Raises
    ------
    EngineError
        If this machine has no Redis.
    """

    def __init__(self, folder: Path, port: int | None = None, password: Secret = NONE) -> None:
        """Say where it will run."""
        super().__init__(folder)
        program = shutil.which(PROGRAM)
        if program is None:
            message = f"program `{PROGRAM}` was not found; install Redis, on Debian `apt-get install redis-server`"
            raise EngineError(message)
        self.program, self.port, self.password = program, take_port(port), password
        self.process: Process | None = None

    @property
    def address(self) -> str:
        """The store's ``url``."""
        return f"redis://{HOST}:{self.port}/0"

    def come_up(self) -> None:
        """Start it, and wait until it answers."""
        command = [self.program, str(self.configure())]
        self.process = Process("redis", command, self.folder, self.folder / "redis.log", keeps=self.kept())
        self.process.wait_for(self.answers, PATIENCE)

    def configure(self) -> Path:
        """Write the settings, for nobody else to read; return their file."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        path = self.folder / "redis.conf"
        path.touch(mode=0o600)
        text = SETTINGS.format(host=HOST, port=self.port, data=quoted(str(self.folder / "data")))
        secret = f"requirepass {quoted(self.password.reveal())}\n" if self.password else ""
        path.write_text(text + secret, encoding="utf-8")
        return path

    def answers(self) -> bool:
        """Return whether it answers, its data loaded."""
        from redis import Redis  # noqa: PLC0415 - only this needs it
        from redis.exceptions import ConnectionError as Refused  # noqa: PLC0415

        with Redis(host=HOST, port=self.port, password=self.password.reveal() or None) as client:
            try:
                return bool(client.ping())
            except Refused:  # it loads its data, too
                return False

    def processes(self) -> list[Process]:
        """Return its one process."""
        return [self.process] if self.process else []


def quoted(text: str) -> str:
    """Return a text as Redis' settings take it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
