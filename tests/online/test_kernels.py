"""Compiled reads of packed records give the oracle's values: each kind of state, over closed and open tiles."""

import random
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import DEPTH
from tests.online.stream_rows import accepted, expected, stream_rows
from tests.plain import plain
from unskew.backfill.tiles import closed_records
from unskew.backfill.window_states import Column, Events
from unskew.online.materialise import Materialiser
from unskew.online.read import FeatureReader, entity_key
from unskew.online.store import SqliteStore, ViewContent
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
    plan,
)
from unskew.pipelines.arrow import python_values
from unskew.pipelines.backends import oracle
from unskew.pipelines.records import closed_layout
from unskew.pipelines.states import StateField
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
FEATURES = {
    f"{name}_{number}": each.over(size, **more)  # type: ignore[arg-type]
    for name, each in AGGREGATES.items()
    for number, (size, more) in enumerate(
        (("1h", {}), ("2h", {"delay": "1h", "hop": "1h"}), ("lifetime", {"hop": "1d"}))
    )
}
PLAN = plan(FeatureSet("kernels", [FeatureView("v", Entity("who", "who"), SOURCE, FEATURES)]))
VIEW, LOG = PLAN.views[0], PLAN.sources[0]


def draw_rows(rng: random.Random, end: int, n: int) -> list[dict[str, Any]]:
    """Draw rows on both sides of the end of the closed tiles, on edges and with ties."""
    return [
        {
            "id": number,
            "ts": end + rng.choice((0, -HOUR, HOUR, 5 * MINUTE)) + rng.choice((-1, 0, 1, 2, rng.randrange(5 * MINUTE))),
            "who": rng.choice((1, 1, 2)), "i": rng.choice((None, -1000, 0, 7, 8)), "s": rng.choice((None, "", "a", "é")),
            "b": rng.choice((None, True, False)),
        }
        for number in range(n)
    ]  # fmt: skip


def column_of(of: StateField, held: Sequence[oracle.Event]) -> Column:
    """Return lifts; strings as codes of all of them."""
    cells = [oracle.lifted(of.lift, each.cells) for each in held]
    valid = np.array([each is not None for each in cells], np.bool_)
    texts = sorted({str(each) for each in cells if each is not None}) if of.lift.type.kind == "string" else None
    data = [int(each or 0) if texts is None else 0 if each is None else texts.index(str(each)) for each in cells]
    inner = tuple(column_of(each, held) for each in of.inner)
    return Column(np.array(data, np.int64), valid, None if texts is None else pa.array(texts, pa.string()), inner)


def put_closed(store: SqliteStore, held: Sequence[oracle.Event], end: int) -> None:
    """Store the closed tiles of events and let reads see them."""
    ordered = sorted(held, key=lambda each: (each.cells["who"], each.order))
    whos = sorted({each.cells["who"] for each in ordered})  # type: ignore[type-var]
    entity = np.array([whos.index(each.cells["who"]) for each in ordered], np.int64)
    ts = np.array([each.ts for each in ordered], np.int64)
    events = Events(entity, ts, None, [column_of(each, ordered) for each in VIEW.fields])
    generation = store.new_generation()
    features = {each.name: each.fingerprint for each in VIEW.features}
    store.put_content("closed", str(generation), VIEW.name, ViewContent(closed_layout(VIEW), features))
    records = closed_records(VIEW, events, len(whos), end)
    store.put_closed(
        generation, VIEW.name, [(entity_key([who]), each) for who, each in zip(whos, records, strict=True)]
    )
    cut = end + LOG.allowed_lateness
    assert LOG.batch_end(cut) == end
    store.flip(generation, {LOG.name: (cut, end)}, cut)


def known_of_head(events: Sequence[oracle.Event], who: int, t: int) -> list[int]:
    """Return what a read knows of the tile of `t`: the newest version's sequence, whether it was ahead, or behind.

    A version holds the tile's events up to its own in the log; it will do where all are before `t`.
    """
    tile = [each for each in events if each.cells["who"] == who and each.ts // VIEW.hop == t // VIEW.hop]
    groups = {(-1, None): tile}
    for number, of in enumerate(VIEW.fields):
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
    with SqliteStore(":memory:") as store:
        if closed:
            put_closed(store, [each for each in events if each.ts < end], end)
        writer = Materialiser(store, PLAN, LOG.name, "job", version_life=2**60)
        writer.apply(stream_rows(PLAN, LOG.name, rows, end if closed else None))
        jitter = (0, 0, 1, HOUR, HOUR + 1, 5 * MINUTE, 2 * HOUR, rng.randrange(3 * HOUR), DAY)
        spine = [{"who": rng.choice((1, 2, 3))} for _ in range(6)]
        instants = [end + rng.choice(jitter) for _ in spine]
        reading = FeatureReader(PLAN, store).read(spine, instants)
        found = reading.table()
    streamed = [each for each in events if not closed or each.ts >= end]
    values = {name: python_values(found[name]) for name in found.column_names}
    for number, (row, t) in enumerate(zip(spine, instants, strict=True)):
        for name, wanted in expected(VIEW, events, row | {"t": t}).items():
            assert plain(values[name][number]) == plain(wanted), (name, row, t)
        assert reading.knowledge["v"][number].tolist() == known_of_head(streamed, row["who"], t), (row, t)
