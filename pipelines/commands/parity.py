"""`parity`: the proof that stream and backfill agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unskew.pipelines.commands.options import (
    CHECK_FAILED,
    Defs,
    Json,
    SetName,
    events_by_source,
    load_plan,
    print_json,
    quiet_engines,
)
from unskew.pipelines.errors import InputError

CASE = "test_parity_case.py"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: unskew parity --defs feature_defs/retail.py --adversarial --seeds 5")(parity)


def parity(
    defs: Defs,
    events: Annotated[
        list[str] | None,
        typer.Option("--events", help="Parquet file or folder; SOURCE=PATH where the set has several."),
    ] = None,
    name: SetName = None,
    probes: Annotated[int, typer.Option(min=1, help="How many (entity, position, instant) to read.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the probes, and the first of adversarial worlds.")] = 0,
    adversarial: Annotated[bool, typer.Option("--adversarial", help="Make the events, from the definitions.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="How many adversarial worlds.")] = 10,
    output: Annotated[Path, typer.Option(help="Folder for parity.json and parity.txt.")] = Path("build/parity"),
    as_json: Json = False,
) -> None:
    """Run Beam and Flink on the same events and compare every cell; exit 1 if arrival does not explain one."""
    plan = load_plan(defs, name)
    if (events is None) != adversarial:
        message = "give either --events or --adversarial"
        raise InputError(message)
    from unskew.validation.adversarial import adversarial as make  # noqa: PLC0415 - starts the engines
    from unskew.validation.parity import parity as run  # noqa: PLC0415
    from unskew.validation.report import progress_line, summary  # noqa: PLC0415
    from unskew.validation.shrink import pytest_case  # noqa: PLC0415

    given = make(plan, range(seed, seed + seeds)) if events is None else events_by_source(plan, events)
    with quiet_engines(), progress_line(shown=not as_json) as progress:
        report = run(plan, given, probes=probes, seed=seed, progress=progress)
    output.mkdir(parents=True, exist_ok=True)
    content = report.to_json()
    (output / "parity.json").write_text(
        json.dumps(content, indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (output / "parity.txt").write_text(summary(report), encoding="utf-8")
    if report.shrunk is not None:
        (output / CASE).write_text(pytest_case(report.shrunk, defs.resolve(), plan.name), encoding="utf-8")
    if as_json:
        print_json(content)
    else:
        typer.echo(summary(report))
        typer.echo(f"the report is in {output}")
        if report.shrunk is not None:
            typer.echo(f"a cell that no rule explains is a test of its own: pytest {output / CASE}")
    if report.unexplained:
        raise typer.Exit(CHECK_FAILED)
