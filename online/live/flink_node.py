"""One process of a Flink cluster whose other processes are elsewhere: what a container runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unskew.online.live.flink_home import JOB_MANAGER, TASK_MANAGER, flink_command, flink_home
from unskew.online.live.flink_settings import JOB_MANAGER_MEMORY, TaskManagerMemory, write_settings

Kind = Literal["jobmanager", "taskmanager"]
REPORTER = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"


@dataclass(frozen=True)
class Node:
    """A JobManager or a TaskManager.

    Parameters
    ----------
    kind
        Which of them.
    folder
        Settings and temporary files; of its own.
    job_manager
        Name or address of the JobManager.
    bind
        Address to listen on.
    rpc_port, rest_port
        The JobManager's.
    metrics_port
        Where Prometheus is answered; None: nowhere.
    slots, memory
        The TaskManager's.
    """

    kind: Kind
    folder: Path
    job_manager: str
    bind: str = "0.0.0.0"  # noqa: S104 - the network of the containers
    rpc_port: int = 6123
    rest_port: int = 8081
    metrics_port: int | None = 9249
    slots: int = 2
    memory: TaskManagerMemory = field(default_factory=TaskManagerMemory)

    def places(self) -> dict[str, str]:
        """Return its addresses as Flink's settings."""
        found = {
            "jobmanager.rpc.address": self.job_manager,
            "jobmanager.rpc.port": str(self.rpc_port),
            "jobmanager.bind-host": self.bind,
            "taskmanager.bind-host": self.bind,
            "taskmanager.numberOfTaskSlots": str(self.slots),
            "rest.address": self.job_manager,
            "rest.bind-address": self.bind,
            "rest.port": str(self.rest_port),
            "web.submit.enable": "false",  # the page is for looking, jobs come by `unskew stream`
        }
        if self.metrics_port is not None:
            found |= {"metrics.reporters": "prom", "metrics.reporter.prom.factory.class": REPORTER}
            found |= {"metrics.reporter.prom.port": str(self.metrics_port)}
        return found

    def command(self) -> list[str]:
        """Write its settings; return the command that runs it."""
        own = self.folder.absolute() / self.kind
        own.mkdir(parents=True, exist_ok=True)
        write_settings(own.parent, self.places(), self.memory)
        if self.kind == "jobmanager":
            return flink_command(JOB_MANAGER, own, JOB_MANAGER_MEMORY)
        return flink_command(TASK_MANAGER, own, self.memory.options())

    def environment(self) -> dict[str, str]:
        """Return what it needs of the environment: where Flink's plugins are, the reporter among them."""
        return {"FLINK_PLUGINS_DIR": str(flink_home() / "plugins")}


def become(node: Node, execute: Callable[[str, list[str], dict[str, str]], Any] = os.execve) -> None:
    """Replace this process by the node: signals reach it, and its end is the container's."""
    command = node.command()
    execute(command[0], command, {**os.environ, **node.environment()})
