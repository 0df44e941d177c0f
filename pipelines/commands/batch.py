"""`backfill` and `upload`: what Beam computes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from unskew.pipelines.commands.online import made_store, open_store
from unskew.pipelines.commands.options import (
    STORE_HELP,
    BeamOptions,
    Defs,
    Events,
    Json,
    SetName,
    events_by_source,
    instant,
    load_plan,
    print_json,
    quiet_engines,
)
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SetPlan


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: unskew backfill --defs feature_defs/handbook.py --events events.parquet --spine spine.parquet "
        "--output build/training-set"
    )(backfill)
    app.command(
        epilog="Example: unskew upload --defs feature_defs/handbook.py --events events.parquet --output build/upload "
        "--store build/store.sqlite"
    )(upload)


def backfill(
    defs: Defs,
    events: Events,
    spine: Annotated[Path, typer.Option(help="Parquet of the rows to compute at: keys, t, request columns, labels.")],
    output: Annotated[Path, typer.Option(help="New folder for the training set and its manifest.")],
    name: SetName = None,
    as_of: Annotated[
        Literal["event_time", "arrival"], typer.Option(help="All events, or those that serving could have known.")
    ] = "event_time",
    lag: Annotated[str | None, typer.Option(help="With arrival: from arrival to servable, e.g. 2s.")] = None,
    store: Annotated[
        str | None, typer.Option(help="With arrival: store whose recorded uploads made late events known.")
    ] = None,
    t: Annotated[str, typer.Option(help="Column of the instant.")] = "t",
    reuse: Annotated[
        Path | None,
        typer.Option(help="Earlier output over the same spine and events: only other features are computed."),
    ] = None,
    beam: BeamOptions = None,
    as_json: Json = False,
) -> None:
    """Compute a training set with Beam, point-in-time correct at each row of the spine."""
    plan = load_plan(defs, name)
    from unskew.backfill.training import backfill as run  # noqa: PLC0415 - starts Beam
    from unskew.pipelines.backends.beam_sql import Flip  # noqa: PLC0415

    flips: list[Flip] = []
    if as_of != "arrival" and (lag is not None or store is not None):
        message = f"--{'lag' if lag is not None else 'store'} was given with --as-of {as_of}; it needs --as-of arrival"
        raise InputError(message)
    if store is not None:
        with open_store(store) as opened:
            for source in plan.sources:
                flips += [
                    Flip(each.cut, each.batch_end, each.instant, source.name) for each in opened.flips(source.name)
                ]
    with quiet_engines():
        manifest = run(
            plan, events_by_source(plan, events), spine,
            as_of=as_of, lag=lag, flips=flips, t=t, output=output, reuse=reuse, options=beam or (),
        )  # fmt: skip
    if as_json:
        print_json({"output": str(output), **manifest})
        return
    taken = f", {manifest['reused']} of them taken over from {reuse}" if reuse is not None else ""
    typer.echo(f"{manifest['rows']} rows of {len(manifest['fingerprints'])} features are in {output}{taken}")
    for source, fates in manifest["account"].items():
        typer.echo(f"{source}: " + ", ".join(f"{count} {fate}" for fate, count in fates.items() if count))


def upload(
    defs: Defs,
    events: Events,
    output: Annotated[Path, typer.Option(help="New folder for the closed tiles and their manifest.")],
    name: SetName = None,
    cut: Annotated[
        str | None,
        typer.Option(
            help="Instant up to which the archive is complete by arrival; default: what its commits say, else its end less 1 min."
        ),
    ] = None,
    store: Annotated[str | None, typer.Option(help=f"Load the upload into this store at once. {STORE_HELP}")] = None,
    at: Annotated[str | None, typer.Option(help="Instant of the flip that the store records; default: now.")] = None,
    beam: BeamOptions = None,
    as_json: Json = False,
) -> None:
    """Pack the closed tiles of an archive with Beam; with --store, let reads see them."""
    plan = load_plan(defs, name)
    flip_at = None if at is None else instant(at)
    if store is not None:
        made_store(store).close()  # before the work, not after it
    from unskew.backfill.upload import upload as run  # noqa: PLC0415 - starts Beam

    with quiet_engines():
        manifest = run(
            plan,
            events_by_source(plan, events),
            output=output,
            cut=None if cut is None else instant(cut),
            options=beam or (),
        )
    live = "" if store is None else f", and live in {load(plan, store, output, flip_at)}"
    if as_json:
        print_json(manifest)
        return
    for source, ends in manifest["sources"].items():
        typer.echo(
            f"{source}: tiles closed before {ends['batch_end']} ms, from an archive complete up to {ends['cut']} ms"
        )
    typer.echo(f"the upload is in {output}{live}")


def load(plan: SetPlan, store: str, folder: Path, at: int | None) -> str:
    """Load an upload into a store; return the store's address."""
    from unskew.online.upload import load_upload  # noqa: PLC0415

    with made_store(store) as opened:
        load_upload(opened, plan, folder, time.time_ns() // 1_000_000 if at is None else at)
        return opened.address
