"""Shrinks a cell that no rule explains to the fewest events that still show it, as a ready pytest case."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from unskew.pipelines.arrow import python_values
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan as compile_plan
from unskew.validation.backfills import backfills
from unskew.validation.explain import Side, Truth, keys_of, of_entities, same_value
from unskew.validation.log import SEQUENCE, Log, logs_of
from unskew.validation.probes import Flip
from unskew.validation.served import Progress, replay, run_engines

RUNS = 16  # most runs of the engines for one cell; with the stream each takes some ten seconds
Events = Mapping[str, pa.Table]
Row = tuple[str, int]  # a source and a sequence number


Item = TypeVar("Item")


@dataclass(frozen=True)
class Cell:
    """One cell: its feature, the side that is wrong, and its probe, a table of one row."""

    feature: str
    side: Side
    probe: pa.Table


@dataclass(frozen=True)
class Shrunk:
    """A cell, and few events of each source (with their ``_seq``) with which it is still wrong."""

    cell: Cell
    flips: tuple[Flip, ...]
    events: Events


def compute(feature_set: FeatureSet | SetPlan, events: Events, flips: Sequence[Flip], cell: Cell) -> tuple[Any, Any]:
    """Run the engines over a few events, and the oracle.

    Parameters
    ----------
    feature_set
        Definitions, or their plan.
    events
        Of each source, with the sequence number ``_seq`` of each row.
    flips
        The uploads.
    cell
        Which feature, on which side, at which probe.

    Returns
    -------
    given, expected
        The cell as the engine and as the oracle gives it: instants as ms.
    """
    plan = compile_plan(feature_set) if isinstance(feature_set, FeatureSet) else feature_set
    logs = logs_of(plan, events)
    restarts: Mapping[Any, Any] = {}
    if cell.side == "served":
        with tempfile.TemporaryDirectory(prefix="unskew-parity-") as scratch:
            run_engines(plan, logs, flips, Path(scratch), lambda _: None)
            served = replay(plan, flips, cell.probe, Path(scratch), lambda _: None)
        table, restarts = served.table, served.restarts
    else:
        ideal, as_known, _ = backfills(plan, logs, flips, cell.probe)
        table = ideal if cell.side == "ideal" else as_known
    truth = Truth(plan, logs, flips, restarts, cell.probe)
    return python_values(table[cell.feature])[0], truth.value(0, cell.side, cell.feature)


def shrink(plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], cell: Cell, progress: Progress) -> Shrunk:
    """Find few events that still show a wrong cell: at first those of its entities, then ever smaller parts of them.

    Source: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input (2002); at most `RUNS` runs.
    """
    tables = {name: log.table for name, log in logs.items()}
    runs = 0

    def wrong(rows: Sequence[Row]) -> bool:
        nonlocal runs
        runs += 1
        progress(f"shrink {cell.feature}: {len(rows)} events, run {runs} of at most {RUNS}")
        return runs <= RUNS and not same_value(*compute(plan, chosen(tables, rows), flips, cell))

    rows = own_rows(plan, logs, cell.probe)
    if not wrong(rows):
        rows = [(name, seq) for name, log in logs.items() for seq in log.seq.tolist()]
    kept = smallest(rows, wrong, lambda: runs >= RUNS)
    return Shrunk(cell, tuple(flips), chosen(tables, kept))


def own_rows(plan: SetPlan, logs: Mapping[str, Log], probe: pa.Table) -> list[Row]:
    """Return the rows of the probe's entities, in any view."""
    found: dict[Row, None] = {}
    for view in plan.reads:
        log = logs[view.source]
        found |= {(view.source, seq): None for seq in log.seq[of_entities(view, log, keys_of(view, probe))].tolist()}
    return list(found)


def chosen(tables: Events, rows: Sequence[Row]) -> dict[str, pa.Table]:
    """Return the chosen rows of each source."""
    found = {}
    for name, table in tables.items():
        wanted = [seq for source, seq in rows if source == name]
        found[name] = table.filter(pa.array(np.isin(table[SEQUENCE].to_numpy(), wanted)))
    return found


def smallest(rows: list[Item], wrong: Callable[[Sequence[Item]], bool], spent: Callable[[], bool]) -> list[Item]:
    """Return a part of the rows that is still wrong, none of whose tried parts is."""
    parts = 2
    while len(rows) > 1 and not spent():
        size = -(-len(rows) // parts)
        starts = range(0, len(rows), size)
        pieces = (rows[start : start + size] for start in starts)
        rests = (rows[:start] + rows[start + size :] for start in starts if parts > 2)  # noqa: PLR2004 - of two parts each is the other's rest
        smaller = next((each for each in chain(pieces, rests) if each and not spent() and wrong(each)), None)
        if smaller is not None:
            rows, parts = smaller, max(parts - 1, 2) if len(smaller) > size else 2
        elif size == 1:
            break
        else:
            parts = min(2 * parts, len(rows))
    return rows


CASE = '''"""A cell that parity could not explain, and the fewest events found that show it. Written by `unskew parity`."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from unskew.pipelines.loading import load_sets
from unskew.validation.probes import Flip
from unskew.validation.shrink import Cell, compute

SET = load_sets(Path({defs!r}))[{name!r}]
EVENTS = {{
{events}
}}
FLIPS = {flips!r}
PROBE = {probe}


def test_{title}() -> None:
    given, expected = compute(SET, EVENTS, FLIPS, Cell({feature!r}, {side!r}, PROBE))
    assert repr(given) == repr(expected)  # bit by bit
'''


def pytest_case(shrunk: Shrunk, defs: Path, name: str) -> str:
    """Return a test file that computes a cell again.

    Parameters
    ----------
    defs, name
        Where the definitions are, and the name of their set.
    """
    cell = shrunk.cell
    title = "".join(each if each.isalnum() else "_" for each in cell.feature)
    events = "\n".join(f"    {source!r}: {literal(table)}," for source, table in shrunk.events.items())
    return CASE.format(
        defs=str(defs), name=name, events=events, flips=list(shrunk.flips), probe=literal(cell.probe),
        title=title, feature=cell.feature, side=cell.side,
    )  # fmt: skip


def literal(table: pa.Table) -> str:
    """Write a table as Python code."""
    columns = [f"{each.name!r}: pa.array({cells(table[each.name])}, {type_code(each.type)})" for each in table.schema]
    return "pa.table({" + ", ".join(columns) + "})"


def cells(column: pa.ChunkedArray) -> str:
    """Write a column's cells; instants as whole numbers."""
    numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    return "[" + ", ".join(cell(each) for each in numbers.to_pylist()) + "]"


def cell(value: Any) -> str:
    """Write one cell."""
    return f"float({str(value)!r})" if isinstance(value, float) and not math.isfinite(value) else repr(value)


def type_code(kind: pa.DataType) -> str:
    """Write an Arrow type."""
    if pa.types.is_timestamp(kind):
        return f"pa.timestamp({kind.unit!r}, {kind.tz!r})"
    if pa.types.is_decimal(kind):
        return f"pa.decimal128({kind.precision}, {kind.scale})"
    if pa.types.is_dictionary(kind):
        return type_code(kind.value_type)
    return {"double": "pa.float64()", "float": "pa.float32()", "bool": "pa.bool_()", "null": "pa.null()"}.get(
        str(kind), f"pa.{kind}()"
    )
