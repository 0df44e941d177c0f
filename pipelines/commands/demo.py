"""`demo`: the whole path on a simulated log, or on real transactions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unskew.pipelines.commands.options import CHECK_FAILED, Json, print_json, quiet_engines
from unskew.pipelines.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: unskew demo build/demo --scale 300000")(demo)


def demo(
    folder: Annotated[Path, typer.Argument(help="New folder for all that the demo makes.")] = Path("build/demo"),
    scale: Annotated[int, typer.Option(help="Number of simulated transactions.")] = 300_000,
    seed: Annotated[int, typer.Option(help="Seed of the simulator.")] = 7,
    data: Annotated[
        Path | None, typer.Option(help="Run on the fraud handbook's transactions (Parquet) instead.")
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="Probes of the parity check.")] = 20_000,
    as_json: Json = False,
) -> None:
    """Run archive, training set, upload, stream, reads, parity, training and scoring on one log."""
    if folder.exists() and any(folder.iterdir()):
        message = f"folder `{folder}` is not empty; delete it or name a new one"
        raise InputError(message)
    from rich.console import Console  # noqa: PLC0415

    from unskew.feature_defs.fraud import fraud, fraud_handbook  # noqa: PLC0415
    from unskew.pipelines.backends.flink import compile_source  # noqa: PLC0415
    from unskew.pipelines.commands.walkthrough import handbook_like, run_demo, simulated  # noqa: PLC0415 - starts the engines
    from unskew.pipelines.planner import plan as compile_plan  # noqa: PLC0415
    from unskew.validation.report import summary  # noqa: PLC0415

    console = Console(stderr=True)
    with quiet_engines():
        if data is None:
            from unskew.validation.simulator import SimulationConfig, simulate, write_parquet  # noqa: PLC0415

            console.print(f"simulate {scale:,} card transactions")
            write_parquet(simulate(SimulationConfig(transactions=scale, seed=seed)), folder / "log")
            scenario = simulated(compile_plan(fraud), folder / "log")
        else:
            scenario = handbook_like(compile_plan(fraud_handbook), data)
        with console.status("start") as status:
            result = run_demo(scenario, folder, probes, status.update)
    sql = [folder / f"{each.name}.sql" for each in scenario.plan.sources]
    for path in sql:
        job = compile_source(
            scenario.plan, path.stem, (folder / "lines").resolve() / path.stem, (folder / "sql-out").resolve()
        )
        path.write_text(job.text, encoding="utf-8")
    if as_json:
        print_json(
            {
                "seconds": result.seconds,
                "figures": result.figures,
                "metrics": result.trained.metrics,
                "parity": result.report.to_json(),
            }
        )
    else:
        typer.echo(summary(result.report).split("\nfeature", maxsplit=1)[0])
        typer.echo("")
        for name, took in result.seconds.items():
            typer.echo(f"{took:>8.1f} s  {name}")
        metrics = result.trained.metrics
        typer.echo(
            f"\nthe model's average precision on the last fifth: {metrics['average_precision']:.3f} (chance {metrics['chance']:.3f})"
        )
        typer.echo(f"training set   {folder / 'training-set'}")
        typer.echo(f"Flink SQL      {', '.join(str(each) for each in sql)}")
        typer.echo(f"parity report  {folder / 'parity.txt'}")
        typer.echo(f"model          {folder / 'model'}")
        typer.echo(f"scores         {folder / 'scores.parquet'}")
        typer.echo(
            "next: change a feature in feature_defs/fraud.py and run `unskew plan --defs feature_defs/fraud.py --set fraud`"
        )
    if result.report.unexplained:
        raise typer.Exit(CHECK_FAILED)
