"""Parity: proves that the online read equals the backfill, cell by cell, and says why where it does not.

``served - ideal = (served - of_tiles_read) + (of_tiles_read - as_known) + (as_known - ideal)`` (design section
9). The first part must be zero for every cell; the other two are what arrival explains.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unskew.backfill.training import backfill
from unskew.backfill.upload import batch_end
from unskew.pipelines.backends.beam import Flip as KnownFlip
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan as compile_plan
from unskew.validation.compare import Bools, same_cells
from unskew.validation.explain import TilesRead, same_value
from unskew.validation.log import SEQUENCE, Log, read_logs
from unskew.validation.probes import Flip, choose_probes, plan_uploads
from unskew.validation.served import Progress, Served, replay, run_engines

PROBES = 10_000
PHYSICS = ("late", "in_flight", "ahead", "behind")


@dataclass(frozen=True)
class Defect:
    """A cell that arrival does not explain."""

    feature: str
    cause: str
    probe: dict[str, Any]
    served: Any
    expected: Any


@dataclass
class FeatureParity:
    """One feature's cells: compared, equal to the ideal, and the others by cause."""

    cells: int = 0
    equal: int = 0
    causes: Counter[str] = field(default_factory=Counter)


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
        At most `MOST_DEFECTS` of the cells that arrival does not explain.
    """

    plan: SetPlan
    probes: int
    events: dict[str, int]
    rejected: int
    features: dict[str, FeatureParity]
    defects: list[Defect]

    @property
    def causes(self) -> Counter[str]:
        """All unequal cells by cause."""
        return sum((each.causes for each in self.features.values()), Counter())

    @property
    def unexplained(self) -> int:
        """Cells whose difference arrival does not explain."""
        return sum(count for cause, count in self.causes.items() if cause not in PHYSICS)

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


MOST_DEFECTS = 20


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
    return compare(plan, logs, flips, asked, served, values)


def compare(
    plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], asked: pa.Table, served: Served,
    values: tuple[pa.Table, pa.Table, pa.Table],
) -> Report:  # fmt: skip
    """Compare what was served with the backfills, as `backfills` returns them."""
    ideal, known, punctual = values
    report = Report(
        plan, asked.num_rows, {name: each.table.num_rows for name, each in logs.items()}, served.rejected, {}, []
    )
    tiles = Comparison(plan, logs, flips, asked, served, known)
    for name in plan.fingerprints():
        report.features[name] = tiles.feature(name, ideal[name], punctual[name], report.defects)
    return report


def backfills(
    plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], probes: pa.Table
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return features over all events, over those known at each probe, and over those known had none been in flight."""
    events = {name: each.table for name, each in logs.items()}
    known = [
        KnownFlip(each.cut, batch_end(log.source, each.cut), each.position, name)
        for name, log in logs.items()
        for each in flips
    ]
    ideal = backfill(plan, events, probes)
    as_known = backfill(plan, events, probes, as_of="position", sequence=SEQUENCE, flips=known)
    at_once = {
        name: each.table.set_column(
            each.table.column_names.index(SEQUENCE), SEQUENCE, pa.array(np.zeros(each.table.num_rows, np.int64))
        )
        for name, each in logs.items()
    }
    punctual = backfill(plan, at_once, probes, as_of="position", sequence=SEQUENCE, flips=known)
    return ideal, as_known, punctual


class Comparison:
    """Compares served cells with what was known, and asks the oracle about those that differ."""

    def __init__(
        self,
        plan: SetPlan,
        logs: Mapping[str, Log],
        flips: Sequence[Flip],
        probes: pa.Table,
        served: pa.Table,
        known: pa.Table,
    ) -> None:
        self.plan = plan
        self.probes = probes
        self.served = served.table
        self.ahead = served.ahead
        self.known = known
        self.same = {name: same_cells(self.served[name], known[name]) for name in plan.fingerprints()}
        self.rows = np.flatnonzero(~np.logical_and.reduce(list(self.same.values())))
        self.tiles = TilesRead(plan, logs, flips, probes.take(pa.array(self.rows)))
        self.places = {int(row): place for place, row in enumerate(self.rows)}
        self.expected = {row: self.tiles.features(place) for row, place in self.places.items()}

    def feature(
        self, name: str, ideal: pa.ChunkedArray, punctual: pa.ChunkedArray, defects: list[Defect]
    ) -> FeatureParity:
        """Return one feature's cells by cause; cells that arrival does not explain go to `defects`."""
        equal = same_cells(self.served[name], ideal)
        found = FeatureParity(len(equal), 0)
        bad = self.unexplained(name, defects)
        found.causes.update(cause for cause in bad.values())
        explained = ~equal
        explained[list(bad)] = False
        found.equal = int(equal.sum()) - sum(bool(equal[row]) for row in bad)
        known_ideal = same_cells(self.known[name], ideal)
        late = ~same_cells(punctual, ideal)
        tally(found.causes, "late", explained & ~known_ideal & late)
        tally(found.causes, "in_flight", explained & ~known_ideal & ~late)
        ahead = self.ahead.get(name.partition(".")[0], np.zeros(len(equal), np.bool_))
        tally(found.causes, "ahead", explained & known_ideal & ahead)
        tally(found.causes, "behind", explained & known_ideal & ~ahead)
        return found

    def unexplained(self, name: str, defects: list[Defect]) -> dict[int, str]:
        """Return the rows whose served cell is not what the tiles read hold, with the cause."""
        found = {}
        cells = self.served[name]
        kind = cells.type
        for row in np.flatnonzero(~self.same[name]):
            wanted, given = self.expected[int(row)][name], python_value(cells[int(row)], kind)
            if same_value(given, wanted):
                continue
            found[int(row)] = self.tiles.cause(self.places[int(row)], name, given)
            if len(defects) < MOST_DEFECTS:
                probe = {key: self.probes[key][int(row)].as_py() for key in self.probes.column_names}
                defects.append(Defect(name, found[int(row)], probe, given, wanted))
        return found


def tally(causes: Counter[str], cause: str, rows: Bools) -> None:
    """Count the rows under a cause, if there are any."""
    if rows.any():
        causes[cause] += int(rows.sum())


def python_value(cell: pa.Scalar, kind: pa.DataType) -> Any:
    """Return a cell as the oracle gives it: instants as ms."""
    if pa.types.is_timestamp(kind):
        return cell.cast(pa.int64()).as_py()
    if pa.types.is_list(kind) and pa.types.is_timestamp(kind.value_type):
        return cell.cast(pa.list_(pa.int64())).as_py()
    return cell.as_py()
