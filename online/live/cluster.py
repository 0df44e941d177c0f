"""A Flink cluster for a laptop and for tests: one JobManager and some TaskManagers."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from unskew.online.live.flink_home import JOB_MANAGER, TASK_MANAGER, flink_command
from unskew.online.live.flink_settings import JOB_MANAGER_MEMORY, TaskManagerMemory, write_settings
from unskew.online.live.processes import HOST, Process, free_port, take_port
from unskew.online.live.server import Server
from unskew.pipelines.errors import EngineError

PATIENCE = 90.0  # s


class FlinkCluster(Server):
    """One JobManager and some TaskManagers, on the loopback address.

    A JobManager that was killed and is started again knows no jobs: hand them over again with
    ``execution.state-recovery.path`` set to their last checkpoint.

    Parameters
    ----------
    folder
        Settings, logs, checkpoints.
    port
        Of the REST interface; None takes any free one.
    task_managers, slots
        How many there are, and what each can run at once.
    """

    def __init__(self, folder: Path, port: int | None = None, task_managers: int = 2, slots: int = 2) -> None:
        """Say where it will run."""
        super().__init__(folder)
        self.port, self.rpc = take_port(port), free_port()
        self.task_manager_count, self.slots = task_managers, slots
        self.memory = TaskManagerMemory()
        self.job_manager: Process | None = None
        self.task_managers: dict[str, Process] = {}  # by their names, which Flink knows too
        self.started = 0

    @property
    def address(self) -> str:
        """``host:port`` of the REST interface."""
        return f"{HOST}:{self.port}"

    def come_up(self) -> None:
        """Start it, and wait until every TaskManager has registered."""
        self.configure()
        self.launch_job_manager()
        self.task_managers = {}
        for _ in range(self.task_manager_count):
            self.launch_task_manager()
        self.wait()

    def start_job_manager(self) -> None:
        """Start the JobManager again after it was killed, and wait until the TaskManagers have found it."""
        self.launch_job_manager()
        self.wait()

    def start_task_manager(self) -> None:
        """Start a TaskManager more, and wait until it has registered."""
        self.launch_task_manager()
        self.wait()

    def kill_task_manager(self) -> None:
        """Kill the TaskManager that was started last, as a crash would."""
        _, last = self.task_managers.popitem()
        last.kill()

    def processes(self) -> list[Process]:
        """Return the JobManager and the TaskManagers."""
        return [self.job_manager, *self.task_managers.values()] if self.job_manager else []

    def ask(self, path: str) -> Any:
        """Return what the REST interface answers: parsed JSON.

        Raises
        ------
        OSError
            If it does not answer.
        """
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5.0) as answer:
            return json.load(answer)

    def cancel(self, job: str) -> None:
        """End a job by its id; its checkpoints are its own to keep."""
        request = urllib.request.Request(f"http://{self.address}/jobs/{job}?mode=cancel", method="PATCH")
        urllib.request.urlopen(request, timeout=5.0).close()  # noqa: S310 - http it is

    def configure(self) -> None:
        """Write the settings."""
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        places = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": str(self.rpc),
            "jobmanager.bind-host": HOST,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.numberOfTaskSlots": str(self.slots),
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": str(self.port),
            "execution.checkpointing.dir": (self.folder / "checkpoints").as_uri(),
        }
        write_settings(self.folder, places, self.memory)

    def launch_job_manager(self) -> None:
        """Start the JobManager."""
        self.job_manager = self.launch("jobmanager", JOB_MANAGER, JOB_MANAGER_MEMORY)

    def launch_task_manager(self) -> None:
        """Start a TaskManager; it registers by itself, under its name."""
        self.started += 1
        name = f"taskmanager-{self.started}"
        self.task_managers[name] = self.launch(
            name, TASK_MANAGER, self.memory.options(), f"-Dtaskmanager.resource-id={name}"
        )

    def launch(self, name: str, program: str, memory: list[str], *settings: str) -> Process:
        """Start one of the processes in a folder of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        command = [*flink_command(program, folder, memory), *settings]
        return Process(f"flink's {name}", command, folder, folder / "process.log", keeps=self.kept())

    def wait(self) -> None:
        """Wait until all TaskManagers have registered.

        Raises
        ------
        EngineError
            If one of the processes ends, or they do not find each other in time.
        """

        def complete() -> bool:
            for each in self.processes():
                each.must_run()
            return self.task_managers.keys() <= self.registered()

        if self.job_manager is None:
            message = f"flink cluster in `{self.folder}` was not started; call start first"
            raise EngineError(message)
        self.job_manager.wait_for(complete, PATIENCE)

    def registered(self) -> set[str]:
        """Return the names of the TaskManagers that the JobManager knows."""
        try:
            return {each["id"] for each in self.ask("/taskmanagers")["taskmanagers"]}
        except (OSError, ValueError):
            return set()
