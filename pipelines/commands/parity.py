"""`parity`: the proof that stream and backfill agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from unskew.pipelines.plan import SetPlan

if TYPE_CHECKING:
    from unskew.validation.parity import Report

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
    served: Annotated[
        Path | None,
        typer.Option(help="Archive of served rows: check what was really served against --events, and run nothing."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for parity.json and parity.txt.")] = Path("build/parity"),
    as_json: Json = False,
) -> None:
    """Run Beam and Flink on the same events and compare every cell; exit 1 if arrival does not explain one."""
    plan = load_plan(defs, name)
    if served is not None:
        parity_of_served(plan, served, events, output, as_json=as_json)
        return
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
    content = write_report(report, output)
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


def parity_of_served(plan: SetPlan, served: Path, events: Sequence[str] | None, output: Path, *, as_json: bool) -> None:
    """Check served rows against the archives of their sources."""
    from unskew.validation.report import summary  # noqa: PLC0415 - starts the engines
    from unskew.validation.served_log import check_served, read_rows  # noqa: PLC0415

    given = events_by_source(plan, events or [each.archive for each in plan.sources if len(plan.sources) == 1])
    by_source = given if isinstance(given, dict) else {each.name: given for each in plan.sources}
    missing = [each.name for each in plan.sources if each.name not in by_source]
    if missing:
        message = f"archive of source `{missing[0]}` is not given; add --events {missing[0]}=PATH"
        raise InputError(message)
    rows = list(read_rows(served))
    own = [each for each in rows if each["fingerprint"] == plan.fingerprint]
    if own and len(own) < len(rows):  # where all are, the check says so
        typer.echo(f"{len(rows) - len(own)} of {len(rows)} rows are of other definitions, and left out", err=True)
    report = check_served(plan, reached(own, map(Path, by_source.values())) if own else rows, by_source)
    content = write_report(report, output)
    print_json(content) if as_json else typer.echo(f"{summary(report)}\nthe report is in {output}")
    if report.unexplained:
        raise typer.Exit(CHECK_FAILED)


def reached(rows: list[dict[str, Any]], archives: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the rows that were read before the cut of all archives, and say how many others there are.

    Raises
    ------
    InputError
        If there are only others.
    """
    from unskew.validation.served_log import ANSWERED, cut_of_all  # noqa: PLC0415 - starts the engines

    cut = cut_of_all(archives)
    found = rows if cut is None else [each for each in rows if each["at"] + ANSWERED < cut]
    if len(found) == len(rows):
        return rows
    left = f"{len(rows) - len(found)} of {len(rows)} rows were read when the archives were not complete yet"
    advice = "wait a minute, run `unskew archive` for every source, and check again"
    if not found:
        message = f"{left}; {advice}"
        raise InputError(message)
    typer.echo(f"{left}, and left out; {advice}", err=True)
    return found


def write_report(report: Report, output: Path) -> dict[str, Any]:
    """Write parity.json and parity.txt; return the first."""
    from unskew.validation.report import summary  # noqa: PLC0415 - starts the engines

    output.mkdir(parents=True, exist_ok=True)
    content = report.to_json()
    text = json.dumps(content, indent=1, default=str, ensure_ascii=False) + "\n"
    (output / "parity.json").write_text(text, encoding="utf-8")
    (output / "parity.txt").write_text(summary(report), encoding="utf-8")
    return content
