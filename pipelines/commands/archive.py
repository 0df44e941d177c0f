"""`archive`: a source's topic, kept as Parquet."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from unskew.pipelines.commands.options import Defs, Json, SetName, SettingsFile, load_plan, print_json, until_told
from unskew.pipelines.commands.stream import choose_source
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SourcePlan
from unskew.pipelines.timegrid import parse_duration

Folder = Annotated[Path | None, typer.Option("--archive", help="Folder of the archive; default: the source's.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: unskew archive --defs feature_defs/fraud.py --set fraud --source transactions --once")(
        archive
    )


def archive(
    defs: Defs,
    name: SetName = None,
    source: Annotated[str | None, typer.Option(help="Source, where the set has several.")] = None,
    served: Annotated[bool, typer.Option("--served", help="Keep the set's served rows instead of a source.")] = False,
    settings: SettingsFile = None,
    folder: Folder = None,
    once: Annotated[bool, typer.Option("--once", help="Up to where the partitions end now, then stop.")] = False,
    partitions: Annotated[
        str | None, typer.Option(help="Only these, e.g. 0,1: several archivers may share a topic.")
    ] = None,
    every: Annotated[str, typer.Option(help="A batch is written at this age ...")] = "60s",
    rows: Annotated[int, typer.Option(min=1, help="... or at so many rows.")] = 100_000,
    compact: Annotated[
        bool, typer.Option("--compact", help="Read nothing; make few files of many. A running archiver does so itself.")
    ] = False,
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus' metrics at this port.")] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to serve them at.")] = "127.0.0.1",
    as_json: Json = False,
) -> None:
    """Keep what arrives on a source's topic as Parquet, and what cannot be read in its quarantine.

    Exactly once, whenever it is stopped or killed: it goes on from where the archive ends. Ctrl-C writes what it has.
    """
    plan = served_of(defs, name) if served else source_of(defs, name, source)
    folder = archive_of(plan, folder)
    if compact:
        from unskew.online.live.archive_compact import compact_archive  # noqa: PLC0415

        gone = compact_archive(folder, plan.topic)
        print_json({"files_fewer": gone}) if as_json else typer.echo(f"archive `{folder}` has {gone} files fewer")
        return
    from unskew.online.live.archive_metrics import Metrics  # noqa: PLC0415 - starts Kafka's client
    from unskew.online.live.archiver import Archiver, Pace  # noqa: PLC0415
    from unskew.online.live.served_source import KEPT  # noqa: PLC0415
    from unskew.online.live.settings import load_settings  # noqa: PLC0415
    from unskew.online.live.topic_reader import TopicReader  # noqa: PLC0415
    from unskew.online.live.topics import make_topics  # noqa: PLC0415

    pace, stop = Pace(rows, parse_duration(every)), until_told()
    kafka = load_settings(settings).kafka
    if served:  # this topic is ours: a server makes it with its first row, which may come later
        make_topics(kafka, {plan.topic: kafka.partitions}, KEPT)
    reader = TopicReader(kafka, plan.topic)
    try:
        archiver = Archiver(
            plan, reader, folder,
            partitions=numbers(partitions), pace=pace, report=warn,
            metrics=Metrics(plan.name, plan.topic, metrics_port, metrics_host),
        )  # fmt: skip
        try:
            totals = archiver.run(stop, once=once)
        finally:
            archiver.close()
    finally:
        reader.close()
    found: dict[str, Any] = {"archive": str(folder), **asdict(totals)}
    if as_json:
        print_json(found)
        return
    fates = ", ".join(f"{count} {fate}" for fate, count in sorted(totals.fates.items())) or "nothing new"
    typer.echo(f"archive `{folder}`: {fates}, in {totals.batches} batches")


def source_of(defs: Path, name: str | None, source: str | None) -> SourcePlan:
    """Return the source that a command means."""
    plan = load_plan(defs, name)
    return plan.source(choose_source(plan, source))


def served_of(defs: Path, name: str | None) -> SourcePlan:
    """Return the source of the served rows of the set that a command means."""
    from unskew.online.live.served_source import served_source  # noqa: PLC0415

    return served_source(load_plan(defs, name).name)


def archive_of(source: SourcePlan, given: Path | None) -> Path:
    """Return the folder of a source's archive: the one given, or the source's own.

    Raises
    ------
    InputError
        If the source is not read from Kafka, or has no archive.
    """
    from unskew.online.live.topics import topic_of  # noqa: PLC0415 - starts Kafka's client

    topic_of(source)
    if given is None and not source.archive:
        message = f'source `{source.name}` has no archive; declare archive="..." in its EventSource, or give --archive'
        raise InputError(message)
    return Path(source.archive) if given is None else given


def numbers(given: str | None) -> list[int] | None:
    """Read a list of partitions."""
    if given is None:
        return None
    words = given.split(",")
    if not all(each.strip().isdecimal() for each in words):
        message = f"partitions `{given}` are no numbers; write e.g. 0,1"
        raise InputError(message)
    return sorted({int(each) for each in words})


def warn(message: str) -> None:
    """Tell it on standard error."""
    typer.echo(f"unskew: {message}", err=True)
