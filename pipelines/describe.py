"""The plan in words: what `unskew plan` prints."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from unskew.pipelines.difference import Difference, State
from unskew.pipelines.plan import FeaturePlan, SetPlan
from unskew.pipelines.timegrid import format_duration

PIPE_WIDTH = 200  # columns, where no terminal tells its own
STATE_HEADINGS = (
    "view",
    "state",
    "fields kept",
    "added",
    "dropped",
    "closed tiles",
    "open tiles",
    "bytes",
    "bytes per value",
)
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
    for view in plan.reads:
        for each in view.features:
            table.add_row(*feature_row(each))
    for derived in plan.derived:
        table.add_row(derived.name, "float64", *[""] * 4, "null", "", "", "derived")
    out.print(table)


def print_difference(found: Difference, console: Console | None = None) -> None:
    """Print what changes from one plan to another."""
    out = console or Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for sign, names in (("+", found.added), ("-", found.removed)):
        for name in names:
            out.print(f"{sign} {name}", highlight=False)
    for name, reason in found.changed.items():
        out.print(f"~ {name}: {reason}", highlight=False)
    out.print(f"{len(found.unchanged)} features unchanged")
    table = Table(*STATE_HEADINGS, box=None, pad_edge=False)
    for each in found.states:
        built = "kept" if not each.rebuilt and each.after else each.rebuilt or "dropped"
        table.add_row(each.view, built, str(each.kept), str(each.added), str(each.dropped), *map(arrow, *costs(each)))
    out.print(table)
    out.print("Costs are of one entity that is active in every tile, at most; an idle one costs its active tiles only.")


def costs(state: State) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    """Return the costs before and after, in the order of the headings."""
    return tuple(
        (None,) * 4
        if each is None
        else (each.closed_tiles, each.open_tiles, each.closed_bytes + each.open_bytes, each.bytes_per_value)
        for each in (state.before, state.after)
    )  # type: ignore[return-value]


def arrow(before: int | None, after: int | None) -> str:
    """Write a number that may have changed."""
    left, right = ("none" if each is None else f"{each:,}" for each in (before, after))
    return right if before == after else f"{left} -> {right}"


def feature_row(each: FeaturePlan) -> tuple[str, ...]:
    """Return the cells of one feature; `spans` is the shortest and longest true length of the window."""
    window = each.window
    shortest, longest = window.span
    spans = format_duration(shortest)
    if longest != shortest:
        spans = f"{spans} to {format_duration(window.size + window.hop)}, exclusive"
    empty = "null" if each.empty is None else str(each.empty)
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
