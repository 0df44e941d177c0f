"""The compiled kernels and finishes give the oracle's values, without Beam around them: every aggregate, copies included."""

import random
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import DEPTH
from tests.plain import plain
from tests.simulation.world import column_of
from unskew.backfill.bucket import bucket_features
from unskew.backfill.window_states import Events, Spine
from unskew.pipelines import (
    Bool,
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int32,
    Int64,
    String,
    Timestamp,
    col,
    correlation,
    count,
    covariance,
    plan,
    ratio,
)
from unskew.pipelines.aggregates import AGGREGATES
from unskew.pipelines.arrow import python_values
from unskew.pipelines.backends import oracle
from unskew.pipelines.expr import Aggregation
from unskew.pipelines.timegrid import DAY, HOUR

SCHEMA = {
    "id": Int64,
    "ts": Timestamp,
    "i": Int32(-1000, 1000),
    "d": Decimal(12, 2),
    "b": Bool,
    "s": String,
    "who": Int64,
}
OF_STRINGS = {
    "first", "last", "first_k", "last_k", "time_since_first", "time_since_last", "count_distinct", "histogram", "mode",
    "top_k_frequent",
}  # fmt: skip
WINDOWS: tuple[dict[str, Any], ...] = (
    {"sizes": ("1h", "2d")}, {"sizes": ("1h",), "delay": "1h"}, {"sizes": ("3h",), "accuracy": "daily", "hop": "1h"},
    {"sizes": ("lifetime",)},
)  # fmt: skip


def aggregations() -> dict[str, Aggregation]:
    found: dict[str, Aggregation] = {"count": count(), "ratio": ratio(col("d"), col("i"))}
    found |= {"covariance": covariance(col("d"), col("i")), "correlation": correlation(col("i"), col("d"))}
    for name, entry in AGGREGATES.items():
        arguments = {"k": 2, "q": 0.4}
        for column in ("i", "d", "b", "s")[: 3 + (name in OF_STRINGS)] if entry.inputs == 1 else ():
            found[f"{name}_{column}"] = getattr(col(column), name)(*(arguments[each] for each in entry.parameters))
    return found | {
        "by_i": col("d").mean().by(col("i")),
        "most_by_b": col("i").max().by(col("b")),
        "sum_by_s": col("i").sum().by(col("s")),
    }


def planned() -> Any:
    source = EventSource("s", SCHEMA, event_time="ts", event_id="id")
    views = [
        FeatureView(f"v{number}", Entity("who", "who"), source, {name: each.over(*window["sizes"], **{k: v for k, v in window.items() if k != "sizes"}) for name, each in aggregations().items()}, feature_start_time="1970-01-02" if number == 1 else None)
        for number, window in enumerate(WINDOWS)
    ]  # fmt: skip
    return plan(FeatureSet("kernels", views))


PLAN = planned()


def draw_events(rng: random.Random, n: int, copies: bool) -> list[oracle.Event]:
    """Draw events of two entities around day 2, on edges and with ties, by (entity, ts, id)."""
    found = []
    for number in range(n):
        ts = (
            rng.choice((0, DAY, 2 * DAY))
            + rng.choice((0, HOUR, 3 * HOUR))
            + rng.choice((-1, 0, 1, rng.randrange(HOUR)))
        )
        key = rng.randrange(2) if copies else number
        cells: dict[str, Any] = {
            "id": key,
            "ts": ts,
            "who": rng.choice((0, 1)),
            "s": rng.choice((None, "", "é", "z", "b")),
        }
        cells |= {"i": rng.choice((None, -1000, -1, 0, 7, 7)), "d": rng.choice((None, -(10**12) + 1, 5, 300, 301))}
        found.append(oracle.Event(number, ts, ts, False, (ts, key), cells | {"b": rng.choice((None, True, False))}))
    return sorted(found, key=lambda each: (each.cells["who"], each.order))


@settings(max_examples=15 * DEPTH, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 25), st.booleans())
@pytest.mark.parametrize("view", PLAN.views, ids=lambda each: each.name)
def test_every_aggregate_over_every_window(view: Any, seed: int, n: int, copies: bool) -> None:
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    held = draw_events(rng, n, copies)
    entity = np.array([each.cells["who"] for each in held], np.int64)
    known = np.array([rng.choice((0, 1, 2)) for _ in held], np.int64)
    ts = np.array([each.ts for each in held], np.int64)
    runs = [
        number
        for number, (_, run) in enumerate(groupby(held, key=lambda each: (each.cells["who"], each.order)))
        for _ in run
    ]
    tie = np.array(runs, np.int64) if copies else None
    events = Events(entity, ts, known, [column_of(each, held) for each in view.fields], tie)
    reads = sorted(
        (rng.choice((0, 1)), 2 * DAY + rng.choice((-1, 0, 1, HOUR, 3 * HOUR, DAY))) for _ in range(rng.randint(1, 6))
    )
    asof = np.array([rng.choice((0, 1, 2)) for _ in reads], np.int64)
    spine = Spine(np.array([who for who, _ in reads]), np.array([t for _, t in reads]), asof)
    found = [python_values(each) for each in map(chunked, bucket_features(view, events, spine))]
    for row, (who, t) in enumerate(reads):
        own = [event for event, at in zip(held, known, strict=True) if event.cells["who"] == who and at <= asof[row]]
        for feature, values in zip(view.features, found, strict=True):
            assert plain(values[row]) == plain(oracle.feature_value(view, feature, own, t)), feature.name


def chunked(array: pa.Array) -> pa.ChunkedArray:
    return pa.chunked_array([array])
