"""A whole system on this machine: its folder, its settings, its servers, and how each of its processes is started."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.parts import Launch, Parts
from unskew.online.live.processes import HOST, Process, free_port
from unskew.online.live.redis_server import RedisServer
from unskew.online.live.server import Server
from unskew.online.live.settings import FILE, PREFIX, Settings, load_settings
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SetPlan

MARK = ".unskew-live"
TABLES = tuple(f"{PREFIX}_{each.name}_".upper() for each in fields(Settings))
MANY = 4  # cores from which a job is worth two threads of each kind
CLIENTS = 5  # nice value: clients are elsewhere in earnest, and what they ask leaves the processors to what answers
PATIENT, LAST = 10, 19  # of what may come later than reads and tiles, of what may wait for all others
SETTINGS = """\
# made by `unskew live`: the system that runs there, for as long as it does
[kafka]
bootstrap_servers = "{kafka}"
partitions = 2
[store]
url = "{store}"
[flink]
target = "{flink}"
checkpoints = "{checkpoints}"
checkpoint_interval = "60s"
parallelism = {parallelism}
[server]
host = "{host}"
port = {port}
drain = "500ms"
"""


def take_folder(folder: Path) -> IO[str]:
    """Make a folder anew, and keep others from doing so while the file that is returned is open.

    Raises
    ------
    InputError
        If it holds something that `unskew live` did not make, or one runs there.
    """
    mark = folder / MARK
    if (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir()) and not mark.exists()):
        message = f"folder `{folder}` holds something else than an earlier run; name a new one"
        raise InputError(message)
    folder.mkdir(parents=True, exist_ok=True)
    held = mark.open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        message = f"another `unskew live` runs in `{folder}`; end it, or name another folder"
        raise InputError(message) from None
    for each in folder.iterdir():
        if each != mark:
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    (folder / "logs").mkdir()
    return held


@dataclass(frozen=True)
class Load:
    """What is produced.

    Parameters
    ----------
    rates
        Messages a second by source.
    scale, days
        Of the simulated log.
    """

    rates: dict[str, float]
    scale: int
    days: int = 30


class LocalSystem:
    """The servers and processes of one set, all in one folder.

    Parameters
    ----------
    folder
        As `take_folder` made it.
    defs, plan
        The definitions' file, and the plan of the set that is served.
    """

    def __init__(self, folder: Path, defs: Path, plan: SetPlan) -> None:
        """Choose ports, write the settings, and forget variables that would take the place of these addresses."""
        for name in [each for each in os.environ if each.startswith(TABLES)]:
            del os.environ[name]
        self.folder, self.defs, self.plan = folder.resolve(), defs.resolve(), plan
        self.kafka = Broker(self.folder / "kafka")
        self.flink = FlinkCluster(self.folder / "flink")
        self.redis = RedisServer(self.folder / "redis")
        self.port, self.materialiser_port = free_port(), free_port()
        self.archiver_ports = {each.name: free_port() for each in plan.sources}
        text = SETTINGS.format(
            kafka=self.kafka.address, store=self.redis.address, flink=self.flink.address,
            checkpoints=self.folder / "checkpoints", host=HOST, port=self.port, parallelism=1 if (os.cpu_count() or 1) < MANY else 2,
        )  # fmt: skip
        self.settings_file = self.folder / FILE
        self.settings_file.write_text(text, encoding="utf-8")

    @property
    def settings(self) -> Settings:
        """Where all parts are; the environment has no say in it."""
        return load_settings(self.settings_file, {})

    @property
    def url(self) -> str:
        """The feature server's."""
        return f"http://{HOST}:{self.port}"

    def archive(self, source: str) -> Path:
        """Return the folder of a source's archive."""
        return self.folder / source

    def log(self, source: str) -> Path:
        """Return the folder of a source's simulated log."""
        return self.folder / "log" / source

    def servers(self) -> Sequence[tuple[Server, Callable[[Parts], None]]]:
        """Return what runs the servers, with what makes parts of each once it answers."""
        return (self.kafka, self.add_kafka), (self.flink, self.add_flink), (self.redis, self.add_redis)

    def add_kafka(self, parts: Parts) -> None:
        """Watch the broker."""
        self.add_server(parts, "kafka", self.kafka)

    def add_redis(self, parts: Parts) -> None:
        """Watch the store."""
        self.add_server(parts, "redis", self.redis)

    def add_server(self, parts: Parts, name: str, server: Server) -> None:
        """Watch a server of one process."""

        def again() -> Process:
            server.start()
            return server.processes()[0]

        parts.add(name, self.linked(name, again), first=self.linked(name, lambda: server.processes()[0]))

    def add_flink(self, parts: Parts) -> None:
        """Watch the JobManager and the TaskManagers."""
        manager = "flink jobmanager"
        parts.add(manager, self.linked(manager, self.job_manager), first=self.linked(manager, self.running_manager))
        for number, process in enumerate(self.flink.task_managers.values(), 1):
            name = f"flink taskmanager {number}"
            running = self.linked(name, lambda process=process: process)  # type: ignore[misc]
            parts.add(name, self.linked(name, self.task_manager), first=running)

    def running_manager(self) -> Process:
        """Return the JobManager."""
        return self.flink.processes()[0]

    def job_manager(self) -> Process:
        """Start a JobManager."""
        self.flink.launch_job_manager()
        return self.running_manager()

    def task_manager(self) -> Process:
        """Start a TaskManager in the place of one that died."""
        for name in [name for name, each in self.flink.task_managers.items() if not each.alive()]:
            del self.flink.task_managers[name]
        self.flink.launch_task_manager()
        return list(self.flink.task_managers.values())[-1]

    def linked(self, name: str, launch: Launch) -> Launch:
        """Return the launch of a server whose log is found among the others."""

        def start() -> Process:
            process = launch()
            link = self.folder / "logs" / f"{name.replace(' ', '-')}.log"
            link.unlink(missing_ok=True)
            link.symlink_to(process.log)
            return process

        return start

    def command(self, name: str, *words: str, nice: int = 0) -> Launch:
        """Return what starts a command of ours on the set."""
        where = ["--defs", str(self.defs), "--set", self.plan.name, "--settings", str(self.settings_file)]
        return self.program(name, "unskew.pipelines.cli", *words, *where, nice=nice)

    def program(self, name: str, module: str, *words: str, nice: int = 0) -> Launch:
        """Return what starts a module of ours; its log is named like the part."""
        log = self.folder / "logs" / f"{name.replace(' ', '-')}.log"
        return lambda: Process(name, [sys.executable, "-m", module, *words], self.folder, log, nice=nice)

    def simulate(self, load: Load) -> Launch:
        """Return what makes the log."""
        size = ["--scale", str(load.scale), "--days", str(load.days)]
        return self.program("simulator", "unskew.pipelines.cli", "simulate", str(self.folder / "log"), *size)

    def start_processes(self, parts: Parts) -> None:
        """Start what turns messages into features."""
        for each in self.plan.sources:
            name, port = f"archiver {each.name}", str(self.archiver_ports[each.name])
            own = ["--source", each.name, "--archive", str(self.archive(each.name)), "--every", "5s"]
            parts.add(name, self.command(name, "archive", *own, "--metrics-port", port, nice=PATIENT))
        port = str(self.materialiser_port)
        parts.add("materialiser", self.command("materialiser", "materialize", "--metrics-port", port))
        for each in self.plan.sources:
            name = f"stream {each.name}"
            parts.add(name, self.command(name, "stream", "run", "--source", each.name))
        parts.add("server", self.command("server", "serve"))

    def start_reads(self, parts: Parts, log: Path, rate: float, reads: float) -> None:
        """Start what reads for the events of a log."""
        own = [str(self.folder), str(self.defs), self.plan.name, str(log), str(rate), str(reads)]
        parts.add("reads", self.program("reads", "unskew.online.live.traffic", *own, nice=CLIENTS))

    def start_producers(self, parts: Parts, load: Load) -> None:
        """Start the traffic: of today, out of order, with copies and late events."""
        for source, rate in load.rates.items():
            name = f"producer {source}"
            untidy = ["--disorder", "2s", "--duplicates", "0.01", "--late", "0.005"]
            own = ["replay", str(self.log(source)), "--source", source, "--now", "--rate", str(rate), *untidy]
            parts.add(name, self.command(name, *own, nice=PATIENT), lasting=False, again=False)

    def start_checker(self, parts: Parts) -> None:
        """Start what checks served rows against the archive, whenever there is time."""
        own = [str(self.folder), str(self.defs), self.plan.name]
        parts.add("parity", self.program("parity", "unskew.validation.served_so_far", *own, nice=LAST), again=False)
