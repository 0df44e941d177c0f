"""`plan` and `compile`: what definitions mean, and what the engines run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from unskew.pipelines.commands.options import Defs, Json, SetName, load_plan, print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: unskew plan --defs feature_defs/handbook.py")(plan)
    app.command("compile", epilog="Example: unskew compile --defs feature_defs/fraud.py --set fraud --to flink")(
        compile_set
    )


def plan(
    defs: Defs,
    name: SetName = None,
    against: Annotated[
        str | None, typer.Option(help="Definitions file, or git revision of this one: show what changes from there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the definitions and show each feature: type, window, hop, span, empty value, owner."""
    from unskew.pipelines.canonical import canonical  # noqa: PLC0415 - only this command needs it

    compiled = load_plan(defs, name)
    if against is not None:
        from unskew.pipelines.describe import print_difference  # noqa: PLC0415
        from unskew.pipelines.difference import difference  # noqa: PLC0415
        from unskew.pipelines.loading import definitions_at  # noqa: PLC0415

        with definitions_at(defs, against) as earlier:
            found = difference(load_plan(earlier, compiled.name), compiled)
        if as_json:
            print_json(found.to_json())
        else:
            print_difference(found)
        return
    if as_json:
        typer.echo(canonical(compiled.to_json()))
        return
    from unskew.pipelines.describe import print_plan  # noqa: PLC0415

    print_plan(compiled)


def compile_set(
    defs: Defs,
    to: Annotated[
        Literal["flink", "beam", "mermaid", "dot"],
        typer.Option(help="Engine to show the program of, or notation of the lineage."),
    ],
    name: SetName = None,
    source: Annotated[str | None, typer.Option(help="Only this source's job (Flink).")] = None,
    input_folder: Annotated[Path, typer.Option("--input", help="Where the job would read JSON lines.")] = Path("in"),
    output_folder: Annotated[Path, typer.Option("--output", help="Where the job would write.")] = Path("out"),
) -> None:
    """Print the Flink SQL of each source's job, the steps of the Beam pipeline, or the lineage of the features."""
    compiled = load_plan(defs, name)
    if to in ("mermaid", "dot"):
        from unskew.pipelines.lineage import to_dot, to_mermaid  # noqa: PLC0415

        typer.echo(to_dot(compiled) if to == "dot" else to_mermaid(compiled))
        return
    if to == "beam":
        from unskew.backfill.steps import pipeline_steps  # noqa: PLC0415 - starts Beam

        typer.echo(pipeline_steps(compiled))
        return
    from unskew.pipelines.backends.flink import compile_source  # noqa: PLC0415

    for each in [source] if source else [each.name for each in compiled.sources]:
        job = compile_source(compiled, each, input_folder.resolve() / each, output_folder.resolve() / each)
        typer.echo(job.text)
