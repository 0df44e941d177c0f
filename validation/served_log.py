"""Parity of what was really served: every logged row against the archive (design section 9).

A row says which rows of tiles its read took, by count and set hash. Here the events behind them are found in the archive,
the hash confirms them, and the oracle computes over just these what should have been served: bit by bit the first part of a
difference. The second and third part compare with what had arrived, and with all there is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq

from unskew.pipelines.archive import COMMITS, cut_of, read_current
from unskew.pipelines.backends import oracle
from unskew.pipelines.backends.flink_identity import identity_hash
from unskew.pipelines.errors import InputError
from unskew.pipelines.folders import parquet_files
from unskew.pipelines.plan import FeaturePlan, SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.records import field_prints
from unskew.pipelines.states import LISTS
from unskew.validation.explain import Entity, Key, Upload, entity_events, held, inputs_of, known, same_value
from unskew.validation.log import Ints
from unskew.validation.parity import MOST_DEFECTS, Defect, FeatureParity, Report
from unskew.validation.served_archive import Archive, read_archive

MOST_WAYS = 200_000  # in which a tile's events may be parted over partitions; past it they are not tried
MOST_MISSING, NEAR = 6, 16  # of the events that arrived, how many may be missing, and how far from the last
UNCONFIRMED = "unconfirmed"
ANSWERED = 6_000  # ms after the instant that a row was asked for by which it was read, if that was its own now


@dataclass
class Tile:
    """The candidates of one tile: events that the stream applied, in order of arrival, with their hashes."""

    events: list[oracle.Event] = field(default_factory=list)
    hashes: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an archived served log.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        for each in parquet_files(path):
            table = read_current(each, lambda own: pq.read_table(own, columns=["content"], partitioning=None))
            yield from map(orjson.loads, table["content"].to_pylist())
    except (OSError, ValueError, KeyError) as error:
        message = f"served log `{path}` cannot be read: {str(error).splitlines()[0]}; give the folder of `unskew archive --served`"
        raise InputError(message) from error


def cut_of_all(archives: Iterable[Path]) -> int | None:
    """Return up to when all archives are complete by arrival, ms; None where none of them has commits.

    Raises
    ------
    InputError
        If one has nothing of some partition.
    """
    return min((cut_of(each) for each in archives if (each / COMMITS).is_dir()), default=None)


def check_served(plan: SetPlan, rows: Iterable[Mapping[str, Any]], events: Mapping[str, Any]) -> Report:
    """Compare served rows with the archive.

    Parameters
    ----------
    plan
        The definitions that were served.
    rows
        As `unskew.online.served_rows` writes them.
    events
        For each source its archive; where it has ``_partition`` and ``_offset``, they order what arrived at once.

    Raises
    ------
    InputError
        If a row is of other definitions, or events cannot be read.
    """
    given = list(rows)
    for each in given:
        if each.get("fingerprint") != plan.fingerprint:
            message = f"a served row is of set `{each.get('set')}` with other definitions; check it with those"
            raise InputError(message)
    keys = {view.name: {key_of(view, each) for each in given} for view in plan.reads}
    archives = {
        source.name: read_archive(
            source, events[source.name], [(each, keys[each.name]) for each in plan.reads if each.source == source.name]
        )
        for source in plan.sources
    }
    report = Report(plan, len(given), {name: each.rows for name, each in archives.items()}, 0, {}, [])
    judges = {view.name: ViewJudge(view, archives[view.source], keys[view.name]) for view in plan.reads}
    tally = Tally(report)
    for row in given:
        tally.add(row, judge_row(plan, row, judges))
    return report


def key_of(view: ViewPlan, row: Mapping[str, Any]) -> Key:
    """Return the entity of a view that a row was asked for."""
    return tuple(row["row"][each.name] for each in view.spine_keys)


@dataclass(frozen=True)
class Judged:
    """What one feature of one row should have been on each side; `confirmed` is whether the hashes fit."""

    served: Any
    as_known: Any
    ideal: Any
    late: bool
    confirmed: bool = True


class ViewJudge:
    """Finds the events behind what was served of one view."""

    def __init__(self, view: ViewPlan, archive: Archive, keys: Set[Key]) -> None:
        self.view, self.archive = view, archive
        self.source = archive.log.source
        self.entities = entity_events(view, archive.log, keys)
        self.prints = field_prints(view.fields)
        self.tiles: dict[tuple[Key, int], Tile] = {}

    def judge(self, row: Mapping[str, Any]) -> dict[str, Judged]:
        """Return what each feature of a row should have been."""
        key = key_of(self.view, row)
        entity = self.entities.get(key, Entity())
        _, _, cut, end = row["sources"][self.view.source]
        at, sections = row["at"], row["views"][self.view.name]
        copies = [each for each in entity.copies if each.first or self.source.amended]
        asof = int(np.searchsorted(self.archive.log.arrival, at, side="right")) - 1
        closed = [each.event for each in copies if each.event.ts < end and held(each, cut)]
        arrived = known(copies, [Upload(end, cut)], asof)
        every = [each.event for each in copies if each.amended is None]
        punctual = [each for each in every if not each.late or each.ts < end]
        tiles, confirmed = self.of_tiles(key, entity, sections.get("tiles", []))
        found = {}
        for feature in self.view.features:
            opened = self.opened(feature, sections, tiles, entity, end)
            values = self.values(feature, (closed + opened, arrived, every, punctual), at)
            late = not same_value(values[3], values[2])
            found[feature.name] = Judged(values[0], values[1], values[2], late, confirmed)
        return found

    def values(self, feature: FeaturePlan, sides: Iterable[Sequence[oracle.Event]], at: int) -> list[Any]:
        """Return the oracle's value of each side; sides with the same events in the window have one."""
        known: dict[tuple[int, ...], Any] = {}
        found = []
        for events in sides:
            inside = oracle.inside(feature, events, at)
            same = tuple(sorted(each.position for each in inside))
            if same not in known:
                known[same] = oracle.feature_value(self.view, feature, inside, at)
            found.append(known[same])
        return found

    def opened(
        self, feature: FeaturePlan, sections: Mapping[str, Any], tiles: Sequence[oracle.Event], entity: Entity, end: int
    ) -> list[oracle.Event]:
        """Return the events that the stream's rows, of the kind that the feature reads, were made of."""
        place = feature.fields[0]
        state = self.view.fields[place]
        if state.kind in LISTS:
            wanted = Counter(tuple(each) for each in sections.get(f"entries:{self.prints[place]}", []))
            return [each for each in applied(entity, end) if taken(wanted, self.entry(each))]
        if state.kind != "multiset":
            return list(tiles)
        left = Counter({(start, value): n for start, value, n in sections.get(f"values:{self.prints[place]}", [])})
        found = []
        for each in applied(entity, end):
            if taken(left, (each.ts - each.ts % self.view.hop, oracle.lifted(state.lift, each.cells))):
                found.append(each)
        return found

    def entry(self, event: oracle.Event) -> tuple[Any, ...]:
        """Return what a list's entry of an event is logged as."""
        return (event.ts, *(event.cells[each] for each in self.source.event_id))

    def of_tiles(self, key: Key, entity: Entity, rows: Sequence[Sequence[int]]) -> tuple[list[oracle.Event], bool]:
        """Return the events of the tile rows that were read, and whether every hash fits."""
        found: list[oracle.Event] = []
        confirmed = True
        for start, n, set_hash, _ in rows:
            tile = self.tile(key, entity, start)
            chosen = confirmed_events(tile, self.archive.partitions, n, set_hash)
            confirmed &= chosen is not None
            found += tile.events[:n] if chosen is None else chosen
        return found, confirmed

    def tile(self, key: Key, entity: Entity, start: int) -> Tile:
        """Return the candidates of a tile."""
        if (key, start) not in self.tiles:
            inside = [
                each.event for each in entity.within(start, start + self.view.hop) if each.first and not each.event.late
            ]
            self.tiles[key, start] = Tile(inside, hashes_of(self.source, inside))
        return self.tiles[key, start]


def taken(left: Counter[Any], what: object) -> bool:
    """Return whether one of them is left, and take it."""
    left[what] -= 1
    return left[what] >= 0


def applied(entity: Entity, end: int) -> list[oracle.Event]:
    """Return the events that the stream put into open tiles, in order of arrival."""
    return [each.event for each in entity.copies if each.first and not each.event.late and each.event.ts >= end]


def hashes_of(source: SourcePlan, events: Sequence[oracle.Event]) -> Ints:
    """Return the hash of each event's identity."""
    ids = [[each.cells[name] for each in events] for name in source.event_id]
    return identity_hash([each.ts for each in events], *ids)  # type: ignore[arg-type] # an id is never null


def confirmed_events(tile: Tile, partitions: Ints, n: int, set_hash: int) -> list[oracle.Event] | None:
    """Return the `n` events of a tile that have this set hash; None where none of the likely sets has it.

    Most often they are the first `n` to arrive. A job reads several partitions in any order, so of each it had the first
    few; and between its operators an event may pass one that arrived a moment before, so a few of the last may be missing.
    """
    if n > len(tile.events):
        return None
    for found in chain(first_of_partitions(tile, partitions, n, set_hash), without_a_few(tile, n, set_hash)):
        return [tile.events[index] for index in found]
    return None


def first_of_partitions(tile: Tile, partitions: Ints, n: int, set_hash: int) -> Iterator[list[int]]:
    """Yield the first few events of each partition, `n` together, that have the hash."""
    if wrapped(tile.hashes[:n]) == set_hash:
        yield list(range(n))
    places = defaultdict(list)
    for index, each in enumerate(tile.events):
        places[int(partitions[each.position])].append(index)
    sizes = [range(len(each) + 1) for each in places.values()]
    if len(places) < 2 or np.prod([float(len(each)) for each in sizes]) > MOST_WAYS:  # noqa: PLR2004 - one is a prefix
        return
    sums = [np.concatenate(([0], np.cumsum(tile.hashes[own]))) for own in places.values()]
    for way in product(*sizes):
        if sum(way) == n and wrapped([each[taken] for each, taken in zip(sums, way, strict=True)]) == set_hash:
            yield sorted(index for own, taken in zip(places.values(), way, strict=True) for index in own[:taken])


def without_a_few(tile: Tile, n: int, set_hash: int) -> Iterator[list[int]]:
    """Yield `n` events that have the hash: the first to arrive, without a few of the last of them."""
    for count in range(1, min(len(tile.events) - n, MOST_MISSING) + 1):
        end = n + count
        rest = wrapped(tile.hashes[:end]) - set_hash
        for missing in combinations(range(max(end - NEAR, 0), end), count):
            if (wrapped(tile.hashes[list(missing)]) - rest) % 2**64 == 0:
                yield [index for index in range(end) if index not in missing]


def wrapped(hashes: Any) -> int:
    """Return the sum of int64 numbers, which wraps."""
    return int(np.add.reduce(np.asarray(hashes, np.int64)))


def judge_row(plan: SetPlan, row: Mapping[str, Any], judges: Mapping[str, ViewJudge]) -> dict[str, Judged]:
    """Return what each feature of a row, derived ones too, should have been; only those that were served."""
    found: dict[str, Judged] = {}
    for name in row["views"]:
        found |= judges[name].judge(row)
    for each in plan.derived:
        inputs = inputs_of(each.expression)
        if all(name in found for name in inputs):
            own = [found[name] for name in inputs]
            request = {column.name: row["row"][column.name] for column in plan.request}
            served, as_known, ideal = (
                oracle.derived_value(each.expression, {name: getattr(found[name], side) for name in inputs}, request)
                for side in ("served", "as_known", "ideal")
            )
            late, confirmed = any(one.late for one in own), all(one.confirmed for one in own)
            found[each.name] = Judged(served, as_known, ideal, late, confirmed)
    return {name: each for name, each in found.items() if name in row["values"]}


@dataclass
class Tally:
    """Counts cells by cause into a report."""

    report: Report

    def add(self, row: Mapping[str, Any], judged: Mapping[str, Judged]) -> None:
        """Count the cells of one row."""
        for name, each in judged.items():
            given = plain(row["values"][name], each.served)
            feature = self.report.features.setdefault(name, FeatureParity(0, 0, Counter(), 0))
            feature.cells += 1
            if not each.confirmed or not same_value(given, each.served):
                self.defect(feature, name, row, given, each)
            elif same_value(given, each.ideal):
                feature.equal += 1
            else:
                feature.causes[cause_of(given, each)] += 1

    def defect(self, feature: FeatureParity, name: str, row: Mapping[str, Any], given: Any, judged: Judged) -> None:
        """Count a cell that arrival does not explain."""
        cause = "engine" if judged.confirmed else UNCONFIRMED
        feature.causes[cause] += 1
        feature.unexplained += 1
        if feature.unexplained <= MOST_DEFECTS:
            probe = {"t": row["at"], **row["row"]}
            self.report.defects.append(Defect(name, cause, "served", self.report.probes, probe, given, judged.served))


def cause_of(given: Any, judged: Judged) -> str:
    """Return which physics made a cell other than the ideal."""
    if not same_value(given, judged.as_known):
        return "in_flight"
    return "late" if judged.late else "in_flight"


def plain(given: Any, wanted: Any) -> Any:
    """Return a value of JSON as the oracle has it: maps were written as pairs."""
    return dict(map(tuple, given)) if isinstance(wanted, dict) and given is not None else given
