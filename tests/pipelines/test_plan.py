"""From definitions to the plan: names, sharing, refusals, fingerprints."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from unskew.feature_defs.fraud import fraud, fraud_handbook
from unskew.feature_defs.handbook import handbook
from unskew.pipelines import (
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Float,
    Int64,
    String,
    Timestamp,
    col,
    count,
    feature,
    log1p,
    plan,
    ratio,
    request,
)
from unskew.pipelines.canonical import canonical
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.expr import Windowed

SCHEMA = {"id": Int64, "ts": Timestamp, "card": Int64, "amount": Decimal(12, 2), "country": String, "n": Int64}


def source(**changes: Any) -> EventSource:
    return EventSource(**{"name": "tx", "schema": SCHEMA, "event_time": "ts", "event_id": "id", **changes})


def view(features: dict[str, Windowed], where: EventSource | None = None, **changes: Any) -> FeatureView:
    return FeatureView("card", Entity("card", "card"), where or source(), features, **changes)


def one(windowed: Windowed, **changes: Any) -> FeatureSet:
    return FeatureSet("s", [view({"x": windowed}, source(**changes))])


def test_features_are_named_by_their_windows() -> None:
    found = plan(FeatureSet("s", [view({"n": count().over("1h", "7d"), "m": col("amount").mean().over("1d")})]))
    assert [each.name for each in found.views[0].features] == ["card.n_1h", "card.n_7d", "card.m_1d"]


def test_equal_state_fields_are_shared() -> None:
    amount = col("amount")
    features = {"a": amount.mean().over("1d"), "b": amount.sum().over("1h"), "c": amount.mean().over("7d")}
    found = plan(FeatureSet("s", [view(features)])).views[0]
    assert [each.kind for each in found.fields] == ["add", "add"]
    assert [each.fields for each in found.features] == [(0, 1), (0,), (0, 1)]
    assert found.hops == (300_000, 3_600_000)


@pytest.mark.parametrize("feature_set", [fraud, fraud_handbook, handbook])
def test_the_plan_is_deterministic_json(feature_set: FeatureSet) -> None:
    text = canonical(plan(feature_set).to_json())
    assert text == canonical(plan(feature_set).to_json())
    assert json.loads(text)["fingerprint"] == plan(feature_set).fingerprint


BASE = col("amount").mean().where(col("country") == "US").over("1d")


def print_of(windowed: Windowed, **changes: Any) -> str:
    return plan(one(windowed, **changes)).views[0].features[0].fingerprint


def test_words_do_not_change_a_fingerprint() -> None:
    assert print_of(BASE) == print_of(BASE.described("mean", owner="me"))
    assert print_of(BASE) == print_of(BASE, topic="elsewhere", archive="folder")


@pytest.mark.parametrize(
    ("windowed", "changes"),
    [
        (col("amount").mean().where(col("country") != "US").over("1d"), {}),
        (col("amount").mean().where(col("country") == "U'S").over("1d"), {}),
        (col("amount").sum().where(col("country") == "US").over("1d"), {}),
        (replace(BASE, windows=col("n").sum().over("1d", hop="5min").windows), {}),
        (replace(BASE, windows=col("n").sum().over("1d", delay="1h").windows), {}),
        (BASE, {"allowed_lateness": "2d"}),
        (BASE, {"deduplicate": False}),
        (BASE, {"schema": {**SCHEMA, "amount": Decimal(10, 2)}}),
    ],
)
def test_semantics_change_a_fingerprint(windowed: Windowed, changes: dict[str, Any]) -> None:
    assert print_of(windowed, **changes) != print_of(BASE)


def test_only_computed_columns_get_a_range() -> None:
    features = {"a": col("n").sum().over("1d"), "b": col("card").count_distinct().over("1d")}
    found = plan(FeatureSet("s", [view(features)])).sources[0]
    assert found.column("n").type.hi == 2**40
    assert found.column("card").type.hi is None
    assert found.column("id").type.hi is None


Make = Callable[[], object]
LABELS = {"schema": {**SCHEMA, "fraud": Int64(0, 1)}, "known_after": {"fraud": "7d"}}
REFUSED: dict[str, Make] = {
    "column `amuont` is unknown; did you mean `amount`": lambda: plan(one(col("amuont").sum().over("1d"))),
    "feature `card.x`: an aggregate over numbers was given `String`": lambda: plan(one(col("country").sum().over("1d"))),
    "needs an order, but source `tx` has no event_id": lambda: plan(one(col("n").last().over("1d"), event_id=None)),
    "filter of type `Int64` is no condition": lambda: plan(one(count().where(col("n")).over("1d"))),
    "past 2\\*\\*40; declare a tighter range": lambda: plan(one((col("n") * 2).sum().over("1d"))),
    "delay `0` reads labels that are known after 7d": lambda: plan(one(col("fraud").mean().over("1d"), **LABELS)),
    "allowed_lateness `7d` of `tx` is less than": lambda: source(label_delay="7d", allowed_lateness="7d"),
    "hops `2h` and `3h` of view `card` do not nest": lambda: plan(
        FeatureSet("s", [view({"a": count().over("6h", hop="2h"), "b": count().over("6d", hop="3h")})])
    ),
    "feature `card.x_1d` is defined twice": lambda: plan(one(count().over("1d", "24h"))),
    "feature `card.x` has no window": lambda: view({"x": count()}),  # type: ignore[dict-item]
    "view `card` stands twice": lambda: FeatureSet("s", [view({"x": BASE}), view({"x": BASE})]),
    "two sources are named `tx`": lambda: FeatureSet(
        "s", [view({"x": BASE}), FeatureView("other", Entity("card", "card"), source(), {"x": BASE})]
    ),
    "event_time column `tz` of `tx` is unknown; known: `amount`": lambda: source(event_time="tz"),
    "event_time column `id` of `tx` is `Int64`; declare a Timestamp": lambda: source(event_time="id"),
    "projection `n` of `tx` has the name of a column": lambda: source(projections={"n": col("id")}),
    "key `crad` of view `v` is unknown": lambda: FeatureView("v", Entity("c", "crad"), source(), {"x": BASE}),
    "key `amount` of view `v` is": lambda: FeatureView("v", Entity("c", "amount"), source(), {"x": BASE}),
    "view name `a b` is no plain identifier": lambda: FeatureView("a b", Entity("c", "card"), source(), {"x": BASE}),
    "derived feature `d`: feature `card.y_1d` is unknown; did you mean `card.x_1d`": lambda: plan(
        replace(one(BASE), derived={"d": feature("card.y_1d") + 1})
    ),
    "derived feature `d`: request `q` is unknown": lambda: plan(replace(one(BASE), derived={"d": request("q") + 1})),
    "operation `floordiv` is not defined on derived": lambda: plan(
        replace(one(BASE), derived={"d": feature("card.x_1d") // 2})
    ),
    "parameter `0` of `last_k` is not a whole number from 1": lambda: col("n").last_k(0),
    "takes the parameters": lambda: col("n").last_k(),
    "takes 2 column": lambda: col("n").ratio(),
    "quantum `0.3` is not 1/n": lambda: Float(0, 1, quantum=0.3),
    "decimal `\\(20, 2\\)` does not fit": lambda: Decimal(20, 2),
    "range `5`..`1` is empty": lambda: Int64(5, 1),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_mistakes_are_refused_before_any_job(message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        REFUSED[message]()


def test_ratio_and_derived_features_are_planned() -> None:
    features = {"r": ratio(col("amount"), col("n")).over("1d")}
    found = plan(FeatureSet("s", [view(features)], derived={"d": log1p(feature("card.r_1d")).clip(0, 1)}))
    assert found.derived[0].expression == (
        "clip", ("log1p", ("feature", "card.r_1d", 1)), ("literal", 0.0), ("literal", 1.0),
    )  # fmt: skip
    assert set(found.fingerprints()) == {"card.r_1d", "d"}


def test_names_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(DefinitionError, match="`k` and `K` of source `tx` differ in case only"):
        EventSource("tx", {"ts": Timestamp, "k": Int64, "K": Int64}, event_time="ts")
    source = EventSource("tx", {"ts": Timestamp, "k": Int64}, event_time="ts")
    view = FeatureView("v", Entity("k", "k"), source, {"n": count().over("1h")})
    with pytest.raises(DefinitionError, match="`K` and `k` of set `s`: keys and request columns differ in case only"):
        FeatureSet("s", [view], request={"K": Int64})
    with pytest.raises(DefinitionError, match="request column `k` of set `s` is `String`, as a key it is"):
        FeatureSet("s", [view], request={"k": String})
    with pytest.raises(DefinitionError, match="set `s` has no views"):
        FeatureSet("s", [])
