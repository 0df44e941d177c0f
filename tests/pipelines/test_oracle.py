"""The oracle against values computed by hand, and against the parts that it must not share."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.depth import DEPTH
from tests.strategies import FAULTS, World, worlds
from unskew.pipelines import (
    Bool,
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Float,
    Int32,
    Int64,
    String,
    Timestamp,
    coalesce,
    col,
    concat,
    count,
    covariance,
    day_of_month,
    day_of_week,
    derived,
    feature,
    greatest,
    hour_of_day,
    if_else,
    least,
    log1p,
    minute_of_hour,
    month,
    plan,
    portable,
    ratio,
    request,
    year,
)
from unskew.pipelines.aggregates import AGGREGATES
from unskew.pipelines.backends import oracle, oracle_derived, oracle_formulas, oracle_rows
from unskew.pipelines.backends.oracle import (
    NEVER,
    Fate,
    Refused,
    Row,
    encode,
    fates,
    features,
    known_by_arrival,
    usable,
)
from unskew.pipelines.backends.sql import DUCKDB, render
from unskew.pipelines.binding import bind
from unskew.pipelines.errors import DefinitionError, EngineError
from unskew.pipelines.expr import Expr, Windowed
from unskew.pipelines.nodes import PRIMITIVES
from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan
from unskew.pipelines.states import Values
from unskew.pipelines.timegrid import Window
from unskew.pipelines.types import DataType

MIN, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SCHEMA = {
    "id": Int64, "ts": Timestamp, "seen": Timestamp, "card": Int64, "shop": String,
    "amount": Decimal(12, 2), "rate": Float(-1000, 1000), "ok": Bool, "n": Int64, "small": Int32(-9, 9),
}  # fmt: skip
AMOUNT = col("amount")


def tx(**changes: Any) -> EventSource:
    return EventSource(
        **{"name": "tx", "schema": SCHEMA, "event_time": "ts", "event_id": "id", "arrival": "seen", **changes}
    )


def planned(windowed: Windowed, *keys: str, **changes: Any) -> SetPlan:
    return plan(FeatureSet("s", [FeatureView("v", Entity("e", keys or "card"), tx(**changes), {"x": windowed})]))


def row(ts: int | None, **cells: Any) -> Row:
    """Return a row of card 1 whose id is its time, unless told otherwise."""
    return {"id": ts, "ts": ts, "card": 1, **cells}


def value(windowed: Windowed, rows: Sequence[Row], t: int, **changes: Any) -> Any:
    """Return the one feature of card 1 at `t`."""
    (found,) = features(planned(windowed, **changes), {"tx": rows}, [{"t": t, "card": 1}])
    (only,) = found.values()
    return only


def source(**changes: Any) -> SourcePlan:
    return planned(count().over("1h"), **changes).source("tx")


def judged(rows: Sequence[Row], *keys: str, **changes: Any) -> list[Fate]:
    found = planned(count().over("1h"), *keys, **changes)
    return fates(found.source("tx"), rows, found.views)


# Windows


def at(*instants: int) -> list[Row]:
    return [row(each) for each in instants]


def test_the_head_is_strict_and_the_tail_on_the_grid() -> None:
    #   ts:   0    5   10   15   20   (min)
    #   t=17             [------)      head is strict: 17 is out, 17 - 1 ms is in
    #   W=5, hop 5       [------)      tail = floor(17 - 5) = 10 is in, 10 - 1 ms is out
    window = count().over("5min")
    for ts, expected in ((10 * MIN - 1, 0), (10 * MIN, 1), (17 * MIN - 1, 1), (17 * MIN, 0)):
        assert value(window, at(ts), 17 * MIN) == expected


def test_on_the_grid_the_window_is_exact() -> None:
    #   ts:   0    5   10   15
    #   t=15         [-----)          tail = 10: no event of [5, 10)
    assert value(count().over("5min"), at(5 * MIN, 10 * MIN - 1, 10 * MIN, 15 * MIN - 1, 15 * MIN), 15 * MIN) == 2


def test_a_delay_puts_the_head_on_the_grid() -> None:
    #   ts:   0    5   10   15   20
    #   t=17, delay 5: head = floor(12) = 10
    #   W=10  [---------)             tail = floor(17 - 5 - 10) = 0
    window = count().over("10min", delay="5min")
    for ts, expected in ((-1, 0), (0, 1), (10 * MIN - 1, 1), (10 * MIN, 0)):
        assert value(window, at(ts), 17 * MIN) == expected


def test_the_grid_floors_before_1970() -> None:
    #   ts: -10   -5    0             (min)
    #   t=-1 ms
    #   W=5   [---------)             tail = floor(-5 min - 1 ms) = -10 min
    window = count().over("5min")
    for ts, expected in ((-10 * MIN - 1, 0), (-10 * MIN, 1), (-2, 1), (-1, 0)):
        assert value(window, at(ts), -1) == expected


def test_a_hop_of_1ms_is_exact() -> None:
    window = count().over("1h", hop="1ms")
    for ts, expected in ((6, 0), (7, 1), (HOUR + 6, 1), (HOUR + 7, 0)):
        assert value(window, at(ts), HOUR + 7) == expected


@given(st.integers(-3 * DAY, 3 * DAY), st.integers(-5 * DAY, 3 * DAY), st.sampled_from(("0", "5min", "1h")))
def test_windows_agree_with_the_time_grid(t: int, ts: int, delay: str) -> None:
    late = {"0": 0, "5min": 5 * MIN, "1h": HOUR}[delay]
    window = Window(DAY, 5 * MIN, late)
    feature_ = count().over("1d", hop="5min", delay=delay if late else None)
    assert value(feature_, at(ts), t) == int(window.tail(t) <= ts < window.head(t))


# Aggregates, by hand

ROWS = [
    row(10, amount=D("1.50"), rate=0.5, shop="b", n=7, ok=True, small=2),
    row(20, amount=D("-2.25"), rate=float("nan"), shop="a", n=None, ok=False, small=-3),
    row(30, amount=None, rate=1.5, shop=None, n=7, ok=None, small=None),
    row(40, amount=D("4.00"), rate=-0.25, shop="b", n=-5, ok=True, small=4),
    row(50, card=2, amount=D("99.00"), rate=9.0, shop="z", n=1, ok=True, small=1),
    row(60, card=None, amount=D("99.00"), rate=9.0, shop="z", n=1, ok=True, small=1),
]


@pytest.mark.parametrize(
    ("windowed", "expected", "empty"),
    [
        (count(), 4, 0),
        (count().where(AMOUNT > 0), 2, 0),
        (AMOUNT.sum(), 3.25, 0.0),
        (col("small").sum(), 3, 0),
        (col("ok").sum(), 2, 0),
        (col("rate").sum(), 1.75, 0.0),
        (AMOUNT.mean(), 325.0 / 300.0, None),
        (col("rate").mean(), 1.75 / 3, None),
        (col("ok").mean(), 2 / 3, None),
        (ratio(AMOUNT, col("small")), 3.25 / 3.0, None),
        (ratio(col("small"), AMOUNT - 1), 3.0 / 0.25, None),
        (ratio(col("small"), col("small") * 0), None, None),
        (AMOUNT.min(), -2.25, None),
        (AMOUNT.max(), 4.0, None),
        (col("n").min(), -5, None),
        (col("ts").max(), 40, None),
        (col("ok").max(), 1, None),
        (AMOUNT.first(), 1.5, None),
        (col("shop").first(), "b", None),
        (col("shop").last(), "b", None),
        (col("ok").last(), True, None),
        (col("ts").first(), 10, None),
        (AMOUNT.last_k(2), [4.0, -2.25], None),
        (col("shop").last_k(9), ["b", "a", "b"], None),
        (AMOUNT.time_since_first(), 90, None),
        (col("n").time_since_last().where(col("n") == 7), 70, None),
        (col("shop").count_distinct(), 2, 0),
        (col("n").count_distinct(), 2, 0),
        ((AMOUNT * (1 - col("small") % 2)).sum(), 1.5 + 4.0, 0.0),
        ((col("small") // 2).sum(), 1 - 2 + 2, 0),
        ((col("small") % 4).sum(), 2 + 1 + 0, 0),
        (AMOUNT.cast(Int64).sum(), 1 - 3 + 4, 0),
    ],
)
def test_aggregates(windowed: Any, expected: Any, empty: Any) -> None:
    found = value(windowed.over("1h"), ROWS, 100)
    assert (found, type(found)) == (expected, type(expected))
    nothing = value(windowed.over("1h"), ROWS, 10)
    assert (nothing, type(nothing)) == (empty, type(empty))


def test_only_nulls_are_like_nothing() -> None:
    rows = [row(10, amount=None)]
    found = [value(each.over("1h"), rows, 100) for each in (AMOUNT.sum(), AMOUNT.mean(), AMOUNT.last_k(3), count())]
    assert found == [0.0, None, None, 1]


def test_decimals_without_a_fraction_are_still_floats() -> None:
    found = value(col("amount").max().over("1h"), [row(1, amount=D(3))], 9, schema={**SCHEMA, "amount": Decimal(5, 0)})
    assert (found, type(found)) == (3.0, float)


def test_a_mean_of_too_fine_units_is_refused() -> None:
    schema = {**SCHEMA, "rate": Float(0, 2**-20, quantum=2**-60)}  # n * 2**60 would pass int64 from 8 rows on
    with pytest.raises(DefinitionError, match="is too fine, past"):
        value(col("rate").mean().over("1h"), [], 100, schema=schema)


def test_a_sum_past_int64_is_an_error() -> None:
    found = planned(col("small").sum().over("1h"))
    wide = tuple(replace(each, type=Int64) if each.name == "small" else each for each in found.sources[0].columns)
    broken = replace(found, sources=(replace(found.sources[0], columns=wide),))
    rows = [row(1, small=2**62), row(2, small=2**62)]
    with pytest.raises(EngineError, match="passes int64"):
        features(broken, {"tx": rows}, [{"t": 9, "card": 1}])
    assert features(broken, {"tx": [*rows, row(3, small=-1)]}, [{"t": 9, "card": 1}]) == [{"v.x_1h": 2**63 - 1}]


@pytest.mark.parametrize(
    ("text", "to", "expected"),
    [
        ("12.34", Decimal(6, 2), 1234), ("0.1", Decimal(6, 2), 10), ("-0.05", Decimal(6, 2), -5), ("7", Decimal(6, 2), 700),
        ("9999.99", Decimal(6, 2), 999_999), ("10000", Decimal(6, 2), None), ("1.005", Decimal(6, 2), None),
        ("1000000000", Decimal(18, 9), None), ("101", Int64(-100, 100), None), ("-100", Int64(-100, 100), -100),
        ("1.0", Int64, None), ("+1", Int64, None), ("01", Int64, None), ("1099511627777", Int64, None),
    ],
)  # fmt: skip
def test_texts_as_numbers(text: str, to: DataType, expected: int | None) -> None:
    node = bind(col("s").cast(to), {"s": String}, {})
    assert oracle.lifted(node, {"s": text}) == expected
    found = duckdb.execute(f"SELECT {render(node, DUCKDB)} FROM (SELECT CAST(? AS VARCHAR) AS s)", [text]).fetchone()
    assert found == (expected,)


def test_there_is_a_formula_for_each_aggregate_and_operation() -> None:
    assert oracle_formulas.FORMULAS.keys() == AGGREGATES.keys()
    assert {"column", "literal", *oracle_rows.STRICT, *oracle_rows.CASTS, *oracle_rows.LENIENT} == set(PRIMITIVES)
    assert {"coalesce", "if_else", "is_null", "isin", "and", "or", *oracle_derived.DERIVED} == set(derived.ARITY)


# Order


def test_order_is_by_event_time_then_number() -> None:
    rows = [row(5, id=10, n=10), row(5, id=9, n=9), row(4, id=99, n=99), row(5, id=-1, n=-1)]
    assert value(col("n").last_k(9).over("1h"), rows, 9) == [10, 9, -1, 99]
    assert (value(col("n").first().over("1h"), rows, 9), value(col("n").last().over("1h"), rows, 9)) == (99, 10)


def test_strings_are_ordered_by_their_utf8_bytes() -> None:
    ids = ["\uffff", "a", "😀", "B", ""]  # UTF-16 would put the face before U+FFFF
    rows = [row(5, shop=each) for each in ids]
    assert value(col("shop").last_k(9).over("1h"), rows, 9, event_id="shop") == ["😀", "\uffff", "a", "B", ""]


def test_composed_ids_are_ordered_column_by_column() -> None:
    rows = [row(5, id=each, shop=shop, n=n) for n, (shop, each) in enumerate([("b", 1), ("a", 10), ("a", 9)])]
    assert value(col("n").last_k(9).over("1h"), rows, 9, event_id=("shop", "id")) == [0, 1, 2]


def test_equal_ids_are_ordered_by_value_where_every_copy_counts() -> None:
    rows = [row(5, id=1, n=each) for each in (3, 9, 3, 4)]
    assert value(col("n").last_k(9).over("1h"), rows, 9, deduplicate=False) == [9, 4, 3, 3]
    assert value(col("n").last_k(9).over("1h"), rows, 9) == [3]


def test_copies_of_one_event_keep_their_pairs() -> None:
    # (n, small) = (1, 5), (2, 3): (2 * (1*5 + 2*3) - 3 * 8) / 4
    rows = [row(5, id=1, n=n, small=small) for n, small in ((1, 5), (2, 3))]
    assert value(covariance(col("n"), col("small")).over("1h"), rows, 9, deduplicate=False) == -0.5


# Filters and keys


def test_a_null_filter_is_false() -> None:
    rows = [row(1, ok=True, n=None), row(2, ok=False, n=None), row(3, ok=None, n=1), row(4, ok=True, n=1)]
    ok, one = col("ok"), col("n") == 1
    found = [value(count().where(each).over("1h"), rows, 9) for each in (ok, ~ok, ok & one, ok | one, ~(ok & one))]
    assert found == [2, 1, 1, 3, 1]


def test_composite_keys_match_column_by_column() -> None:
    found = planned(count().over("1h"), "card", "shop")
    rows = [row(1, shop="a"), row(2, shop="b"), row(3, shop=None), row(4, shop="a", card=2), row(5, shop="a")]
    spine: list[Row] = [
        {"t": 9, "card": 1, "shop": "a"},
        {"t": 9, "card": 1, "shop": None},
        {"t": 9, "card": 3, "shop": "a"},
    ]
    assert [each["v.x_1h"] for each in features(found, {"tx": rows}, spine)] == [2, 0, 0]


# Encoding


def column(of: DataType) -> ColumnPlan:
    return ColumnPlan("c", of)


@pytest.mark.parametrize(
    ("of", "given_", "expected"),
    [
        (Int64, 2**63 - 1, 2**63 - 1),
        (Int64, 2**63, "out_of_range"),
        (Int32, -(2**31) - 1, "out_of_range"),
        (Int64, True, "wrong_type"),
        (Int64, 1.0, "wrong_type"),
        (Int64, "1", "wrong_type"),
        (Decimal(4, 2), D("99.99"), 9999),
        (Decimal(4, 2), D("-0.01"), -1),
        (Decimal(4, 2), D("1.230"), 123),
        (Decimal(4, 2), D("1.234"), "wrong_type"),
        (Decimal(4, 2), D("100"), "out_of_range"),
        (Decimal(4, 2), D("1E+999999"), "out_of_range"),
        (Decimal(4, 2), D("1E-999999"), "wrong_type"),
        (Decimal(4, 2), D("0E-999999"), 0),
        (Decimal(4, 2), D("NaN"), None),
        (Decimal(4, 2), 1, "wrong_type"),
        (Decimal(4, 2), 0.29, 29),
        (Decimal(4, 2), 0.295, "wrong_type"),
        (Decimal(4, 2), 1e300, "out_of_range"),
        (Decimal(18, 0), D(10**18 - 1), 10**18 - 1),
        (Float(-1, 1, 0.25), 0.125, 1),
        (Float(-1, 1, 0.25), -0.125, 0),
        (Float(-1, 1, 0.25), 0.1249, 0),
        (Float(-1, 1, 0.25), 1.125, "out_of_range"),
        (Float(-1, 1, 0.25), 1e308, "out_of_range"),
        (Float(-1, 1, 0.25), float("nan"), None),
        (Float(-1, 1, 0.25), float("-inf"), None),
        (Float(-1, 1, 0.25), 1, "wrong_type"),
        (Bool, True, True),
        (Bool, 1, "wrong_type"),
        (String, "é", "é"),
        (String, "\ud800", "wrong_type"),
        (String, b"a", "wrong_type"),
        (Timestamp, -1, -1),
        (Timestamp, 253_402_300_800_000, "out_of_range"),
        (Timestamp, 1.5, "wrong_type"),
        (Timestamp, None, None),
    ],
)
def test_encoding(of: DataType, given_: object, expected: object) -> None:
    if expected in ("wrong_type", "out_of_range"):
        with pytest.raises(Refused) as error:
            encode(column(of), given_)
        assert error.value.reason == expected
    else:
        found = encode(column(of), given_)
        assert (found, type(found)) == (expected, type(expected))


# Fates


def test_reasons_of_quarantine_in_order() -> None:
    rows: list[Row] = [
        {"id": None, "ts": None, "card": "x", "small": 99},
        {"id": None, "ts": MIN + 1, "seen": 0, "card": "x", "small": 99},
        {"id": None, "ts": MIN + 1, "seen": 0, "card": 1, "small": 99},
        {"id": None, "ts": MIN + 1, "seen": 0, "card": 1},
        {"id": 1, "ts": MIN + 1, "seen": 0, "card": 1},
        {"id": 1, "ts": MIN, "seen": 0, "card": 1},
    ]
    reasons = ["null_event_time", "wrong_type", "out_of_range", "null_event_id", "future", None]
    assert [each.reason for each in judged(rows)] == reasons
    assert [each.name for each in judged(rows)] == ["quarantined"] * 5 + ["applied"]


def test_late_is_more_than_the_allowed_lateness() -> None:
    rows = [row(0, seen=DAY), row(1, seen=DAY + 2), row(2, seen=None)]
    assert [each.name for each in judged(rows)] == ["applied", "late", "applied"]
    assert [each.name for each in judged(rows, arrival=None)] == ["applied"] * 3


def test_later_copies_are_duplicates_by_arrival_then_position() -> None:
    rows = [row(5, n=1, seen=9), row(5, n=2, seen=8), row(5, n=3, seen=8), row(5, n=4, seen=2 * DAY), row(6, id=5)]
    names = ["duplicate", "applied", "duplicate", "late", "applied"]
    assert [each.name for each in judged(rows)] == names
    assert [each.position for each in usable(source(), rows)] == [1, 4]
    assert value(col("n").last().over("1h"), rows[:4], 9) == 2
    assert {each.name for each in judged(rows, deduplicate=False)} == {"applied", "late"}
    assert len(usable(source(deduplicate=False), rows)) == 5
    assert [each.name for each in judged(rows, event_id=None)][:4] == ["applied", "applied", "applied", "late"]


def test_a_quarantined_copy_is_no_first_copy() -> None:
    rows = [row(5, small=99), row(5, small=1)]
    assert [each.name for each in judged(rows)] == ["quarantined", "applied"]


def test_the_first_of_late_copies_counts() -> None:
    rows = [row(5, n=1, seen=3 * DAY), row(5, n=2, seen=2 * DAY)]
    assert [each.name for each in judged(rows)] == ["late", "late"]
    assert value(col("n").last().over("1h"), rows, 9) == 2


def test_a_row_that_no_view_takes_is_filtered() -> None:
    rows = [row(1, shop=None), row(2, shop="a"), row(2, shop=None), row(3, card=None, shop="a")]
    names = ["filtered", "applied", "duplicate", "filtered"]
    assert [each.name for each in judged(rows, "card", "shop")] == names
    assert [each.name for each in fates(source(), rows, [])][:2] == ["filtered", "filtered"]


# As of


def test_known_is_inclusive_and_late_events_wait_for_an_upload() -> None:
    late = 3 * DAY
    rows = [row(10, seen=20), row(30, seen=late), row(30, seen=late + 1), row(40, small=99), row(50, seen=late)]
    flips = [(late, 100, 7), (late + 1, 50, 900), (late + 1, 100, 950), (late + 2, 100, 901)]
    known = known_by_arrival(source(), rows, 5, flips)
    assert known == [(25, NEVER), (900, NEVER), (NEVER, NEVER), (NEVER, NEVER), (901, NEVER)]
    found = planned(count().over("1h"))
    spine = [{"t": 100, "card": 1, "asof": each} for each in (24, 25, 899, 900, 901)]
    values = [each["v.x_1h"] for each in features(found, {"tx": rows}, spine, known={"tx": known})]
    assert values == [0, 1, 1, 2, 3]
    assert features(found, {"tx": rows}, [{"t": 100, "card": 1}], known={"tx": known}) == [{"v.x_1h": 1}]
    assert features(found, {"tx": rows}, [{"t": 100, "card": 1}]) == [{"v.x_1h": 3}]


def test_an_amendment_replaces_its_event_from_the_upload_that_holds_it() -> None:
    log = source(amended=True, deleted=col("small") == 9)
    # position  0: paid 1   1: amended to 5   2: another event   3: it is deleted
    rows = [
        row(10, seen=20, id=1),
        row(10, seen=30, id=1, small=5),
        row(11, seen=20, id=2),
        row(11, seen=40, id=2, small=9),
    ]
    flips = [(25, 100, 700), (35, 100, 800), (45, 100, 900)]
    assert known_by_arrival(log, rows, 5, flips) == [(25, 800), (800, NEVER), (25, 900), (NEVER, NEVER)]
    assert [each.position for each in usable(log, rows)] == [1]
    assert [each.name for each in fates(log, rows, [])] == ["filtered", "duplicate", "filtered", "duplicate"]


# Derived features and the whole set

EVERYTHING = plan(
    FeatureSet(
        "all",
        views=[
            FeatureView(
                "card",
                Entity("card", "card"),
                (SOURCE := tx()),
                {
                    "n": count().over("1h", "1d"),
                    "distinct": col("shop").count_distinct().over("1h"),
                    "mean": AMOUNT.mean().where(col("ok") | (col("n") > 0)).over("1h", "12d"),
                    "delayed": col("rate").sum().over("1h", delay="1h"),
                    "last": col("shop").last_k(3).over("1d"),
                    "first": col("small").first().over("1h"),
                    "max": coalesce(col("small"), col("n")).max().over("1d"),
                    "since": AMOUNT.time_since_last().over("1d"),
                },
            ),
            FeatureView(
                "pair", Entity("pair", ("shop", "card")), SOURCE, {"r": ratio(AMOUNT, col("small")).over("1h")}
            ),
        ],
        request={"paid": Decimal(12, 2), "now": Timestamp},
        derived={
            "over": request("paid") / feature("card.mean_1h"),
            "log": log1p(coalesce(feature("card.since_1d"), 0)),
            "hour": hour_of_day(request("now")),
        },
    )
)


def test_derived_features_by_hand() -> None:
    rows = [row(10, amount=D("2.00"), ok=True), row(20, amount=D("4.00"), ok=None, n=1), row(30, amount=D(9), ok=False)]
    (found,) = features(EVERYTHING, {"tx": rows}, [{"t": 31, "card": 1, "shop": "a", "paid": D("1.50"), "now": -1}])
    assert [found[each] for each in ("card.mean_1h", "over", "hour")] == [3.0, 0.5, 23.0]
    assert found["log"] == oracle_derived.log1p(1.0) == 0.6931471805599453


@given(worlds(EVERYTHING, FAULTS))
def test_every_row_has_one_fate_and_the_order_of_arrival_does_not_matter(world: World) -> None:
    rows, tied = world.events["tx"], set()
    found = fates(EVERYTHING.source("tx"), rows, EVERYTHING.views)
    assert len(found) == len(rows)
    assert all((each.name == "quarantined") == (each.reason is not None) for each in found)
    for each in usable(EVERYTHING.source("tx"), rows):
        tied.add(each.order)
    kept = [rows[each.position] for each in usable(EVERYTHING.source("tx"), rows)]
    assert len(tied) == len(kept)
    forward = features(EVERYTHING, {"tx": rows}, world.spine)
    assert features(EVERYTHING, {"tx": kept[::-1]}, world.spine) == forward


LEAVES = st.sampled_from([("feature", "x", 1), ("feature", "y", 1), ("request", "r", 100)]) | st.sampled_from(
    (0.0, 1.0, -1.0, 0.1, -2.5, 1e6)
).map(lambda number: ("literal", number))


def derived_calls(args: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arity = {op: n for op, n in derived.ARITY.items() if op not in ("hour_of_day", "day_of_week", "cosine")}
    return st.sampled_from(sorted(arity)).flatmap(
        lambda op: st.tuples(st.just(op), *[args] * (arity[op] or 2))
    ) | st.sampled_from(("hour_of_day", "day_of_week")).map(lambda op: (op, ("request", "ms", 1)))


numbers = st.none() | st.sampled_from((0.0, 1.0, -1.0)) | st.integers(-(10**9), 10**9).map(lambda each: each / 1024)


@settings(max_examples=500)
@given(
    st.recursive(LEAVES, derived_calls, max_leaves=12),
    st.lists(st.tuples(numbers, numbers, st.none() | st.integers(-99, 99), st.integers(-(10**14), 10**14)), min_size=1),
)
@example(("round", ("feature", "x", 1)), [(-0.25, None, None, 0), (-0.5, None, None, 0), (0.5, None, None, 0)])
def test_the_evaluator_of_derived_features_agrees_to_the_bit(expression: Any, rows: list[tuple[Any, ...]]) -> None:
    columns: dict[str, Values] = {}
    for name, cells in zip(("x", "y", "r", "ms"), zip(*rows, strict=True), strict=True):
        valid = np.array([each is not None for each in cells])
        kind = np.float64 if name in ("x", "y") else np.int64
        columns[name] = Values(np.array([each or 0 for each in cells], kind), valid)
    with np.errstate(all="ignore"):
        found = derived.evaluate(expression, columns, len(rows))
    engine = [number.hex() if ok else None for number, ok in zip(found.data.tolist(), found.valid, strict=True)]
    ours = [oracle.derived_value(expression, {"x": x, "y": y}, {"r": r, "ms": ms}) for x, y, r, ms in rows]
    assert [None if each is None else each.hex() for each in ours] == engine


def test_log1p_gives_the_bits_of_the_portable_one() -> None:
    draw = np.random.default_rng(7)
    sizes = 2.0 ** draw.uniform(-1074, 1023, 4000)
    near = [np.nextafter(each, way) for each in (2**0.5 - 1, 0.5**0.5 - 1, 1.0, 2.0**-54, 3.0) for way in (-9, 0, 9e9)]
    x = np.concatenate([
        sizes, draw.uniform(-1, 1, 3000), draw.uniform(-1, 10, 2000), -1 + 2.0 ** draw.uniform(-53, 0, 500),
        -(2.0 ** draw.uniform(-60, -1, 500)), [0.0, -0.0, np.nextafter(-1, 0), np.finfo(np.float64).max, *near],
    ])  # fmt: skip
    assert len(x) > 10_000
    ours = [oracle_derived.log1p(each) for each in x.tolist()]
    assert [None if each is None else each.hex() for each in ours] == [
        each.hex() for each in portable.log1p(x).tolist()
    ]


# Row expressions against DuckDB

COLUMNS = {"a": Int64(-(2**30), 2**30), "b": Int32(-4, 4), "d": Decimal(6, 2), "s": String, "t": Timestamp, "u": Bool}
SQL = {"a": "BIGINT", "b": "BIGINT", "d": "BIGINT", "s": "VARCHAR", "t": "BIGINT", "u": "BOOLEAN"}
OPERATORS = ("__add__", "__sub__", "__mul__", "__floordiv__", "__mod__")
PARTS = (hour_of_day, day_of_week, minute_of_hour, day_of_month, month, year)
exprs = st.deferred(lambda: whole | truths | strings)
strings: st.SearchStrategy[Expr] = st.deferred(
    lambda: (
        st.just(col("s"))
        | st.builds(lambda a, to: a.cast(to), whole | truths, st.just(String))
        | st.sampled_from(("", "A", "é", "😀b")).map(lambda each: coalesce(None, each))
        | st.builds(concat, strings, strings)
        | st.builds(Expr.lower, strings)
        | st.builds(Expr.upper, strings)
        | st.builds(Expr.substr, strings, st.integers(1, 4), st.integers(1, 4))
        | st.builds(Expr.split_part, strings, st.sampled_from((",", "ab", "é")), st.integers(1, 3))
        | st.builds(if_else, truths, strings, strings)
    )
)
whole: st.SearchStrategy[Expr] = st.deferred(
    lambda: (
        st.sampled_from([col("a"), col("b"), col("d"), *(part(col("t")) for part in PARTS)])
        | st.sampled_from((0, 1, -2, 3, 0.5, -1.25)).map(lambda each: coalesce(None, each))
        | st.builds(lambda op, a, b: getattr(a, op)(b), st.sampled_from(OPERATORS), whole, whole)
        | st.builds(lambda a, to: a.cast(to), whole, st.sampled_from((Int64, Decimal(9, 1))))
        | st.builds(coalesce, whole, whole)
        | st.builds(if_else, truths, whole, whole)
        | st.builds(Expr.abs, whole)
        | st.builds(greatest, whole, whole)
        | st.builds(least, whole, whole, whole)
        | st.builds(lambda a: a.bucketize(-1, 0.5, 3), whole)
        | st.builds(Expr.length, strings)
        | st.builds(lambda a, to: a.cast(to), strings, st.sampled_from((Int32, Int64, Decimal(9, 2))))
        | st.builds(lambda a: a.cast(Int64), truths)
        | st.builds(lambda a: a.cast(Float(-100.0, 100.0, 0.125)).cast(Int64), whole)
        | st.just(col("t").cast(Int64))
    )
)
truths: st.SearchStrategy[Expr] = st.deferred(
    lambda: (
        st.sampled_from([col("u"), col("s") == "é", col("s").isin("", "é")])
        | st.builds(
            lambda op, a, b: getattr(a, op)(b), st.sampled_from(("__lt__", "__eq__", "__ne__", "__ge__")), whole, whole
        )
        | st.builds(lambda op, a, b: getattr(a, op)(b), st.sampled_from(("__and__", "__or__")), truths, truths)
        | st.builds(lambda a: ~a, truths)
        | st.builds(Expr.is_null, whole)
        | st.builds(lambda a, b: a.isin(b, 2), whole, whole)
        | st.builds(lambda a, b: a.between(b, 3), whole, whole)
        | st.builds(lambda a, b: getattr(a, b)("b"), strings, st.sampled_from(("starts_with", "contains")))
        | st.builds(lambda a, b: a == b, strings, strings)
        | st.builds(lambda a: a.cast(Bool), whole)
        | st.builds(lambda a: a.cast(Timestamp) > col("t"), whole)
    )
)


@settings(max_examples=300 * DEPTH, deadline=None)
@given(
    exprs,
    st.fixed_dictionaries({
        "a": st.none() | st.integers(-(2**30), 2**30), "b": st.none() | st.integers(-4, 4),
        "d": st.none() | st.integers(-999_999, 999_999), "s": st.none() | st.sampled_from(("", "é", "e", "-12", "007", "1.5", "-0.05", "Zab,b", "ab", "12é,é", "😀😀", "9223372036854775808")),
        "t": st.none() | st.integers(-(10**13), 10**13), "u": st.none() | st.booleans(),
    }),
)  # fmt: skip
def test_row_expressions_agree_with_duckdb(expr: Expr, cells: dict[str, Any]) -> None:
    try:
        node = bind(expr, COLUMNS, {})
    except DefinitionError:
        assume(False)
    assume(len(render(node, DUCKDB)) < 20_000)  # DuckDB takes minutes to plan more
    given_ = ", ".join(f'CAST(${name} AS {kind}) AS "{name}"' for name, kind in SQL.items())
    found = duckdb.execute(f"SELECT {render(node, DUCKDB)} FROM (SELECT {given_})", cells).fetchone()
    ours = oracle.lifted(node, cells)
    assert found == (ours,)
    if isinstance(ours, int) and not isinstance(ours, bool):
        lo, hi = node.type.bounds
        assert lo <= ours <= hi
