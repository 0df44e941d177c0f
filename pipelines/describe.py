"""The plan in words: what `unskew plan` prints."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from unskew.pipelines.plan import FeaturePlan, SetPlan
from unskew.pipelines.timegrid import format_duration

PIPE_WIDTH = 200  # columns, where no terminal tells its own
HEADINGS = ("feature", "type", "window", "hop", "delay", "spans", "empty", "rounded to", "owner", "description")


def print_plan(plan: SetPlan, console: Console | None = None) -> None:
    """Print sources and features as tables."""
    out = console or Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    out.print(f"[bold]{plan.name}[/bold]  fingerprint {plan.fingerprint[:16]}")
    for source in plan.sources:
        identity = " + ".join((*source.event_id, source.event_time)) if source.deduplicate else "none, every row counts"
        late, future = format_duration(source.allowed_lateness), format_duration(source.max_future_skew)
        out.print(f"source {source.name}: identity {identity}; late after {late}; quarantined if {future} ahead")
    table = Table(*HEADINGS, box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for view in plan.views:
        for each in view.features:
            table.add_row(*feature_row(each))
    for derived in plan.derived:
        table.add_row(derived.name, "float64", *[""] * 4, "null", "", "", "derived")
    out.print(table)


def feature_row(each: FeaturePlan) -> tuple[str, ...]:
    """Return the cells of one feature; `spans` is the shortest and longest true length of the window."""
    window = each.window
    shortest, longest = window.span
    spans = format_duration(shortest)
    if longest != shortest:
        spans = f"{spans} to {format_duration(window.size + window.hop)}, exclusive"
    empty = "null" if each.spec.empty is None else str(each.spec.empty)
    quantum = f"{each.quantum:g}" if each.quantum else "exact"
    delay = format_duration(window.delay)
    words = (each.owner, each.description)
    return (
        each.name,
        str(each.type),
        window.label(),
        format_duration(window.hop),
        delay,
        spans,
        empty,
        quantum,
        *words,
    )
