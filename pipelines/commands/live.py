"""`live`: the whole system on this machine, seen at work."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from unskew.pipelines.commands.options import CHECK_FAILED
from unskew.pipelines.errors import EngineError
from unskew.pipelines.timegrid import parse_duration

if TYPE_CHECKING:
    from unskew.online.live.session import Session

FRAME, LINE = 0.5, 5.0  # s between two screens, two lines


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: unskew live --duration 60s")(live)


def live(
    folder: Annotated[Path, typer.Argument(help="Folder of the run; an earlier run's is made anew.")] = Path(
        "build/live"
    ),
    rate: Annotated[float, typer.Option(min=1.0, help="Transactions a second.")] = 300.0,
    reads: Annotated[float, typer.Option(min=0.1, help="Reads a second.")] = 20.0,
    duration: Annotated[str | None, typer.Option(help="How long events flow, e.g. 60s; default: until Ctrl-C.")] = None,
    scale: Annotated[
        int | None, typer.Option(min=100, help="Transactions of the simulated log; default: 300,000, more if needed.")
    ] = None,
    warm_up: Annotated[
        str | None,
        typer.Option(help="How long events flow before, which the figures leave out: Java compiles what it runs."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="A line now and then instead of a screen.")] = False,
) -> None:
    """Run everything: broker, cluster, store, archivers, jobs, materialiser, server, producers, reads, and their check.

    Ctrl-C ends every process. Exit code 1: a served cell differs and nothing explains it.
    """
    seconds = parse_duration(duration) / 1_000 if duration else None
    warming = parse_duration(warm_up) / 1_000 if warm_up else 0.0
    from unskew.feature_defs import fraud  # noqa: PLC0415 - `--help` needs none of it
    from unskew.online.live.local import take_folder  # noqa: PLC0415
    from unskew.online.live.outcome import words, write  # noqa: PLC0415
    from unskew.online.live.session import Options, Session  # noqa: PLC0415
    from unskew.pipelines.planner import plan  # noqa: PLC0415

    with take_folder(folder):
        options = Options(rate, reads, seconds, scale, warming)
        session = Session(folder, Path(fraud.__file__), plan(fraud.fraud), options)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: session.interrupt())
        Thread(target=session.run, daemon=True).start()
        show_lines(session) if plain or not sys.stdout.isatty() else show_screen(session)
        write(session)
    typer.echo(words(session), nl=False)
    typer.echo(f"logs, rows as served and live.json are in {folder}")
    if session.error is not None:
        raise session.error
    if session.parts.lost:
        raise EngineError(session.parts.lost)
    if session.figures.unexplained:
        raise typer.Exit(CHECK_FAILED)


def show_screen(session: Session) -> None:
    """Show the run on one screen until it is over."""
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from unskew.online.live.view import screen  # noqa: PLC0415

    console = Console()
    with Live(screen(session), console=console, screen=True, auto_refresh=False) as shown:
        while not session.over.wait(FRAME):
            shown.update(screen(session), refresh=True)
    console.print(screen(session))


def show_lines(session: Session) -> None:
    """Say how the run goes, and what happens, in lines."""
    from unskew.online.live.view import line, told  # noqa: PLC0415

    said, last = 0, -LINE
    while not session.over.wait(FRAME):
        for each in told(session, said):
            typer.echo(each)
            said += 1
        if time.monotonic() - last >= LINE:
            typer.echo(line(session))
            sys.stdout.flush()
            last = time.monotonic()
    for each in told(session, said):
        typer.echo(each)
