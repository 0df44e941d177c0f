"""The parity report in words, and progress on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

from rich.console import Console
from rich.table import Table

from unskew.validation.diagnose import DEFECTS
from unskew.validation.parity import Report

WIDTH = 120
UNCONFIRMED = "the archive has no events that give the set hash of a tile that was read"
PHYSICS = {
    "late": "came after the allowed lateness; an upload heals the store",
    "in_flight": "had not arrived yet",
    "ahead": "the tile held only versions with later events",
    "behind": "an earlier event came after a later one in the tile being filled",
}


def summary(report: Report) -> str:
    """Return the report as plain text of at most `WIDTH` columns."""
    out = Console(file=StringIO(), width=WIDTH, color_system=None)
    cells = sum(each.cells for each in report.features.values())
    equal = sum(each.equal for each in report.features.values())
    verdict = "PASSED" if report.unexplained == 0 else "FAILED"
    events = ", ".join(f"{count:,} {name}" for name, count in report.events.items())
    out.print(f"parity of {report.plan.name}: {verdict}", highlight=False)
    out.print(f"{report.probes:,} probes over {events}", highlight=False)
    out.print(f"{cells:,} cells: {equal:,} equal to the ideal, {cells - equal:,} not", highlight=False)
    for cause, count in report.causes.most_common():
        meaning = PHYSICS.get(cause) or f"defect: {DEFECTS.get(cause, UNCONFIRMED)}"
        out.print(f"  {count:>12,}  {cause}: {meaning}", highlight=False)
    out.print(f"  {report.unexplained:>12,}  unexplained", highlight=False)
    out.print(feature_table(report))
    for each in report.defects:
        out.print(
            f"{each.feature} ({each.cause}): {each.side} {each.given!r}, expected {each.expected!r} at {each.probe}",
            highlight=False,
        )
    text = out.file
    return text.getvalue() if isinstance(text, StringIO) else ""


def feature_table(report: Report) -> Table:
    """Return one row for each feature."""
    causes = [*PHYSICS, *sorted(set(report.causes) - set(PHYSICS))]
    table = Table("feature", "cells", "equal", *causes, box=None, pad_edge=False)
    for name, each in report.features.items():
        table.add_row(
            name, f"{each.cells:,}", f"{each.equal:,}", *(f"{each.causes.get(cause, 0):,}" for cause in causes)
        )
    return table


@contextmanager
def progress_line(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """Give a function that shows what is being done on one line of standard error."""
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update
