"""The command line: `unskew`. Engines are imported by the command that needs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unskew.pipelines.errors import UnskewError

WRONG_USE = 2
app = typer.Typer(
    help="Define a feature once. Train on it with Beam, serve it with Flink, prove that they agree.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Defs = Annotated[Path, typer.Option(help="Python file with the definitions.")]
SetName = Annotated[str | None, typer.Option("--set", help="Feature set, where the file defines several.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def root(debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False) -> None:
    """Define a feature once. Train on it with Beam, serve it with Flink, prove that they agree."""
    STATE["debug"] = debug


STATE = {"debug": False}


@app.command(epilog="Example: unskew plan --defs feature_defs/handbook.py")
def plan(defs: Defs, name: SetName = None, as_json: Json = False) -> None:
    """Check the definitions and show each feature: type, window, hop, span, empty value, owner."""
    from unskew.pipelines.loading import choose_set, load_sets  # noqa: PLC0415 - only this command needs it
    from unskew.pipelines.plan import canonical  # noqa: PLC0415
    from unskew.pipelines.planner import plan as compile_plan  # noqa: PLC0415

    compiled = compile_plan(choose_set(load_sets(defs), name))
    if as_json:
        typer.echo(canonical(compiled.to_json()))
        return
    from unskew.pipelines.describe import print_plan  # noqa: PLC0415

    print_plan(compiled)


@app.command(epilog="Example: unskew simulate build/log --scale 300000 --seed 7")
def simulate(
    folder: Annotated[Path, typer.Argument(help="Empty or new folder for the log.")],
    scale: Annotated[int, typer.Option(help="Number of transactions.")] = 300_000,
    days: Annotated[int, typer.Option(help="Days that the log spans.")] = 90,
    seed: Annotated[int, typer.Option(help="Seed: the same seed gives the same bytes.")] = 7,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet instead of JSON lines.")] = False,
    as_json: Json = False,
) -> None:
    """Write a card-transaction log: a stream of transactions, labels a week later, disorder and copies."""
    from unskew.validation.simulator import (  # noqa: PLC0415
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


def main() -> None:
    """Run the command line: exit code 0, 1 (a check failed) or 2 (wrong use)."""
    try:
        app()
    except UnskewError as error:
        if STATE["debug"]:
            raise
        typer.echo(f"unskew: {error}", err=True)
        sys.exit(WRONG_USE)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    typer.echo(json.dumps(value, default=str))


if __name__ == "__main__":
    main()
