"""Aggregates over categories, worked by hand, on every engine that needs no stream."""

from collections.abc import Callable

import pytest

from unskew.pipelines import Decimal, Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.planner import plan
from unskew.testing import FeatureCase

SCHEMA = {"id": Int64, "at": Timestamp, "card": Int64, "amount": Decimal(12, 2), "shop": String}
TX = EventSource("tx", SCHEMA, event_time="at", event_id="id")
DAILY = col("amount").sum().per("1d")
VIEW = FeatureView(
    "card", Entity("card", "card"), TX,
    {
        "days": DAILY.over("30d"), "mean": DAILY.mean().over("30d"), "most": DAILY.max().over("30d"),
        "active": count().per("1d").count().over("30d"), "deviation": DAILY.stddev().over("30d"),
        "closed": DAILY.mean().over("30d", accuracy="daily"), "favourite": count().by(col("shop")).max().over("30d"),
        "cheapest": col("amount").min().by(col("shop")).sum().over("30d"),
    },
)  # fmt: skip
EVENTS = """
    at               | card | amount | shop
    2025-01-01 10:00 | 7    | 10.00  | a
    2025-01-01 20:00 | 7    | 5.00   | b
    2025-01-03 10:00 | 7    | 1.00   | a
    2025-01-04 10:00 | 7    | 3.00   | null
"""
# days at 2025-01-04 12:00:   1st 15.00    2nd -    3rd 1.00    4th 3.00 so far
EXPECTED = """
    t                | card | mean_30d          | most_30d | active_30d | closed_30d | favourite_30d | cheapest_30d
    2025-01-04 12:00 | 7    | 6.333333333333333 | 15.0     | 3          | 8.0        | 2             | 6.0
    2025-01-01 10:00 | 7    | null              | null     | 0          | null       | null          | 0.0
"""


@pytest.mark.parametrize("engine", ["oracle", "beam"])
def test_daily_sums_and_shops(engine: str) -> None:
    case = FeatureCase(FeatureSet("nested", [VIEW]), engine)
    case.events("tx", EVENTS)
    case.expect(EXPECTED)
    found = case.at("2025-01-02 00:00", card=7)["card.days_30d"]
    assert list(found.values()) == [15.0]
    assert case.at("2025-01-04 10:00", card=7)["card.deviation_30d"] == 7.0


def test_a_window_begins_with_a_whole_period() -> None:
    assert {each.window.hop for each in plan(FeatureSet("s", [VIEW])).views[0].features} == {86_400_000}
    assert DAILY.mean().over("7d").windows[0].hop == 86_400_000
    assert col("amount").sum().per("1h").max().over("30d").windows[0].hop == 86_400_000
    with pytest.raises(DefinitionError, match="hop `1h` is no multiple of the period `1d`"):
        DAILY.over("7d", hop="1h")


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "an unknown outer aggregate": (lambda: DAILY.quantile, "aggregate `quantile` over categories is unknown"),
    "an outer aggregate of no categories": (lambda: count().max(), "`max` follows an aggregate; write by"),
    "a third level": (lambda: DAILY.max().min(), "`min` follows an aggregate"),
    "moments by category": (lambda: col("amount").mean().by(col("shop")).max(), "`mean` by category cannot be aggregated"),
    "a period that cuts days": (lambda: count().per("7h"), "period `7h` does not divide a day"),
    "a period of days": (lambda: count().per("7d"), "period `7d` does not divide a day"),
    "two categories": (lambda: DAILY.by(col("shop")), "by.* follows by"),
    "a sum of instants": (
        lambda: plan(FeatureSet("s", [FeatureView("v", VIEW.entity, TX, {"x": col("at").max().by(col("shop")).sum().over("1h")})])),
        "`sum` over instants says nothing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_nesting(case: str) -> None:
    build, message = WRONG[case]
    with pytest.raises(DefinitionError, match=message):
        build()
