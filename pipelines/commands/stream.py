"""`stream` and `materialize`: the jobs of a source, in an embedded Flink over files and on a cluster over Kafka."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unskew.pipelines.commands.online import made_store
from unskew.pipelines.commands.options import (
    STORE_HELP,
    Defs,
    Json,
    SetName,
    SettingsFile,
    instant,
    load_plan,
    print_json,
    until_told,
)
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.plan import SetPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unskew.online.live.control import Control
    from unskew.online.live.jobs import Job

Source = Annotated[str | None, typer.Option(help="Source, where the set has several.")]
MetricsPort = Annotated[int, typer.Option(help="Answer Prometheus at /metrics of this port; 0: do not.")]
MetricsHost = Annotated[str, typer.Option(help="Address to answer it at.")]
AsItIs = Annotated[
    bool, typer.Option("--as-it-is", help="Take the topic as it is now, even if it begins late or was made again.")
]
Target = Annotated[
    str | None, typer.Option(help="HOST:PORT of the Flink cluster's REST interface, instead of [flink] target.")
]
Wait = Annotated[bool, typer.Option(help="Wait until the job has caught up and reads see it.")]
LOGS = Path("build/submit")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    jobs = typer.Typer(help="Jobs that keep the tiles of a source.", no_args_is_help=True)
    jobs.command(
        "files",
        epilog="Example: unskew stream files --defs feature_defs/fraud.py --set fraud --source transactions "
        "--input build/log/transactions --output build/stream --store build/store.sqlite",
    )(files)
    for each in (submit, status, account, stop, resume, upgrade, rebuild, run):
        jobs.command()(each)
    app.add_typer(jobs, name="stream")
    app.command(epilog="Example: unskew materialize --defs feature_defs/fraud.py --set fraud")(materialize)


def files(
    defs: Defs,
    input_folder: Annotated[Path, typer.Option("--input", help="Folder of JSON lines.")],
    output_folder: Annotated[Path, typer.Option("--output", help="New folder for tiles, quarantine, late rows.")],
    name: SetName = None,
    source: Annotated[str | None, typer.Option(help="Source, where the set has several.")] = None,
    since: Annotated[str | None, typer.Option(help="Keep only events from this instant on.")] = None,
    store: Annotated[
        str | None,
        typer.Option(help=f"Write the tiles into this store, and start from its batch_end. {STORE_HELP}"),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for further files until interrupted.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was cut off.")] = False,
    as_json: Json = False,
) -> None:
    """Run a source's Flink job over a folder of JSON lines; every line is accounted for."""
    plan = load_plan(defs, name)
    chosen = choose_source(plan, source)
    from unskew.online.stream import run_id, run_stream  # noqa: PLC0415 - starts Flink

    if store is not None:
        made_store(store).close()  # before the work, not after it
    start = batch_end(store, chosen) if since is None else instant(since)
    account = run_stream(plan, chosen, input_folder, output_folder, since=start, watch=watch, resume=resume)
    found: dict[str, Any] = asdict(account)
    if store is not None:
        from unskew.online.materialise import materialise  # noqa: PLC0415

        with made_store(store) as opened:
            applied = materialise(opened, plan, chosen, output_folder, epoch=run_id(output_folder))
        found |= {"rows_written": applied.rows, "writes_rejected": applied.rejected}
    if as_json:
        print_json(found)
        return
    typer.echo(", ".join(f"{key} {value}" for key, value in found.items() if value not in ({}, None)))


def choose_source(plan: SetPlan, name: str | None) -> str:
    """Return the source that a command means."""
    names = [each.name for each in plan.sources]
    if name is None and len(names) > 1:
        message = f"set `{plan.name}` has several sources; choose one with --source: {', '.join(f'`{each}`' for each in names)}"
        raise InputError(message)
    chosen = names[0] if name is None else name
    if chosen not in names:
        message = f"source `{chosen}` is unknown; {nearest(chosen, names)}"
        raise InputError(message)
    return chosen


def batch_end(store: str | None, source: str) -> int | None:
    """Return where the store's closed tiles end; None where it has none."""
    if store is None:
        return None
    from unskew.online.store import BEGINNING  # noqa: PLC0415

    with made_store(store) as opened:
        pointer = opened.pointer(source)
    return None if pointer is None or pointer.batch_end == BEGINNING else pointer.batch_end


@contextmanager
def control(
    defs: Path,
    name: str | None,
    source: str | None,
    settings: Path | None,
    target: str | None = None,
    *,
    as_it_is: bool = False,
) -> Iterator[tuple[Control, str]]:
    """Open the store and give what starts and stops the set's jobs, and the source that is meant."""
    plan = load_plan(defs, name)
    chosen = choose_source(plan, source)
    from unskew.online.live.control import Control  # noqa: PLC0415
    from unskew.online.live.settings import load_settings  # noqa: PLC0415
    from unskew.online.stores import open_store  # noqa: PLC0415

    found = load_settings(settings)
    if target is not None:
        found = replace(found, flink=replace(found.flink, target=target))
    with open_store(found.store) as store:
        yield Control(plan, found, store, LOGS.resolve(), as_it_is), chosen


def submit(
    defs: Defs,
    name: SetName = None,
    source: Source = None,
    settings: SettingsFile = None,
    target: Target = None,
    wait: Wait = True,
    as_it_is: AsItIs = False,
) -> None:
    """Start the first job of a source on the cluster, from the upload's batch_end on."""
    with control(defs, name, source, settings, target, as_it_is=as_it_is) as (found, chosen):
        job = found.submit(chosen)
        typer.echo(f"{job.epoch}: job {job.job_id} reads {sum(found.lag(job).values())} messages and those to come")
        finish(found, job, wait=wait)


def finish(found: Control, job: Job, *, wait: bool) -> None:
    """Wait until reads see a job."""
    if wait:
        found.flip_when_covered(job, until_told(), typer.echo)


def status(
    defs: Defs,
    name: SetName = None,
    source: Source = None,
    settings: SettingsFile = None,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Tell what the jobs of a source do: state, restarts, age of the checkpoint, messages that wait, rows applied."""
    from unskew.online.live.job_report import described  # noqa: PLC0415

    with control(defs, name, source, settings, target) as (found, chosen):
        told = [described(found, each) for each in found.jobs(chosen)]
    if as_json:
        print_json(told)
        return
    for each in told or [{"job": "none; run `unskew stream submit`"}]:
        typer.echo("\n".join(f"{key}  {value}" for key, value in each.items() if value not in ("", None)))


def account(
    defs: Defs, name: SetName = None, source: Source = None, settings: SettingsFile = None, as_json: Json = False
) -> None:
    """Count what became of every message that the job of a source has read."""
    with control(defs, name, source, settings) as (found, chosen):
        told = asdict(found.account(found.job(chosen)))
    if as_json:
        print_json(told)
        return
    typer.echo(", ".join(f"{key} {value}" for key, value in told.items() if value != {}))


def stop(
    defs: Defs, name: SetName = None, source: Source = None, settings: SettingsFile = None, target: Target = None
) -> None:
    """End the job of a source with a savepoint; its tiles stay readable."""
    with control(defs, name, source, settings, target) as (found, chosen):
        job = found.stop(chosen)
    typer.echo(f"{job.epoch}: stopped; `unskew stream resume` goes on where it was")


def resume(
    defs: Defs, name: SetName = None, source: Source = None, settings: SettingsFile = None, target: Target = None
) -> None:
    """Go on with the job of a source from its newest checkpoint."""
    with control(defs, name, source, settings, target) as (found, chosen):
        job = found.resume(chosen)
    typer.echo(f"{job.epoch}: goes on as job {job.job_id}")


def upgrade(
    defs: Defs,
    name: SetName = None,
    source: Source = None,
    settings: SettingsFile = None,
    target: Target = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change and what it costs.")] = False,
    as_it_is: AsItIs = False,
) -> None:
    """Replace the job of a source by one of the current definitions; reads change over once it has caught up."""
    with control(defs, name, source, settings, target, as_it_is=as_it_is) as (found, chosen):
        changed, hidden = found.changed_views(chosen), found.hidden_views(chosen)
        if hidden:
            typer.echo(f"views that reads have not until `unskew upload` of these definitions: {', '.join(hidden)}")
        if dry_run:
            typer.echo(f"views to compute anew: {', '.join(changed) or 'none'}")
            typer.echo(f"messages to read again: {found.cost(chosen)}" if changed else "nothing to do")
            return
        job = found.replacement(chosen, forced=False)
        if job is None:
            typer.echo(f"{found.job(chosen).epoch}: computes these definitions already")
            return
        finish(found, job, wait=True)


def rebuild(
    defs: Defs,
    name: SetName = None,
    source: Source = None,
    settings: SettingsFile = None,
    target: Target = None,
    as_it_is: AsItIs = False,
) -> None:
    """Replace the job of a source by one that reads the log again: for lost state or a lost store."""
    with control(defs, name, source, settings, target, as_it_is=as_it_is) as (found, chosen):
        job = found.replacement(chosen, forced=True)
        if job is not None:
            finish(found, job, wait=True)


def run(
    defs: Defs,
    name: SetName = None,
    source: Source = None,
    settings: SettingsFile = None,
    target: Target = None,
    metrics_port: MetricsPort = 0,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Keep the job of a source running until interrupted; after a loss it goes on from the newest checkpoint."""
    with control(defs, name, source, settings, target) as (found, chosen):
        ended = until_told()
        if metrics_port:
            from unskew.online.live.job_report import Fates, gauges  # noqa: PLC0415
            from unskew.online.live.metrics import Metrics  # noqa: PLC0415

            metrics = Metrics()
            metrics.watch_job(chosen, lambda: gauges(found, chosen), Fates(found, chosen))
            metrics.serve(metrics_port, metrics_host)
        from unskew.online.live.supervision import Supervisor  # noqa: PLC0415

        Supervisor(found, chosen, typer.echo).run(ended)


def materialize(
    defs: Defs,
    name: SetName = None,
    settings: SettingsFile = None,
    metrics_port: MetricsPort = 0,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Write what the set's jobs compute into the store until interrupted; any number of processes share the work."""
    plan = load_plan(defs, name)
    from unskew.online.live.consumer import TileConsumer  # noqa: PLC0415
    from unskew.online.live.metrics import Metrics  # noqa: PLC0415
    from unskew.online.live.settings import load_settings  # noqa: PLC0415
    from unskew.online.stores import open_store  # noqa: PLC0415

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)  # it tells of every pause
    found, metrics = load_settings(settings), Metrics()
    if metrics_port:
        metrics.serve(metrics_port, metrics_host)
    with open_store(found.store) as store:
        ended = until_told()
        typer.echo(f"materialising set {plan.name} into {store.address}")
        TileConsumer(plan, store, found.kafka, metrics).run(ended)
