"""`simulate`: a log of card transactions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unskew.pipelines.commands.options import Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: unskew simulate build/log --scale 300000 --seed 7")(simulate)


def simulate(
    folder: Annotated[Path, typer.Argument(help="Empty or new folder for the log.")],
    scale: Annotated[int, typer.Option(help="Number of transactions.")] = 300_000,
    days: Annotated[int, typer.Option(help="Days that the log spans.")] = 90,
    seed: Annotated[int, typer.Option(help="Seed: the same seed gives the same bytes.")] = 7,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet instead of JSON lines.")] = False,
    as_json: Json = False,
) -> None:
    """Write a card-transaction log: a stream of transactions, labels a week later, disorder and copies."""
    from unskew.validation.simulator import (  # noqa: PLC0415 - only this command needs it
        SimulationConfig,
        write_log,
        write_parquet,
    )
    from unskew.validation.simulator import simulate as run  # noqa: PLC0415

    simulation = run(SimulationConfig(transactions=scale, days=days, seed=seed))
    (write_parquet if parquet else write_log)(simulation, folder)
    rows = {"transactions": simulation.transactions.num_rows, "labels": simulation.labels.num_rows}
    if as_json:
        print_json({"folder": str(folder), **rows})
        return
    typer.echo(f"{rows['transactions']} transactions and {rows['labels']} labels are in {folder}")
