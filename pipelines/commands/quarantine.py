"""`quarantine`: what of a topic could not be read, and what can be now."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Annotated

import typer

from unskew.pipelines.commands.archive import Folder, archive_of, source_of
from unskew.pipelines.commands.options import Defs, Json, SetName, SettingsFile, print_json

Source = Annotated[str | None, typer.Option(help="Source, where the set has several.")]
SHOWN = 200  # bytes of a message


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What of a topic could not be read, and what of it can be now.", no_args_is_help=True)
    group.command("list")(list_reasons)
    group.command(
        epilog="Example: unskew quarantine show --defs feature_defs/fraud.py --set fraud --reason wrong_type"
    )(show)
    group.command()(replay)
    app.add_typer(group, name="quarantine")


def list_reasons(
    defs: Defs, name: SetName = None, source: Source = None, folder: Folder = None, as_json: Json = False
) -> None:
    """Count by day of arrival and reason."""
    from unskew.online.live.quarantine import summary  # noqa: PLC0415 - starts Kafka's client

    found = summary(archive_of(source_of(defs, name, source), folder))
    if as_json:
        print_json(found)
        return
    for each in found:
        again = f", {each['replayed']} of them replayed" if each["replayed"] else ""
        typer.echo(f"{each['day']}  {each['reason']}  {each['messages']}{again}")
    if not found:
        typer.echo("nothing is quarantined")


def show(
    defs: Defs,
    name: SetName = None,
    source: Source = None,
    folder: Folder = None,
    reason: Annotated[str | None, typer.Option(help="Only of this reason.")] = None,
    day: Annotated[str | None, typer.Option(help="Only of this day of arrival, e.g. 2026-11-26.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show messages: where they are in the topic, when they arrived, why they are quarantined, and what they hold."""
    from unskew.online.live.quarantine import quarantined  # noqa: PLC0415 - starts Kafka's client

    messages = quarantined(archive_of(source_of(defs, name, source), folder))
    chosen = (each for each in messages if reason in (None, each.reason) and day in (None, each.day))
    for each in islice(chosen, limit):
        _, partition, offset = each.place
        raw = None if each.raw is None else each.raw.decode("utf-8", "backslashreplace")
        if as_json:
            print_json(
                {"partition": partition, "offset": offset, "arrival": each.arrival, "reason": each.reason, "raw": raw}
            )
            continue
        shown = (
            "no value"
            if raw is None
            else raw[:SHOWN].encode("unicode_escape").decode() + ("..." if raw[SHOWN:] else "")
        )
        typer.echo(f"partition {partition} offset {offset} at {each.arrival}: {each.reason}: {shown}")


def replay(
    defs: Defs,
    name: SetName = None,
    source: Source = None,
    settings: SettingsFile = None,
    folder: Folder = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be produced.")] = False,
    original: Annotated[
        bool,
        typer.Option("--original-time", help="Keep the timestamps: only where nothing was computed of the log yet."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Produce to the topic again what the definitions of today accept, once; it arrives now.

    So a training set does not know it before serving did; what is later than the allowed lateness waits for the next upload.
    """
    from unskew.online.live.quarantine import acceptable  # noqa: PLC0415 - starts Kafka's client
    from unskew.online.live.quarantine import replay as run  # noqa: PLC0415
    from unskew.online.live.settings import load_settings  # noqa: PLC0415

    plan = source_of(defs, name, source)
    archive = archive_of(plan, folder)
    if dry_run:
        counts = Counter(each.reason for each in acceptable(plan, archive))
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "nothing"
        print_json(counts) if as_json else typer.echo(f"would be produced again: {found}")
        return
    sent = run(plan, archive, load_settings(settings).kafka, original=original)
    print_json({"messages": sent.messages}) if as_json else typer.echo(
        f"{sent.messages} messages are in the topic again"
    )
