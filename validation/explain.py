"""Why a served cell differs: the oracle over exactly the events that the tiles read had in them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from unskew.backfill.upload import batch_end
from unskew.pipelines.backends import oracle
from unskew.pipelines.encoding import encode_row
from unskew.pipelines.plan import FeaturePlan, SetPlan, SourcePlan, ViewPlan
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
        flip = max(each for each in range(len(self.flips)) if self.flips[each].position <= probe["asof"])
        values: dict[str, oracle.Result] = {}
        for view in self.plan.views:
            values |= self.view_features(view, probe, self.flips[flip])
        request = encode_row({each.name: each for each in self.plan.request}, probe)
        return values | {
            each.name: oracle.derived_value(each.expression, values, request) for each in self.plan.derived
        }

    def view_features(self, view: ViewPlan, probe: Mapping[str, Any], flip: Flip) -> dict[str, oracle.Result]:
        """Return a view's features of a probe."""
        log, t = self.logs[view.source], probe["t"]
        end = batch_end(log.source, flip.cut)
        own = self.events[view.name].get(tuple(probe[each.name] for each in view.keys), [])
        held = [each for each in own if in_tiles(each, end, flip.cut, probe["asof"])]
        found: dict[str, oracle.Result] = {}
        for each in view.features:
            found[each.name] = oracle.feature_value(view, each, self.of_head(view, each, held, t, end), t)
        return found

    def of_head(
        self, view: ViewPlan, feature: FeaturePlan, held: list[oracle.Event], t: int, end: int
    ) -> list[oracle.Event]:
        """Leave out what the chosen version of the head tile lacks: from the first event at or after `t` on.

        Rows of lists carry their own event time, so they lack nothing; rows of multisets are versioned by value.
        """
        field = view.fields[feature.fields[0]]
        start = t - t % view.hop
        if field.kind == "list":
            return held
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


def entity_events(view: ViewPlan, log: Log, probes: pa.Table) -> dict[Key, list[oracle.Event]]:
    """Return the first copies of the events of the probes' entities, by entity, in order of arrival."""
    keys = [each.name for each in view.keys]
    wanted = {tuple(cells) for cells in zip(*(probes[name].to_pylist() for name in keys), strict=True)}
    mask = np.ones(log.table.num_rows, np.bool_)
    for index, name in enumerate(keys):
        values = pa.array(list({each[index] for each in wanted}), log.table.schema.field(name).type)
        mask &= pa.compute.is_in(log.table[name], value_set=values).to_numpy(zero_copy_only=False)
    table = log.table.filter(pa.array(mask))
    found: dict[Key, list[oracle.Event]] = defaultdict(list)
    for event in first_copies(log.source, oracle_rows(log.source, table)):
        key = tuple(event.cells[name] for name in keys)
        if key in wanted:
            found[key].append(event)
    return found


def first_copies(source: SourcePlan, rows: Sequence[dict[str, Any]]) -> list[oracle.Event]:
    """Return the first copy of each identity, by sequence; the events' position is the sequence."""
    examined = [oracle.examine(source, row[SEQUENCE], row) for row in rows]
    found = oracle.first_copies(source, examined)
    return [found[each] for each in sorted(found)]


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
