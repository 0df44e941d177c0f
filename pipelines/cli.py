"""The command line: `unskew`. Engines are imported by the command that needs them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unskew.pipelines.commands import (
    archive,
    batch,
    cluster,
    definitions,
    demo,
    dev,
    erasure,
    explanation,
    live,
    model,
    online,
    parity,
    quarantine,
    replay,
    serving,
    simulation,
    stream,
)
from unskew.pipelines.commands.options import STATE, WRONG_USE
from unskew.pipelines.errors import UnskewError

app = typer.Typer(
    help="Define a feature once. Train on it with Beam, serve it with Flink, prove that they agree.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def root(debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False) -> None:
    """Define a feature once. Train on it with Beam, serve it with Flink, prove that they agree."""
    STATE["debug"] = debug


COMMANDS = (
    definitions,
    simulation,
    batch,
    online,
    stream,
    archive,
    quarantine,
    replay,
    serving,
    erasure,
    explanation,
    parity,
    model,
    demo,
    live,
    dev,
    cluster,
)
for each in COMMANDS:
    each.register(app)


def main() -> None:
    """Run the command line: exit code 0, 1 (a check failed) or 2 (wrong use)."""
    try:
        app()
    except UnskewError as error:
        if STATE["debug"]:
            raise
        typer.echo(f"unskew: {error}", err=True)
        sys.exit(WRONG_USE)


if __name__ == "__main__":
    main()
