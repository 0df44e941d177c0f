"""One view read under several keys: origin and destination, buyer and seller."""

import pytest

from unskew.pipelines import (
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int64,
    String,
    Timestamp,
    col,
    count,
    feature,
    plan,
)
from unskew.pipelines.backends.flink import compile_source
from unskew.pipelines.errors import DefinitionError
from unskew.testing import FeatureCase

transfers = EventSource(
    "transfers", {"id": Int64, "at": Timestamp, "account": Int64, "amount": Decimal(12, 2), "bank": String},
    event_time="at", event_id="id",
)  # fmt: skip
activity = FeatureView(
    "activity",
    Entity("account", "account"),
    transfers,
    {"n": count().over("1h"), "most": col("amount").max().over("1d")},
)
both = FeatureSet(
    "both", [activity.joined("payer", account="payer_id"), activity.joined("payee", account="payee_id"), activity],
    derived={"share": feature("payer_activity.n_1h") / feature("payee_activity.n_1h")},
)  # fmt: skip
EVENTS = """
    at                  | account | amount
    2025-01-01 12:00    | 1       | 10
    2025-01-01 12:01    | 1       | 30
    2025-01-01 12:02    | 2       | 5
"""
EXPECTED = """
    t                | payer_id | payee_id | account | payer_activity.n_1h | payee_activity.n_1h | activity.n_1h | payee_activity.most_1d | share
    2025-01-01 12:30 | 1        | 2        | 3       | 2                   | 1                   | 0             | 5.0                    | 2.0
    2025-01-01 12:30 | 2        | 1        | null    | 1                   | 2                   | 0             | 30.0                   | 0.5
"""


@pytest.mark.parametrize("engine", ["oracle", "beam", "flink"])
def test_values_under_each_key(engine: str) -> None:
    case = FeatureCase(both, engine)
    case.events("transfers", EVENTS)
    case.expect(EXPECTED)


def test_the_state_is_kept_once_under_the_views_own_name() -> None:
    found = plan(both)
    assert [each.name for each in found.views] == ["activity"]
    assert [each.stored for each in found.reads] == ["activity"] * 3
    streams = [each.name for each in compile_source(found, "transfers", "/in", "/out").streams]
    assert streams == ["activity__tiles", "quarantine", "late", "skipped", "fates"]


def test_keys_are_part_of_the_fingerprint_and_the_state_is_not_changed_by_them() -> None:
    alone, joined = plan(FeatureSet("alone", [activity])), plan(both)
    assert joined.views == alone.views
    prints = joined.fingerprints()
    assert prints["activity.n_1h"] == alone.fingerprints()["activity.n_1h"]
    assert len({prints[f"{each}activity.n_1h"] for each in ("payer_", "payee_", "")}) == 3


def test_wrong_joins() -> None:
    with pytest.raises(DefinitionError, match=r"is joined by `\['acount'\]`, its keys are `\['account'\]`"):
        activity.joined("payer", acount="payer_id")
    with pytest.raises(DefinitionError, match="stands twice in set `twice`; rename one, or join it under a prefix"):
        FeatureSet("twice", [activity.joined("a", account="x"), activity.joined("a", account="y")])
    named = FeatureView("banks", Entity("bank", "bank"), transfers, {"n": count().over("1h")})
    with pytest.raises(
        DefinitionError, match="column `x` of set `types` is a key of type `Int64` and of type `String`"
    ):
        FeatureSet("types", [activity.joined("a", account="x"), named.joined("b", bank="x")])
