"""The features of the fraud handbook, reproduced exactly: read one millisecond after the transaction."""

from unskew.feature_defs.fraud import handbook_customer, handbook_terminal, handbook_transactions
from unskew.pipelines import (
    Decimal,
    FeatureSet,
    FeatureView,
    Timestamp,
    coalesce,
    col,
    count,
    day_of_week,
    feature,
    hour_of_day,
    if_else,
    request,
)

WINDOWS = ("1d", "7d", "30d")
RISKS = {f"terminal_risk_{each}": coalesce(feature(f"terminal_risk.fraud_rate_{each}"), 0) for each in WINDOWS}

handbook = FeatureSet(
    "handbook",
    views=[
        FeatureView(
            "customer_activity",
            handbook_customer,
            handbook_transactions,
            {
                "tx_count": count().over(*WINDOWS, hop="1ms"),
                "amount_mean": col("TX_AMOUNT").mean().over(*WINDOWS, hop="1ms"),
            },
        ),
        FeatureView(
            "terminal_risk",
            handbook_terminal,
            handbook_transactions,
            {
                "tx_count": count().over(*WINDOWS, hop="1ms", delay="7d"),
                "fraud_rate": col("TX_FRAUD").mean().over(*WINDOWS, hop="1ms", delay="7d"),
            },
        ),
    ],
    request={"TX_AMOUNT": Decimal(12, 2), "TX_DATETIME": Timestamp},
    derived={
        **RISKS,
        "during_weekend": if_else(day_of_week(request("TX_DATETIME")) >= 5, 1, 0),  # noqa: PLR2004 - Saturday
        "during_night": if_else(hour_of_day(request("TX_DATETIME")) <= 6, 1, 0),  # noqa: PLR2004 - as published
    },
)
