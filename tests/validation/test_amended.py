"""A log of changes: amendments and deletions wait for the next upload, and parity tells so, on real Flink and Beam."""

import pytest

from unskew.pipelines import (
    Bool,
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
    plan,
)
from unskew.pipelines.backends import beam_judge
from unskew.pipelines.errors import DefinitionError
from unskew.testing import FeatureCase
from unskew.validation import parity as parity_module
from unskew.validation.adversarial import adversarial
from unskew.validation.parity import parity

SCHEMA = {
    "id": Int64, "at": Timestamp, "seen": Timestamp, "card": Int64, "amount": Decimal(12, 2), "shop": String, "gone": Bool,
}  # fmt: skip
CHANGES = EventSource(
    "changes", SCHEMA, event_time="at", event_id="id", arrival="seen", amended=True, deleted=col("gone")
)
VIEW = FeatureView(
    "card", Entity("card", "card"), CHANGES,
    {
        "n": count().over("1h", "7d"), "sum": col("amount").sum().over("1h", "7d"), "most": col("amount").max().over("7d"),
        "shops": count().by(col("shop")).over("7d"), "last": col("shop").last().over("7d"),
        "values": col("amount").last_k(3).over("7d"), "day": col("amount").sum().per("1d").mean().over("7d", hop="1d"),
    },
)  # fmt: skip
PLAN = plan(FeatureSet("amended", [VIEW]))
EVENTS = """
    id | at               | seen             | card | amount | shop | gone
    1  | 2025-01-01 10:00 | 2025-01-01 10:01 | 7    | 10.00  | a    | null
    2  | 2025-01-01 10:05 | 2025-01-01 10:06 | 7    | 20.00  | b    | false
    1  | 2025-01-01 10:00 | 2025-01-03 10:00 | 7    | 1.00   | a    | null
    2  | 2025-01-01 10:05 | 2025-01-03 10:00 | 7    | null   | null | true
    3  | 2025-01-01 10:06 | 2025-01-01 10:07 | 8    | 5.00   | a    | null
    3  | 2025-01-01 10:06 | 2025-01-01 10:08 | 7    | 5.00   | a    | null
"""


@pytest.mark.parametrize("engine", ["oracle", "beam"])
def test_the_last_copy_counts(engine: str) -> None:
    case = FeatureCase(FeatureSet("amended", [VIEW]), engine)
    case.events("changes", EVENTS)
    case.expect("""
        t                | card | n_7d | sum_7d | shops_7d | values_7d  | last_7d
        2025-01-02 10:00 | 7    | 2    | 6.0    | {"a": 2} | [5.0, 1.0] | a
        2025-01-02 10:00 | 8    | 0    | 0.0    | null     | null       | null
    """)


def test_parity_holds_under_attack() -> None:
    report = parity(PLAN, adversarial(PLAN, range(4)), probes=2_000)
    assert report.unexplained == 0
    assert report.causes["late"] > 0


def test_amendments_that_batch_forgets_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_ones(identities: object) -> object:
        return beam_judge.losers(identities)

    monkeypatch.setattr(beam_judge, "versions", first_ones)
    monkeypatch.setattr(parity_module, "shrink", lambda *_: None)  # many runs of Flink; it has tests of its own
    report = parity(PLAN, adversarial(PLAN, range(2)), probes=1_000)
    assert report.unexplained > 0


def test_what_cannot_be_amended_is_refused() -> None:
    with pytest.raises(DefinitionError, match="source `tx` is amended, but has no identity"):
        EventSource("tx", SCHEMA, event_time="at", amended=True)
    with pytest.raises(DefinitionError, match="`deleted` of `tx` is a condition over the columns of an amended source"):
        EventSource("tx", SCHEMA, event_time="at", event_id="id", deleted=col("gone"))
    bad = EventSource("tx", SCHEMA, event_time="at", event_id="id", amended=True, deleted=col("amount"))
    with pytest.raises(DefinitionError, match="is no condition"):
        plan(FeatureSet("s", [FeatureView("v", VIEW.entity, bad, {"n": count().over("1h")})]))


def test_amendments_are_part_of_the_fingerprint() -> None:
    plain = EventSource("changes", SCHEMA, event_time="at", event_id="id", arrival="seen")
    kept = EventSource("changes", SCHEMA, event_time="at", event_id="id", arrival="seen", amended=True)
    prints = {
        plan(FeatureSet("s", [FeatureView("v", VIEW.entity, each, {"n": count().over("1h")})])).fingerprint
        for each in (plain, kept, CHANGES)
    }
    assert len(prints) == 3
