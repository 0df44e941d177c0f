"""A run on a terminal: one screen of at most 100 columns and 30 lines, or a line now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from unskew.online.live.parts import Part
from unskew.online.live.session import Session

WIDTH = 100
FATES = ("applied", "accepted", "duplicates", "late", "quarantined", "filtered", "archived")
NAME = 21  # characters of a part's
LINES = 4  # of what was told last
COLOURS = {"running": "green", "done": "cyan", "ended": "dim", "starting": "yellow"}
MINUTE, SHORT = 60, 0.01  # s


def screen(session: Session) -> RenderableType:
    """Return the screen."""
    return Group(
        Panel(parts_table(session.parts.all), title=f"unskew live: {session.plan.name}", subtitle=progress(session), width=WIDTH),
        Panel(traffic_table(session), title="traffic", width=WIDTH),
        Panel(parity_table(session), title="parity so far", width=WIDTH),
        *(Text(each[: WIDTH - 1], style="yellow") for each in told(session)),
    )  # fmt: skip


def progress(session: Session) -> str:
    """Return the phase and the time."""
    wanted = f" of {clock(session.options.duration)}" if session.options.duration else ""
    ending = "Ctrl-C ends it" if not session.stop.is_set() else "ending"
    return f"{session.phase}, {clock(session.elapsed)}{wanted}; {ending}"


def parts_table(parts: list[Part]) -> Table:
    """Return a row for each part, in two columns."""
    table = Table(box=None, pad_edge=False, expand=True)
    for _ in range(2):
        table.add_column("part", no_wrap=True, min_width=NAME)
        table.add_column("state", no_wrap=True)
        table.add_column("pid", justify="right", no_wrap=True)
        table.add_column("since", justify="right", no_wrap=True)
    half = (len(parts) + 1) // 2
    for left in range(half):
        pair = parts[left : left + 1] + parts[half + left : half + left + 1]
        table.add_row(*(cell for each in pair for cell in part_cells(each)))
    return table


def part_cells(part: Part) -> tuple[str | Text, ...]:
    """Return one part's row."""
    again = part.deaths > 0 and part.state == "running"
    state = Text("again" if again else part.state, style="yellow" if again else COLOURS.get(part.state, "bold red"))
    return part.name, state, str(part.pid or ""), time.strftime("%H:%M", time.localtime(part.since))


def traffic_table(session: Session) -> Table:
    """Return the figures of events and reads."""
    found = session.figures
    reads = found.reads
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True, min_width=11)
    table.add_column(no_wrap=True)
    events = f"{found.produced_rate:,.0f}/s produced ({found.produced:,}), {found.applied_rate:,.0f}/s applied ({found.applied:,})"
    table.add_row("events", events)
    table.add_row("fates", fates(session))
    table.add_row("freshness", f"{pair(found.freshness)} from arrival until reads have it; lag {found.lag:,} messages")
    table.add_row("store", f"reads {pair(found.store_reads)}; writes {pair(found.store_writes)}")
    speed = f"{reads.done / session.elapsed:,.1f}/s" if session.elapsed else "-"
    table.add_row("reads", f"{speed} over HTTP ({reads.done:,}, {reads.failed} failed), {pair(reads.seconds)}")
    table.add_row("jobs", jobs(session))
    return table


def fates(session: Session) -> str:
    """Return how many messages had which fate: all of them once nothing is on its way, else those in the archive."""
    found = session.figures.fates or session.figures.archived
    named = [f"{each} {found[each]:,}" for each in FATES if found.get(each)]
    return ", ".join(named) + ("" if session.figures.fates else ", in the archive") if named else "none yet"


def jobs(session: Session) -> str:
    """Return the jobs' checkpoints and restarts."""
    found = session.figures
    ages = ", ".join(f"{source} {age:.0f} s" for source, age in found.checkpoint_age.items()) or "none yet"
    return f"checkpoints: {ages}; restarts {sum(found.restarts.values())}; {found.unarchived:,} messages to archive"


def parity_table(session: Session) -> Table:
    """Return the cells that were compared, by cause."""
    found, reads = session.figures.parity, session.figures.reads
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True, min_width=11)
    table.add_column(no_wrap=True)
    table.add_row(
        "archive", f"{found.rows:,} rows, {found.cells:,} cells: {found.equal:,} equal to the ideal, {causes(session)}"
    )
    table.add_row("", f"{found.waiting:,} rows wait until all that they can know is archived")
    table.add_row(
        "HTTP",
        f"{reads.compared:,} cells of replies are those of the store, {reads.unexplained} not; {reads.moved} rows moved",
    )
    count = session.figures.unexplained
    table.add_row("unexplained", Text(str(count), style="bold red" if count else "green"))
    return table


def causes(session: Session) -> str:
    """Return the other cells by cause."""
    found = session.figures.parity.causes
    return ", ".join(f"{count:,} {cause}" for cause, count in sorted(found.items())) or "no others"


def told(session: Session, since: int = -LINES) -> Iterable[str]:
    """Return the lines that were told last."""
    return (f"{time.strftime('%H:%M:%S', time.localtime(at))} {what}" for at, what in session.told[since:])


def line(session: Session) -> str:
    """Return all of it in one line."""
    found = session.figures
    if session.began is None:
        states = Counter(each.state for each in session.parts.all)
        return f"{session.phase}; {', '.join(f'{count} parts {state}' for state, count in states.items()) or 'no part yet'}"
    return (
        f"{clock(session.elapsed)} {session.phase}: {found.produced_rate:.0f}/s produced, {found.applied_rate:.0f}/s applied, "
        f"fresh {pair(found.freshness)}, lag {found.lag}, {found.reads.done} reads {pair(found.reads.seconds)}, "
        f"parity {found.parity.cells:,} cells, {found.unexplained} unexplained"
    )


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    return f"{int(seconds) // MINUTE:02d}:{int(seconds) % MINUTE:02d}"


def pair(quantiles: tuple[float, ...] | None) -> str:
    """Return a median and a 99th percentile."""
    return "/".join(duration(each) for each in quantiles) + " p50/p99" if quantiles else "-"


def duration(seconds: float) -> str:
    """Return a short time with its unit."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1_000:.{0 if seconds >= SHORT else 1}f} ms"
