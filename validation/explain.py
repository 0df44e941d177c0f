"""What a cell should be: the oracle over the events that were in the tiles read, were known, or are there at all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unskew.pipelines.backends import oracle
from unskew.pipelines.encoding import encode_row
from unskew.pipelines.plan import FeaturePlan, SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.states import LISTS
from unskew.pipelines.timegrid import DAY, HOUR
from unskew.validation.diagnose import Case, diagnose
from unskew.validation.log import SEQUENCE, Log
from unskew.validation.probes import Flip

Key = tuple[Any, ...]
Events = list[oracle.Event]
Side = Literal["served", "as_known", "ideal"]
SIDES: tuple[Side, ...] = ("served", "as_known", "ideal")
TILES = -1  # the field of a view's tiles
Restarts = Mapping[tuple[str, int], Mapping[Key, int]]  # (view, field) -> (key, tile, value) -> position


class Copy(NamedTuple):
    """An event: whether it is the first copy of its identity, and when one came that amends it, ms; None: never."""

    event: oracle.Event
    first: bool
    amended: int | None = None


@dataclass
class Entity:
    """An entity's sound events in order of arrival, and their event times."""

    copies: list[Copy] = field(default_factory=list)
    ts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def within(self, lo: int, hi: int) -> list[Copy]:
        """Return those with ``lo <= ts < hi``, in order of arrival."""
        return [self.copies[each] for each in np.flatnonzero((self.ts >= lo) & (self.ts < hi))]


@dataclass(frozen=True)
class Facts:
    """One probe in one view: which events count on each side, and which would under broken rules."""

    t: int
    key: Key
    asof: int
    end: int
    by_side: Mapping[Side, Events]
    wrong: Mapping[Side, Mapping[str, Sequence[Events]]]


class Truth:
    """Values and causes by the oracle (design section 9).

    Parameters
    ----------
    plan, logs, flips
        The run.
    restarts
        Tiles that the job started again, by view and field (-1: tiles), and the position from which on.
    probes
        The probes in question: only their entities' events are kept.
    """

    def __init__(
        self, plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], restarts: Restarts, probes: pa.Table
    ) -> None:
        self.plan = plan
        self.logs = logs
        self.flips = flips
        self.restarts = restarts
        self.rows = probes.to_pylist()
        self.entities = {
            view.name: entity_events(view, logs[view.source], keys_of(view, probes)) for view in plan.reads
        }
        self.features = {each.name: (view, each) for view in plan.reads for each in view.features}
        self.derived = {each.name: each.expression for each in plan.derived}
        self.request = {each.name: each for each in plan.request}
        self.facts: dict[tuple[int, str], Facts] = {}
        self.values: dict[tuple[int, Side, str], oracle.Result] = {}

    def value(self, row: int, side: Side, name: str) -> oracle.Result:
        """Return what a cell should be: over the events of the tiles read, those known, or all."""
        key = (row, side, name)
        if key not in self.values:
            self.values[key] = self.compute(row, side, name)
        return self.values[key]

    def compute(self, row: int, side: Side, name: str) -> oracle.Result:
        """Compute a cell."""
        if name in self.derived:
            inputs = {each: self.value(row, side, each) for each in inputs_of(self.derived[name])}
            value: oracle.Result = oracle.derived_value(
                self.derived[name], inputs, encode_row(self.request, self.rows[row])
            )
            return value
        case = self.case(row, side, name)
        return case.value(case.events)

    def case(self, row: int, side: Side, name: str) -> Case:
        """Return a cell with what the broken rules need."""
        view, feature = self.features[name]
        facts = self.facts.get((row, view.name)) or self.find(row, view)
        self.facts[row, view.name] = facts
        wrong = dict(facts.wrong[side])
        events = facts.by_side[side]
        if side == "served":
            wrong["expired_state"] = expired(view, feature, facts, self.restarts)
            wrong = {
                cause: [of_head(view, feature, each, facts, facts.t) for each in lists]
                for cause, lists in wrong.items()
            }
            wrong["boundary"] = misread(view, feature, facts)
            events = of_head(view, feature, events, facts, facts.t)
        return Case(view, feature, facts.t, events, facts.end, wrong)

    def find(self, row: int, view: ViewPlan) -> Facts:
        """Work out which events count at a probe."""
        probe, log = self.rows[row], self.logs[view.source]
        t, asof, key = probe["t"], probe["asof"], tuple(probe[each.name] for each in view.spine_keys)
        oldest = min(each.window.tail(t) for each in view.features)
        own = self.entities[view.name].get(key, Entity()).within(oldest - DAY, t + DAY)
        counted = [each for each in own if each.first or log.source.amended]
        firsts = [each._replace(first=True, amended=None) for each in own if each.first]
        read = [Upload(log.source.batch_end(each.cut), each.cut) for each in self.flips if each.position <= asof]
        copies = [each._replace(first=True, amended=None) for each in own]
        by_side: dict[Side, Events] = {
            "served": in_tiles(counted, read[-1], asof),
            "as_known": known(counted, read, asof),
            "ideal": [each.event for each in counted if each.amended is None],
        }
        wrong: dict[Side, dict[str, Sequence[Events]]] = {
            "served": {
                "duplicate": [in_tiles(copies, read[-1], asof)],
                "lateness": [
                    in_tiles(counted, read[-1], asof, late=True),
                    [each for each in by_side["served"] if not each.late],
                ],
                "stale_batch": stale(counted, read, asof),
            },
            "as_known": {
                "duplicate": [known(copies, read, asof)],
                "lateness": [
                    [each.event for each in firsts if each.event.position <= asof],
                    [each for each in by_side["as_known"] if not each.late],
                ],
            },
            "ideal": {
                "duplicate": [[each.event for each in copies]],
                "lateness": [[each.event for each in firsts if not each.event.late]],
            },
        }
        return Facts(t, key, asof, read[-1].end, by_side, wrong)

    def cause(self, row: int, side: Side, name: str, given: Any) -> str:
        """Return the defect behind a wrong cell of a feature that is not derived."""
        return diagnose(self.case(row, side, name), given, same_value)


class Upload(NamedTuple):
    """An upload: where its tiles end, and what it holds by arrival, ms, both exclusive."""

    end: int
    cut: int


def in_tiles(copies: Sequence[Copy], upload: Upload, asof: int, *, late: bool = False) -> Events:
    """Return which events the upload or the stream had put into tiles; `late`: had the stream applied late ones."""
    return [
        each.event
        for each in copies
        if (
            held(each, upload.cut)
            if each.event.ts < upload.end
            else each.first and (late or not each.event.late) and each.event.position <= asof
        )
    ]


def held(copy: Copy, cut: int) -> bool:
    """Return whether an upload of that cut (ms) holds a copy: it had arrived, and none that amends it."""
    return copy.event.arrival < cut and (copy.amended is None or copy.amended >= cut)


def known(copies: Sequence[Copy], uploads: Sequence[Upload], asof: int) -> Events:
    """Return which events serving could have known: late ones and amendments by an upload, others once they were read."""
    found = []
    for each in copies:
        cut = max((upload.cut for upload in uploads if each.event.ts < upload.end), default=-(2**62))
        if each.amended is not None and each.amended < cut:
            continue
        if each.event.position <= asof if each.first and not each.event.late else each.event.arrival < cut:
            found.append(each.event)
    return found


def stale(copies: Sequence[Copy], uploads: Sequence[Upload], asof: int) -> list[Events]:
    """Return what tiles held had the last upload not been read: not at all, or only its records not."""
    last = uploads[-1]
    before = uploads[-2] if len(uploads) > 1 else Upload(last.end, -(2**62))
    old = [each.event for each in copies if each.event.ts < before.end and held(each, before.cut)]
    return [
        in_tiles(copies, before, asof),
        old + [each for each in in_tiles(copies, last, asof) if each.ts >= last.end],
    ]


def expired(view: ViewPlan, feature: FeaturePlan, facts: Facts, restarts: Restarts) -> list[Events]:
    """Return what tiles held that the job started again: up to there (the guard refused more), or only from there on."""
    at = feature.fields[0] if view.fields[feature.fields[0]].kind == "multiset" else TILES
    found = restarts.get((view.stored, at), {})
    if not found:
        return []
    begins = {}
    for each in facts.by_side["served"]:
        tile: Key = (*facts.key, each.ts - each.ts % view.hop)
        tile = tile if at == TILES else (*tile, oracle.lifted(view.fields[at].lift, each.cells))
        position = found.get(tile, facts.asof + 1)
        if each.ts >= facts.end and position <= facts.asof:
            begins[each.position] = position
    events = facts.by_side["served"]
    return [
        [each for each in events if each.position < begins.get(each.position, each.position + 1)],
        [each for each in events if each.position >= begins.get(each.position, each.position)],
    ]


def inputs_of(expression: Sequence[Any]) -> list[str]:
    """Return the features that a derived feature is made of."""
    if expression[0] == "feature":
        return [expression[1]]
    return [name for each in expression[1:] if isinstance(each, Sequence) and each for name in inputs_of(each)]


def misread(view: ViewPlan, feature: FeaturePlan, facts: Facts) -> list[Events]:
    """Return what tiles held had the read taken the version of `t` itself, or were the tiles coarser."""
    held, t = facts.by_side["served"], facts.t
    included = of_head(view, feature, held, facts, t + 1)
    coarse = [
        [replace(each, ts=each.ts - each.ts % hop) if each.ts >= facts.end else each for each in held]
        for hop in (HOUR, DAY)
        if hop > view.hop
    ]
    return [[replace(each, ts=t - 1) if each.ts == t else each for each in included], *coarse]


def of_head(view: ViewPlan, feature: FeaturePlan, held: Sequence[oracle.Event], facts: Facts, t: int) -> Events:
    """Leave out what the chosen version of the head tile lacks: from the first event at or after `t` on.

    Rows of lists carry their own event time, so they lack nothing; rows of multisets are versioned by value.
    """
    field = view.fields[feature.fields[0]]
    start = facts.t - facts.t % view.hop
    if field.kind in LISTS:
        return list(held)
    found, stopped = [], set()
    for each in held:
        if each.ts < facts.end or not start <= each.ts < start + view.hop:
            found.append(each)
            continue
        row = oracle.lifted(field.lift, each.cells) if field.kind == "multiset" else None
        if each.ts >= t:
            stopped.add(row)
        if row not in stopped:
            found.append(each)
    return found


def keys_of(view: ViewPlan, probes: pa.Table) -> set[Key]:
    """Return the probes' entities of a view."""
    return set(zip(*(probes[each.name].to_pylist() for each in view.spine_keys), strict=True))


def of_entities(view: ViewPlan, log: Log, keys: Set[Key]) -> NDArray[np.bool_]:
    """Return which rows of a log are of the entities, or copies of such."""
    mask = of_keys(view, log.table, keys)
    return with_copies(log.table[log.source.event_id[0]], mask) if log.source.event_id else mask


def of_keys(view: ViewPlan, table: pa.Table, keys: Set[Key]) -> NDArray[np.bool_]:
    """Return which rows have in each key column a value that one of the keys has there."""
    mask = np.ones(table.num_rows, np.bool_)
    for index, each in enumerate(view.keys):
        cells = table[each.name]
        mask &= among(cells, pa.array({key[index] for key in keys}, cells.type))
    return mask


def entity_events(view: ViewPlan, log: Log, asked: Set[Key]) -> dict[Key, Entity]:
    """Return the sound events of the entities asked for, by entity."""
    keys = [each.name for each in view.keys]
    rows = oracle_rows(log.source, log.table.filter(pa.array(of_entities(view, log, asked))))
    examined = [oracle.examine(log.source, row[SEQUENCE], row) for row in rows]
    firsts = oracle.first_copies(log.source, examined)
    following = oracle.next_copies(examined) if log.source.amended else {}
    found: dict[Key, Entity] = defaultdict(Entity)
    for event in examined:
        if isinstance(event, oracle.Event) and not oracle.deletes(log.source, event):
            amended = following[event.position].arrival if event.position in following else None
            copy = Copy(event, event.position in firsts, amended)
            found[tuple(event.cells[name] for name in keys)].copies.append(copy)
    for each in found.values():
        each.ts = np.array([copy.event.ts for copy in each.copies], np.int64)
    return {key: each for key, each in found.items() if None not in key}


def with_copies(ids: pa.ChunkedArray, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of events, and of all that have the id of one of them: a copy may be of another entity."""
    return mask | among(ids, pc.unique(ids.filter(pa.array(mask))))


def among(column: pa.ChunkedArray, values: pa.Array) -> NDArray[np.bool_]:
    """Return which cells are among the values; null never is."""
    found: NDArray[np.bool_] = pc.is_in(column, value_set=values.drop_null()).to_numpy(zero_copy_only=False)
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
