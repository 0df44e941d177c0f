"""Definitions that the servers under test serve: every type and aggregate, and a small set that takes events."""

from tests.conformance.cases import EVERYTHING
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
    request,
)

everything = EVERYTHING
tx = EventSource(
    "tx",
    {"id": Int64, "ts": Timestamp, "seen": Timestamp, "who": Int64, "shop": String, "amount": Decimal(12, 2), "big": Int64},
    event_time="ts",
    event_id="id",
    arrival="seen",
    topic="tx",
)  # fmt: skip
cards = FeatureSet(
    "cards",
    [
        FeatureView(
            "card", Entity("card", "who"), tx,
            {
                "n": count().over("1h", "1d").described("payments"),
                "spent": col("amount").sum().over("1d"),
                "most": col("big").max().over("1d"),
                "shops": col("shop").histogram().over("1d"),
            },
        ),
        FeatureView("shop", Entity("shop", "shop"), tx, {"n": count().over("1d", "12d")}),
    ],
    request={"paid": Decimal(12, 2), "asked_at": Timestamp},
    derived={"share": request("paid") / feature("card.spent_1d")},
)  # fmt: skip
