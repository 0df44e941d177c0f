"""Parity: proves that the online read equals the backfill, cell by cell, and says why where it does not.

``served - ideal = (served - of_tiles_read) + (of_tiles_read - as_known) + (as_known - ideal)`` (design section
9). The first part must be zero for every cell; the other two are what arrival explains.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unskew.pipelines.arrow import python_values
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan as compile_plan
from unskew.validation.backfills import backfills
from unskew.validation.compare import Bools, same_cells
from unskew.validation.explain import SIDES, Side, Truth, inputs_of, same_value
from unskew.validation.log import Log, read_logs
from unskew.validation.probes import Flip, choose_probes, plan_uploads
from unskew.validation.served import Progress, Served, replay, run_engines
from unskew.validation.shrink import Cell, Shrunk, shrink

PROBES = 10_000


@dataclass(frozen=True)
class Defect:
    """A cell that arrival does not explain; `side` is what was wrong: ``served``, ``as_known`` or ``ideal``.

    `row` is the number of its probe.
    """

    feature: str
    cause: str
    side: Side
    row: int
    probe: dict[str, Any]
    given: Any
    expected: Any


@dataclass
class FeatureParity:
    """One feature's cells: compared, equal to the ideal, and the others by cause; `unexplained` are defects."""

    cells: int
    equal: int
    causes: Counter[str]
    unexplained: int


@dataclass
class Report:
    """What parity found.

    Parameters
    ----------
    events
        Rows read of each source.
    rejected
        Writes that the store's guard refused.
    defects
        Some of the cells that arrival does not explain: at most `MOST_DEFECTS` of each feature.
    shrunk
        One that no rule explains, with the fewest events that were found to show it.
    """

    plan: SetPlan
    probes: int
    events: dict[str, int]
    rejected: int
    features: dict[str, FeatureParity]
    defects: list[Defect]
    shrunk: Shrunk | None = None

    @property
    def causes(self) -> Counter[str]:
        """All unequal cells by cause."""
        return sum((each.causes for each in self.features.values()), Counter())

    @property
    def unexplained(self) -> int:
        """Cells whose difference arrival does not explain."""
        return sum(each.unexplained for each in self.features.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as `parity.json` holds it."""
        return {
            "set": self.plan.name,
            "fingerprint": self.plan.fingerprint,
            "events": self.events,
            "probes": self.probes,
            "cells": sum(each.cells for each in self.features.values()),
            "equal": sum(each.equal for each in self.features.values()),
            "unexplained": self.unexplained,
            "rejected_writes": self.rejected,
            "causes": dict(self.causes),
            "features": {
                name: {"cells": each.cells, "equal": each.equal, "causes": dict(each.causes)}
                for name, each in self.features.items()
            },
            "defects": [vars(each) for each in self.defects],
        }


def parity(
    feature_set: FeatureSet | SetPlan, events: Any, *, probes: int = PROBES, seed: int = 0,
    folder: Path | None = None, progress: Progress = lambda _: None,
) -> Report:  # fmt: skip
    """Run Beam and Flink on the same events and compare what would have been served with the backfill.

    Parameters
    ----------
    feature_set
        Definitions, or their plan.
    events
        As `backfill` takes them, or a folder with one folder for each source.
    probes
        How many (entity, position, instant) to read; each gives one cell for each feature.
    seed
        Of the choice of probes.
    folder
        Where uploads, changelogs and the store stay; by default a temporary one.
    progress
        Called with what is being done.

    Raises
    ------
    InputError
        If events cannot be read, or none follow the first upload.
    EngineError
        If an engine fails.
    """
    plan = compile_plan(feature_set) if isinstance(feature_set, FeatureSet) else feature_set
    progress("read events")
    logs = read_logs(plan, events)
    flips = plan_uploads(logs)
    asked = choose_probes(plan, logs, flips, probes, seed)
    with tempfile.TemporaryDirectory(prefix="unskew-parity-") as scratch:
        place = Path(scratch) if folder is None else folder
        place.mkdir(parents=True, exist_ok=True)
        run_engines(plan, logs, flips, place, progress)
        served = replay(plan, flips, asked, place, progress)
    progress("backfill")
    values = backfills(plan, logs, flips, asked)
    progress("compare")
    report = compare(plan, logs, flips, asked, served, values)
    unknown = next((each for each in report.defects if each.cause == "engine"), None)
    if unknown is not None:
        cell = Cell(unknown.feature, unknown.side, asked.slice(unknown.row, 1))
        report.shrunk = shrink(plan, logs, flips, cell, progress)
    return report


MOST_DEFECTS = 3
AUDITED = 200  # probes of which the oracle checks every cell, beside the cells in which the engines differ


def compare(
    plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], asked: pa.Table, served: Served,
    values: tuple[pa.Table, pa.Table, pa.Table],
) -> Report:  # fmt: skip
    """Compare what was served with the backfills, as `backfills` returns them."""
    sides: dict[Side, pa.Table] = dict(zip(SIDES, (served.table, values[1], values[0]), strict=True))
    counted = {name: each.table.num_rows for name, each in logs.items()}
    report = Report(plan, asked.num_rows, counted, served.rejected, {}, [])
    found = Comparison(plan, sides, values[2], served.ahead)
    found.judge(Truth(plan, logs, flips, served.restarts, asked.take(pa.array(found.rows))))
    for name in plan.fingerprints():
        report.features[name] = found.feature(name)
        report.defects += found.defects(name, asked)
    return report


class Comparison:
    """Compares cells side by side, and asks the oracle about those that differ between the engines.

    Parameters
    ----------
    sides
        What was served, what the backfill knew at the probe, and all there is.
    punctual
        What the backfill knew, had nothing been in flight.
    ahead
        For each view (n,): whether the tile of the instant had only versions with later events.

    Attributes
    ----------
    rows
        (r,) the probes that the oracle is asked about: where what was served is not what was known, and a sample.
    """

    def __init__(
        self, plan: SetPlan, sides: Mapping[Side, pa.Table], punctual: pa.Table, ahead: Mapping[str, Bools]
    ) -> None:
        self.plan = plan
        self.sides = sides
        self.punctual = punctual
        self.ahead = ahead
        n = sides["served"].num_rows
        self.same = {name: same_cells(sides["served"][name], sides["as_known"][name]) for name in plan.fingerprints()}
        self.sample = np.zeros(n, np.bool_)
        self.sample[np.linspace(0, n - 1, min(AUDITED, n)).astype(np.int64)] = True
        self.rows = np.flatnonzero(self.sample | ~np.logical_and.reduce(list(self.same.values())))
        self.found: dict[str, dict[int, Defect]] = {}

    def judge(self, truth: Truth) -> None:
        """Find the cells that arrival does not explain; `truth` is of the probes `rows`."""
        audited = {side: table.take(pa.array(self.rows)) for side, table in self.sides.items()}
        for name in self.plan.fingerprints():
            self.found[name] = {}
            cells = {side: python_values(audited[side][name]) for side in SIDES}
            for place in np.flatnonzero(self.sample[self.rows] | ~self.same[name][self.rows]).tolist():
                for side in SIDES:
                    given, wanted = cells[side][place], truth.value(place, side, name)
                    if not same_value(given, wanted):
                        cause = self.cause(truth, place, side, name, given)
                        self.found[name][int(self.rows[place])] = Defect(
                            name, cause, side, int(self.rows[place]), {}, given, wanted
                        )
                        break

    def cause(self, truth: Truth, place: int, side: Side, name: str, given: Any) -> str:
        """Return why a cell is wrong; a derived feature has the cause of the first wrong one that it is made of."""
        if name not in truth.derived:
            return truth.cause(place, side, name, given)
        row = int(self.rows[place])
        inputs = [self.found[each].get(row) for each in inputs_of(truth.derived[name])]
        return next((each.cause for each in inputs if each is not None), "engine")

    def feature(self, name: str) -> FeatureParity:
        """Return one feature's cells by cause."""
        equal = same_cells(self.sides["served"][name], self.sides["ideal"][name])
        late = ~same_cells(self.punctual[name], self.sides["ideal"][name])
        known = same_cells(self.sides["as_known"][name], self.sides["ideal"][name])
        ahead = self.ahead.get(name.partition(".")[0], np.zeros(len(equal), np.bool_))
        sound = np.ones(len(equal), np.bool_)
        sound[list(self.found[name])] = False
        causes = Counter(each.cause for each in self.found[name].values())
        explained = sound & ~equal
        tally(causes, "late", explained & ~known & late)
        tally(causes, "in_flight", explained & ~known & ~late)
        tally(causes, "ahead", explained & known & ahead)
        tally(causes, "behind", explained & known & ~ahead)
        return FeatureParity(len(equal), int((sound & equal).sum()), causes, len(self.found[name]))

    def defects(self, name: str, asked: pa.Table) -> list[Defect]:
        """Return a few of a feature's defects, with their probes."""
        few = list(self.found[name].items())[:MOST_DEFECTS]
        return [replace(each, probe=asked.slice(row, 1).to_pylist()[0]) for row, each in few]


def tally(causes: Counter[str], cause: str, rows: Bools) -> None:
    """Count the rows under a cause, if there are any."""
    if rows.any():
        causes[cause] += int(rows.sum())
