"""Definitions that mean nothing: refused when they are written or planned, in one clear line."""

from collections.abc import Callable

import pytest

from unskew.pipelines import (
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int64,
    String,
    Timestamp,
    coalesce,
    col,
    count,
    feature,
    greatest,
    one_hot,
    plan,
)
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.expr import Windowed

events = EventSource(
    "events", {"id": Int64, "at": Timestamp, "user": Int64, "s": String}, event_time="at", event_id="id"
)
user = Entity("user", "user")


def view(*, start: str | None = None, **features: Windowed) -> FeatureView:
    return FeatureView("v", user, events, features or {"n": count().over("1h")}, feature_start_time=start)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: col("user").quantile(0), "parameter `0` of `quantile` is no number above 0 up to 1"),
        (lambda: col("user").quantile(2), "parameter `2` of `quantile` is no number above 0 up to 1"),
        (lambda: col("user").top_k(n=2), "aggregate `top_k` has no parameter `n`; it takes"),
        (lambda: col("user").top_k(0), "parameter `0` of `top_k` is not a whole number from 1 to 1000"),
        (
            lambda: plan(FeatureSet("x", [view(t=col("s").top_k(2).over("1d"))])),
            "an aggregate over numbers was given `String`",
        ),
        (
            lambda: plan(FeatureSet("x", [view(t=col("s").last().by(col("s")).over("1d"))])),
            "cannot be taken by category",
        ),
        (lambda: count().by(col("s")).by(col("s")), r"by\(...\) follows by"),
        (lambda: count().by("s"), "category `'s'` is no expression"),  # type: ignore[arg-type]
        (lambda: count().over("1d").by(col("s")), r"by\(...\) stands after over"),
        (lambda: count().over("1d").where(col("s") == "a"), r"where\(...\) stands after over"),
        (lambda: count().over("999999999999d"), "is longer than 3650000d, longer than any log"),
        (lambda: count().over("1000000000d"), 'use "lifetime" for a window'),
        (lambda: count().over("1d", delay="200000000000d"), "is longer than 3650000d"),
        (lambda: count().over("1d", accuracy="hourly"), 'accuracy `hourly` is unknown; use "exact" or "daily"'),  # type: ignore[arg-type]
        (
            lambda: plan(FeatureSet("x", [view(start="2024-01-01", n=count().over("lifetime"))])),
            "reaches before any feature_start_time",
        ),
        (lambda: plan(FeatureSet("x", [view(start="soon")])), "instant `soon` is no ISO date or time"),
        (coalesce, r"operation `coalesce` was given 0 operand\(s\); give at least 1"),
        (lambda: greatest(col("user")), r"operation `greatest` was given 1 operand\(s\); give at least 2"),
        (lambda: one_hot("x", col("s")), "has no members"),
        (lambda: col("user").bucketize(3, "x"), "are not one or more ascending numbers"),  # type: ignore[arg-type]
        (lambda: col("user").clip(5, 1), "has its bounds the wrong way round"),
        (lambda: col("s") == "\ud800", "has a lone surrogate"),
        (lambda: FeatureSet("x", [view()], derived={"d": 1}), "derived feature `d` of set `x` is `1`, no expression"),  # type: ignore[dict-item]
        (lambda: plan(FeatureSet("x", [view()], derived={"d": feature("v.n_1h") + 10**400})), "is no finite number"),
        (lambda: FeatureSet("x", view()), "are no list of FeatureView"),  # type: ignore[arg-type]
        (
            lambda: FeatureView("v", "user", events, {"n": count().over("1h")}),  # type: ignore[arg-type]
            "entity `'user'` of view `v` is no Entity",
        ),
    ],
)
def test_a_wrong_definition_is_refused(define: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        define()
