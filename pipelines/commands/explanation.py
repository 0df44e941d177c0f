"""`explain`: the tiles and events that make up one value."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unskew.pipelines.commands.online import asked_rows, open_store
from unskew.pipelines.commands.options import At, Cells, Defs, Json, SetName, Store, instant, load_plan, print_json

if TYPE_CHECKING:
    from unskew.online.provenance import Provenance


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: unskew explain customer_activity.tx_count_1d --defs feature_defs/fraud.py --set fraud "
        "--store build/store.sqlite --at 2025-02-10 customer_id=3"
    )(explain)


def explain(
    feature: Annotated[str, typer.Argument(help="Full name of a feature, VIEW.FEATURE_WINDOW.")],
    defs: Defs,
    store: Store,
    at: At,
    cells: Cells = None,
    name: SetName = None,
    events: Annotated[
        str | None, typer.Option(help="Archive of the view's source (Parquet): list the entity's events in the window.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what makes up one value: its window, the tiles that a read merges, and the events in it."""
    plan = load_plan(defs, name)
    (row,), when = asked_rows(plan, cells, None), instant(at)
    from unskew.online.provenance import provenance  # noqa: PLC0415 - compiles the kernels
    from unskew.online.read import FeatureReader  # noqa: PLC0415

    with open_store(store) as opened:
        found = provenance(FeatureReader(plan, opened), row, when, feature)
    listed = None
    if events is not None:
        from unskew.validation.events_of import window_events  # noqa: PLC0415

        listed = window_events(plan, found.feature, events, row, (found.tail, found.head))
    if as_json:
        print_json(as_object(found, listed))
        return
    print_explanation(found, listed)


def as_object(found: Provenance, events: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the explanation as one JSON object."""
    tiles = [{"side": each.side, "start": each.start, "end": each.end, **each.cells} for each in found.rows]
    return {
        "feature": found.feature.name, "value": found.value, "tail": found.tail, "head": found.head,
        "batch_end": found.pointer.batch_end, "tiles": tiles, **({} if events is None else {"events": events}),
    }  # fmt: skip


def print_explanation(found: Provenance, events: list[dict[str, Any]] | None) -> None:
    """Print the explanation for people."""
    feature = found.feature
    typer.echo(f"{feature.name} = {shown(found.value)}  ({feature.formula})")
    if feature.start is not None and found.tail < feature.start:
        typer.echo(f"null, for the window reaches before feature_start_time {written(feature.start)}")
    typer.echo(
        f"events with {written(found.tail)} <= ts < {written(found.head)}; closed before {written(found.pointer.batch_end)}"
    )
    typer.echo(f"rows of tiles, numbers in their smallest units: {len(found.rows)}")
    for each in found.rows:
        cells = ", ".join(f"{key} {shown(value)}" for key, value in each.cells.items())
        start = "earlier" if each.start is None else written(each.start)
        typer.echo(f"  {each.side:6}  {start}  {cells}")
    if events is not None:
        typer.echo(f"events of the entity in the window: {len(events)}")
        for event in events:
            typer.echo("  " + ", ".join(f"{key} {shown(value)}" for key, value in event.items()))


def shown(value: object) -> str:
    """Write a value on one line: texts in quotes, null as null."""
    return json.dumps(value, ensure_ascii=False, default=str)


def written(millis: int) -> str:
    """Write an instant, ISO 8601; one outside the calendar as a number."""
    try:
        return datetime.fromtimestamp(millis / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "the beginning" if millis < 0 else str(millis)
