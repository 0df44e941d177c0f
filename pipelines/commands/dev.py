"""`jars` and `dev`: what a running system needs on a laptop, without containers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unskew.online.live.server import Server

Folder = Annotated[Path | None, typer.Option(help="Settings, data and logs; temporary where none is given.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: unskew jars")(jars)
    dev = typer.Typer(help="Run a part of the system on this machine until Ctrl-C.", no_args_is_help=True)
    dev.command(epilog="Example: unskew dev kafka --folder build/kafka")(kafka)
    dev.command(epilog="Example: unskew dev flink --task-managers 1")(flink)
    dev.command(epilog="Example: unskew dev redis --port 6380")(redis)
    app.add_typer(dev, name="dev")


def jars() -> None:
    """Print the folder of the jars that live jobs need; fetch them with Maven where they are not there."""
    from unskew.online.live.jars import jars_folder  # noqa: PLC0415

    typer.echo(jars_folder())


def kafka(
    port: Annotated[int, typer.Option(help="Port of the broker; 0: any free one.")] = 9092, folder: Folder = None
) -> None:
    """Run a Kafka broker; its address is printed as soon as it answers."""
    from unskew.online.live.broker import Broker  # noqa: PLC0415

    with given_or_temporary(folder) as place:
        run(Broker(place, port or None))


def flink(
    port: Annotated[int, typer.Option(help="Port of the REST interface and web page; 0: any free one.")] = 8081,
    folder: Folder = None,
    task_managers: Annotated[int, typer.Option(help="How many TaskManagers, 1.2 GiB each.", min=1)] = 2,
    slots: Annotated[int, typer.Option(help="Slots of each.", min=1)] = 2,
) -> None:
    """Run a Flink cluster; its address is printed as soon as it answers."""
    from unskew.online.live.cluster import FlinkCluster  # noqa: PLC0415

    with given_or_temporary(folder) as place:
        run(FlinkCluster(place, port or None, task_managers, slots))


def redis(
    port: Annotated[int, typer.Option(help="Port of the server; 0: any free one.")] = 6379, folder: Folder = None
) -> None:
    """Run a Redis server, with the store's password of the settings; its address is printed as soon as it answers."""
    from unskew.online.live.redis_server import RedisServer  # noqa: PLC0415
    from unskew.online.live.settings import load_settings  # noqa: PLC0415

    with given_or_temporary(folder) as place:
        run(RedisServer(place, port or None, load_settings().store.password))


def run(server: Server) -> None:
    """Run a server until Ctrl-C or TERM: both end it, and the command with 0."""
    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    with server:
        typer.echo(server.address)
        sys.stdout.flush()
        server.watch()


def leave(*_: object) -> None:
    """Leave every block that is open; what comes after the first signal does not disturb that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


@contextmanager
def given_or_temporary(folder: Path | None) -> Iterator[Path]:
    """Yield the folder, or one that is gone afterwards."""
    if folder is not None:
        yield folder
        return
    from unskew.online.scratch import scratch  # noqa: PLC0415 - `--help` needs none of it

    with scratch("unskew-dev-") as temporary:
        yield Path(temporary)
