"""Compiled reads of packed records give the oracle's values: each kind of state, over closed and open tiles."""

import random
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import DEPTH
from tests.online.stream_rows import accepted, expected, stream_rows
from tests.plain import plain
from tests.simulation.world import column_of
from unskew.backfill.tiles import closed_records
from unskew.backfill.window_states import Events
from unskew.online.asked import entity_key
from unskew.online.kernels import guarded
from unskew.online.materialise import Materialiser
from unskew.online.read import FeatureReader
from unskew.online.store import Changed, Store, ViewContent
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines import (
    Bool,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int32,
    Int64,
    String,
    Timestamp,
    col,
    cosine,
    feature,
    plan,
)
from unskew.pipelines.arrow import python_values
from unskew.pipelines.backends import oracle
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import ViewPlan
from unskew.pipelines.records import Rows, Section, closed_layout, open_layout, pack
from unskew.pipelines.timegrid import DAY, HOUR, MINUTE

i, s, b = col("i"), col("s"), col("b")
AGGREGATES = {
    "sum": i.sum(), "min": i.min(), "max": i.max(), "first": i.first(), "last": i.last(), "mean": i.mean(),
    "first_s": s.first(), "last_s": s.last(), "last_b": b.last(), "since": i.time_since_first(), "since_s": s.time_since_last(),
    "first_2": i.first_k(2), "last_2": i.last_k(2), "top_2": i.top_k(2), "bottom_2": i.bottom_k(2), "last_2_s": s.last_k(2),
    "distinct": i.count_distinct(), "distinct_s": s.count_distinct(), "mode_s": s.mode(), "histogram": i.histogram(),
    "most_by": i.max().by(s), "true_by": b.last_k(2),
}  # fmt: skip
SOURCE = EventSource(
    "events", {"id": Int64, "ts": Timestamp, "who": Int64, "i": Int32(-1000, 1000), "s": String, "b": Bool},
    event_time="ts", event_id="id", deduplicate=False,
)  # fmt: skip
WINDOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("1h", {}), ("2h", {"delay": "2h", "hop": "1h"}), ("lifetime", {"hop": "1d"}),
    ("3h", {"hop": "1h", "accuracy": "daily"}),
)  # fmt: skip
FEATURES = {
    f"{name}_{number}": each.over(size, **more)
    for name, each in AGGREGATES.items()
    for number, (size, more) in enumerate(WINDOWS)
}
WHO = Entity("who", "who")
FINE = {f"{name}_fine": AGGREGATES[name].over("10s", hop="1ms") for name in ("sum", "last_s", "distinct", "top_2")}
VIEWS = [FeatureView("v", WHO, SOURCE, FEATURES), FeatureView("fine", WHO, SOURCE, FINE)]
DERIVED = {
    "known": feature("v.last_s_0_1h").isin("a", ""), "other": feature("v.first_s_2_lifetime") != "é",
    "like": cosine(feature("v.last_2_2_lifetime"), feature("v.first_2_2_lifetime")),
}  # fmt: skip
PLAN = plan(FeatureSet("kernels", VIEWS, derived=DERIVED))
LOG = PLAN.sources[0]


def draw_rows(rng: random.Random, end: int, n: int) -> list[dict[str, Any]]:
    """Draw rows on both sides of the end of the closed tiles, on edges and with ties."""
    return [
        {
            "id": number,
            "ts": end + rng.choice((0, -HOUR, HOUR, 5 * MINUTE, -DAY)) + rng.choice((-1, 0, 1, 2, rng.randrange(5 * MINUTE))),
            "who": rng.choice((1, 1, 2)), "i": rng.choice((None, -1000, 0, 7, 8)), "s": rng.choice((None, "", "a", "é")),
            "b": rng.choice((None, True, False)),
        }
        for number in range(n)
    ]  # fmt: skip


def put_closed(store: Store, held: Sequence[oracle.Event], end: int) -> None:
    """Store the closed tiles of events and let reads see them."""
    ordered = sorted(held, key=lambda each: (each.cells["who"], each.order))
    whos = sorted({each.cells["who"] for each in ordered})  # type: ignore[type-var]
    entity = np.array([whos.index(each.cells["who"]) for each in ordered], np.int64)
    ts = np.array([each.ts for each in ordered], np.int64)
    generation = store.new_generation()
    for view in PLAN.views:
        events = Events(entity, ts, None, [column_of(each, ordered) for each in view.fields])
        records = closed_records(view, events, len(whos), end)
        put_records(store, generation, view, list(zip(whos, records, strict=True)))
    flip(store, generation, end)


def put_records(store: Store, generation: int, view: ViewPlan, records: Sequence[tuple[Any, bytes]]) -> None:
    features = {each.name: each.fingerprint for each in view.features}
    store.put_content("closed", str(generation), view.name, ViewContent(closed_layout(view), features))
    store.put_closed(generation, view.name, [(entity_key([who]), record) for who, record in records])


def flip(store: Store, generation: int, end: int) -> None:
    cut = end + LOG.allowed_lateness
    assert LOG.batch_end(cut) == end
    store.flip(generation, {LOG.name: (cut, end)}, cut)


def known_of_head(view: ViewPlan, events: Sequence[oracle.Event], who: int, t: int) -> list[int]:
    """Return what a read knows of the tile of `t`: the newest version's sequence, whether it was ahead, or behind.

    A version holds the tile's events up to its own in the log; it will do where all are before `t`.
    """
    tile = [each for each in events if each.cells["who"] == who and each.ts // view.hop == t // view.hop]
    groups = {(-1, None): tile}
    for number, of in enumerate(view.fields):
        for each in tile if of.kind == "multiset" else ():
            value = oracle.lifted(of.lift, each.cells)
            if value is not None:
                groups.setdefault((number, value), []).append(each)  # type: ignore[arg-type]
    fit = {key: list(takewhile(lambda each: each.ts < t, group)) for key, group in groups.items()}
    ahead = any(group and not fit[key] for key, group in groups.items())
    behind = any(each.ts < t for key, group in groups.items() for each in group[len(fit[key]) :])
    sequence = fit[-1, None][-1].position if fit[-1, None] else -1
    return [sequence, ahead, behind]


@settings(max_examples=60 * DEPTH, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 25), st.booleans(), st.sampled_from((-DAY, 0, 2 * DAY)))
def test_closed_and_open_tiles_read_as_the_oracle_says(seed: int, n: int, closed: bool, end: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    rows = draw_rows(rng, end, n)
    events = accepted(LOG, rows)
    early = rng.random() < 0.5  # the stream wrote tiles that the upload closes later
    with SqliteStore(":memory:") as store:
        writer = Materialiser(store, PLAN, LOG.name, "job", version_life=2**60)
        if early:
            writer.apply(stream_rows(PLAN, LOG.name, rows))
        if closed:
            put_closed(store, [each for each in events if each.ts < end], end)
        if not early:
            writer.apply(stream_rows(PLAN, LOG.name, rows, end if closed else None))
        jitter = (0, 0, 1, 2, HOUR, HOUR + 1, 5 * MINUTE, 2 * HOUR, rng.randrange(3 * HOUR), DAY, DAY + 1)
        spine = [{"who": rng.choice((1, 2, 3))} for _ in range(rng.randint(1, 6))]
        instants = [end + rng.choice(jitter) for _ in spine]
        reading = FeatureReader(PLAN, store).read(spine, instants)
        found = reading.table()
    streamed = [each for each in events if not closed or each.ts >= end]
    values = {name: python_values(found[name]) for name in found.column_names}
    for number, (row, t) in enumerate(zip(spine, instants, strict=True)):
        for view in PLAN.views:
            for name, wanted in expected(view, events, row | {"t": t}).items():
                assert plain(values[name][number]) == plain(wanted), (name, row, t)
            known = known_of_head(view, streamed, row["who"], t)
            assert reading.knowledge[view.name][number].tolist() == known, (row, t)
        own = {name: column[number] for name, column in values.items()}
        for each in PLAN.derived:
            assert plain(own[each.name]) == plain(oracle.derived_value(each.expression, own, {})), (each.name, row, t)
    assert plain(reading.row()) == plain({name: column[0] for name, column in values.items()})


TOTAL = plan(
    FeatureSet("total", [FeatureView("v", WHO, SOURCE, {"sum": i.sum().over("1h"), "max": i.max().over("1h")})])
)
HALF, THIRD = 2**62, 0x5555_5555_5555_5555
SUMS = [
    (HALF, HALF, False), (HALF, HALF - 1, True), (-HALF, -HALF, True), (-HALF, -HALF - 1, False),
    (THIRD, THIRD, False), (HALF, -HALF - 1, True),
]  # fmt: skip


def tiles(section: Section, starts: Sequence[int], values: Sequence[int]) -> Rows:
    """Return tiles in which every field has the same value."""
    columns = {name: np.array([1, 1], np.int64) for name in section.columns} | {"start": np.array(starts, np.int64)}
    columns |= {name: np.array(values, np.int64) for name in section.fields()}
    if "valid0" in columns:
        columns["valid0"] = np.array([3, 3], np.int64)  # both fields are known
    return Rows.of(np.zeros(2, np.int64), columns)


@pytest.mark.parametrize("side", ["closed", "open"])
@pytest.mark.parametrize(("one", "other", "fits"), SUMS)
def test_a_sum_past_int64_is_an_error(one: int, other: int, fits: bool, side: str) -> None:
    #   tiles:   [-10min: one) [-5min: other) | t = 0 where closed; the same before t = DAY where open
    view, t = TOTAL.views[0], 0 if side == "closed" else DAY
    starts = [t - 10 * MINUTE, t - 5 * MINUTE]
    with SqliteStore(":memory:") as store:
        Materialiser(store, TOTAL, LOG.name, "job")
        layout = closed_layout(view) if side == "closed" else open_layout(view, [False])
        records = pack(layout, [tiles(layout.sections[0], starts, [one, other])], 1)
        generation = store.new_generation()
        put_records(store, generation, view, [(1, records[0])] if side == "closed" else [])
        if side == "open":
            new = Changed([records[0]], [0], [0], [0])
            store.update_open("job", view.name, [entity_key([1])], lambda *_: new)
        flip(store, generation, 0)
        reader = FeatureReader(TOTAL, store)
        if fits:
            assert reader.read([{"who": 1}], t).row() == {"v.sum_1h": one + other, "v.max_1h": max(one, other)}
        else:
            with np.errstate(over="ignore"), pytest.raises(EngineError, match="passes int64"):  # uncompiled code warns
                reader.read([{"who": 1}], t)


def test_the_last_value_of_a_section_ends_with_it() -> None:
    #   words of the section:  start [0 0] value [0 1] count [1 1] ...
    #   past the last row: "start" is value[0] = 0, its own start; "value" is count[0] = 1, its own value
    rows = [{"id": number, "ts": number, "who": 1, "i": number, "s": None, "b": None} for number in (0, 1)]
    with SqliteStore(":memory:") as store:
        Materialiser(store, PLAN, LOG.name, "job").apply(stream_rows(PLAN, LOG.name, rows))
        found = FeatureReader(PLAN, store).read([{"who": 1}], HOUR).row()
    assert found["v.histogram_2_lifetime"] == {0: 1, 1: 1}


def test_the_last_tile_of_a_record_is_its_newest_version() -> None:
    #   words of the tiles:  start [1] n [1] ...     past the last row: "start" is n[0] = 1, its own start
    rows = [{"id": 1, "ts": 1, "who": 1, "i": 7, "s": None, "b": None}]
    with SqliteStore(":memory:") as store:
        Materialiser(store, PLAN, LOG.name, "job").apply(stream_rows(PLAN, LOG.name, rows))
        assert FeatureReader(PLAN, store).read([{"who": 1}], 3).row()["fine.sum_fine_10s"] == 7


def test_a_version_left_out_is_behind_not_ahead() -> None:
    #   the log of one tile: 98, 100, 99; a read at 100 takes the first version and knows that 99 is missing
    rows = [{"id": at, "ts": ts, "who": 1, "i": 7, "s": None, "b": None} for at, ts in enumerate((98, 100, 99))]
    with SqliteStore(":memory:") as store:
        Materialiser(store, PLAN, LOG.name, "job").apply(stream_rows(PLAN, LOG.name, rows))
        reading = FeatureReader(PLAN, store).read([{"who": 1}], 100)
    assert reading.knowledge["v"].tolist() == [[0, 0, 1]]


def test_a_closed_tile_of_many_values() -> None:
    rows = [{"id": at, "ts": -1 - at, "who": 1, "i": at, "s": None, "b": None} for at in range(300)]
    with SqliteStore(":memory:") as store:
        Materialiser(store, PLAN, LOG.name, "job")
        put_closed(store, accepted(LOG, rows), 0)
        found = FeatureReader(PLAN, store).read([{"who": 1}], HOUR - 1).row()
    assert found["v.histogram_2_lifetime"] == dict.fromkeys(range(300), 1)


WRITES = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 3)), max_size=20)


@given(WRITES)
def test_a_version_stands_if_it_counts_no_fewer_and_began_no_later(writes: list[tuple[int, int, int]]) -> None:
    writes.sort(key=lambda each: each[0])  # by group; a group's stay in the order of their writes
    standing: dict[int, list[int]] = {}
    rejected = []
    for at, (group, n, arrival) in enumerate(writes):
        kept = standing.setdefault(group, [])
        before = writes[kept[-1]] if kept else None
        if before is not None and (n < before[1] or arrival > before[2]):
            rejected.append(at)
            continue
        if before is not None and n == before[1]:
            kept.pop()
        kept.append(at)
    columns = np.array(writes, np.int64).reshape(-1, 3).T.copy()
    stays, refused = guarded(*columns)
    assert np.flatnonzero(stays).tolist() == sorted(at for kept in standing.values() for at in kept)
    assert np.flatnonzero(refused).tolist() == rejected
