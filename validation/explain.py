"""Why a served cell differs: the oracle over exactly the events that the tiles read had in them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unskew.backfill.upload import batch_end
from unskew.pipelines.backends import oracle
from unskew.pipelines.encoding import encode_row
from unskew.pipelines.plan import FeaturePlan, SetPlan, SourcePlan, ViewPlan
from unskew.validation.diagnose import Case, diagnose
from unskew.validation.log import SEQUENCE, Log
from unskew.validation.probes import Flip

Key = tuple[Any, ...]


class TilesRead:
    """Values over the events that the tiles read at a probe had in them (design section 9), by the oracle.

    Parameters
    ----------
    plan, logs, flips
        The run.
    probes
        The probes in question: only their entities' events are kept.
    """

    def __init__(self, plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], probes: pa.Table) -> None:
        self.plan = plan
        self.logs = logs
        self.flips = flips
        self.rows = {row: each for row, each in enumerate(probes.to_pylist())}
        self.events = {view.name: entity_events(view, logs[view.source], probes) for view in plan.views}

    def features(self, row: int) -> dict[str, oracle.Result]:
        """Return all features of a probe, derived ones included."""
        probe = self.rows[row]
        values = {each.name: self.case(row, view, each) for view in self.plan.views for each in view.features}
        found = {name: case.value(case.held) for name, case in values.items()}
        request = encode_row({each.name: each for each in self.plan.request}, probe)
        return found | {each.name: oracle.derived_value(each.expression, found, request) for each in self.plan.derived}

    def case(self, row: int, view: ViewPlan, feature: FeaturePlan) -> Case:
        """Return one cell with the events that its tiles held, and those that broken rules would add."""
        probe = self.rows[row]
        t, asof, log = probe["t"], probe["asof"], self.logs[view.source]
        own = self.events[view.name].get(tuple(probe[each.name] for each in view.keys), [])
        newest = max(each for each in range(len(self.flips)) if self.flips[each].position <= asof)
        ends = [(batch_end(log.source, each.cut), each.cut) for each in self.flips[: newest + 1]]
        firsts = [each.event for each in own if each.first]
        held = [each for each in firsts if in_tiles(each, *ends[-1], asof)]
        stale = [each for each in firsts if in_tiles(each, *ends[max(newest - 1, 0)], asof)]
        late = [each for each in firsts if each.position <= asof]
        copies = [each.event for each in own if in_tiles(each.event, *ends[-1], asof)]
        return Case(
            view, feature, t, *(of_head(view, feature, each, t, ends[-1][0]) for each in (held, copies, late, stale))
        )

    def cause(self, row: int, name: str, served: Any) -> str:
        """Return the defect behind a served cell."""
        for view in self.plan.views:
            for each in view.features:
                if each.name == name:
                    return diagnose(self.case(row, view, each), served, same_value)
        return "engine"


def of_head(view: ViewPlan, feature: FeaturePlan, held: Sequence[oracle.Event], t: int, end: int) -> list[oracle.Event]:
    """Leave out what the chosen version of the head tile lacks: from the first event at or after `t` on.

    Rows of lists carry their own event time, so they lack nothing; rows of multisets are versioned by value.
    """
    field = view.fields[feature.fields[0]]
    start = t - t % view.hop
    if field.kind == "list":
        return list(held)
    found, stopped = [], set()
    for each in held:
        if each.ts < end or not start <= each.ts < start + view.hop:
            found.append(each)
            continue
        row = oracle.lifted(field.lift, each.cells) if field.kind == "multiset" else None
        if each.ts >= t:
            stopped.add(row)
        if row not in stopped:
            found.append(each)
    return found


def in_tiles(event: oracle.Event, end: int, cut: int, asof: int) -> bool:
    """Return whether an upload or the stream had put a first copy into a tile."""
    if event.ts < end:
        return event.arrival < cut
    return not event.late and event.position <= asof


class Copy(NamedTuple):
    """An event, and whether it is the first copy of its identity."""

    event: oracle.Event
    first: bool


def entity_events(view: ViewPlan, log: Log, probes: pa.Table) -> dict[Key, list[Copy]]:
    """Return the sound events of the probes' entities, by entity, in order of arrival."""
    keys = [each.name for each in view.keys]
    wanted = {tuple(cells) for cells in zip(*(probes[name].to_pylist() for name in keys), strict=True)}
    mask = np.ones(log.table.num_rows, np.bool_)
    for index, name in enumerate(keys):
        mask &= member(log.table[name], [each[index] for each in wanted])
    if log.source.event_id:  # a first copy may be of another entity
        ids = log.table[log.source.event_id[0]]
        mask |= member(ids, ids.filter(pa.array(mask)).to_pylist())
    rows = oracle_rows(log.source, log.table.filter(pa.array(mask)))
    examined = [oracle.examine(log.source, row[SEQUENCE], row) for row in rows]
    firsts = oracle.first_copies(log.source, examined)
    found: dict[Key, list[Copy]] = defaultdict(list)
    for event in examined:
        if isinstance(event, oracle.Event):
            found[tuple(event.cells[name] for name in keys)].append(Copy(event, event.position in firsts))
    return found


def member(column: pa.ChunkedArray, values: Sequence[Any]) -> NDArray[np.bool_]:
    """Return which cells are among the values; null never is."""
    known = pa.array({each for each in values if each is not None}, column.type)
    found: NDArray[np.bool_] = pc.is_in(column, value_set=known).to_numpy(zero_copy_only=False)
    return found


def oracle_rows(source: SourcePlan, table: pa.Table) -> list[dict[str, Any]]:
    """Return raw rows as the oracle takes them: instants as ms, whole numbers as int, numbers of a float column as float."""
    columns: dict[str, list[Any]] = {SEQUENCE: table[SEQUENCE].to_pylist()}
    for each in source.columns:
        column = table[each.name]
        if pa.types.is_timestamp(column.type):
            step = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}[column.type.unit]
            columns[each.name] = [
                None if cell is None else cell * step // 1_000_000 for cell in column.cast(pa.int64()).to_pylist()
            ]
        elif each.type.kind == "float" and pa.types.is_integer(column.type):
            columns[each.name] = column.cast(pa.float64()).to_pylist()
        elif each.type.kind == "bool" and pa.types.is_integer(column.type):
            columns[each.name] = [bool(cell) if cell in (0, 1) else cell for cell in column.to_pylist()]
        else:
            columns[each.name] = column.to_pylist()
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def same_value(left: Any, right: Any) -> bool:
    """Return whether two Python values are the same bits."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same_value(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return type(left) is type(right) and bool(left == right)
