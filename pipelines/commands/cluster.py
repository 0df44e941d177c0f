"""`cluster`: the processes of a Flink cluster, one a container."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JobManager = Annotated[str, typer.Option(help="Name or address of the JobManager.")]
Folder = Annotated[Path, typer.Option(help="Settings and temporary files, of this process alone.")]
Bind = Annotated[str, typer.Option(help="Address to listen on.")]
RpcPort = Annotated[int, typer.Option(help="The JobManager's port for TaskManagers.")]
MetricsPort = Annotated[int, typer.Option(help="Answer Prometheus on this port; 0: do not.")]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the network of the containers


def register(app: typer.Typer) -> None:
    """Add the commands."""
    cluster = typer.Typer(help="Be one process of a Flink cluster; for containers.", no_args_is_help=True)
    cluster.command(epilog="Example: unskew cluster jobmanager --job-manager jobmanager --folder build/jobmanager")(
        jobmanager
    )
    cluster.command(epilog="Example: unskew cluster taskmanager --job-manager jobmanager --folder build/taskmanager")(
        taskmanager
    )
    app.add_typer(cluster, name="cluster")


def jobmanager(
    folder: Folder,
    job_manager: JobManager,
    bind: Bind = EVERYWHERE,
    rpc_port: RpcPort = 6123,
    port: Annotated[int, typer.Option(help="Port of the REST interface and web page.")] = 8081,
    metrics_port: MetricsPort = 9249,
) -> None:
    """Be the JobManager: this process becomes Java."""
    from unskew.online.live.flink_node import Node, become  # noqa: PLC0415

    become(Node("jobmanager", folder, job_manager, bind, rpc_port, port, metrics_port or None))


def taskmanager(
    folder: Folder,
    job_manager: JobManager,
    bind: Bind = EVERYWHERE,
    rpc_port: RpcPort = 6123,
    metrics_port: MetricsPort = 9249,
    slots: Annotated[int, typer.Option(help="What it can run at once.", min=1)] = 2,
    heap: Annotated[int, typer.Option(help="Memory of the tasks, MiB.", min=128)] = 320,
    managed: Annotated[int, typer.Option(help="Memory of RocksDB, MiB.", min=64)] = 256,
) -> None:
    """Be a TaskManager: this process becomes Java. It takes 704 MiB beside --heap and --managed."""
    from unskew.online.live.flink_node import Node, become  # noqa: PLC0415
    from unskew.online.live.flink_settings import TaskManagerMemory  # noqa: PLC0415

    memory = TaskManagerMemory(heap, managed)
    become(
        Node("taskmanager", folder, job_manager, bind, rpc_port, metrics_port=metrics_port or None,
             slots=slots, memory=memory)
    )  # fmt: skip
