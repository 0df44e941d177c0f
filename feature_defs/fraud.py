"""Card fraud: what a customer does, how a terminal fares; labels arrive a week late.

`fraud` reads the simulator's log, with labels as a stream of their own; `fraud_handbook` reads the
fraud handbook's table, where the label is a column that is known a week later.
"""

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
    feature,
    request,
)
from unskew.pipelines.expr import Windowed

WINDOWS = ("1h", "1d", "7d", "30d")


def activity(amount: str, other: str, label: str) -> dict[str, Windowed]:
    """Return the features of one side of a payment: how often, how much, with whom, how recently."""
    paid = col(amount)
    return {
        "tx_count": count().over(*WINDOWS).described(f"transactions of the {label}"),
        "amount_sum": paid.sum().over(*WINDOWS),
        "amount_mean": paid.mean().over(*WINDOWS),
        "amount_min": paid.min().over("7d", "30d"),
        "amount_max": paid.max().over(*WINDOWS),
        "partners": col(other).count_distinct().over("1d", "7d"),
        "since_last": paid.time_since_last().over("30d").described(f"ms since the {label}'s last payment"),
    }


transactions = EventSource(
    "transactions",
    schema={
        "transaction_id": Int64,
        "event_time": Timestamp,
        "arrival_time": Timestamp,
        "customer_id": Int64,
        "terminal_id": Int64,
        "amount": Decimal(12, 2),
        "country": String,
    },
    event_time="event_time",
    event_id="transaction_id",
    arrival="arrival_time",
    topic="transactions",
    archive="build/live/transactions",
)
labels = EventSource(
    "labels",
    schema={
        "transaction_id": Int64,
        "event_time": Timestamp,
        "arrival_time": Timestamp,
        "customer_id": Int64,
        "terminal_id": Int64,
        "is_fraud": Bool,
    },
    event_time="event_time",
    event_id="transaction_id",
    arrival="arrival_time",
    allowed_lateness="8d",
    label_delay="7d",
    topic="labels",
    archive="build/live/labels",
)
customer = Entity("customer", key="customer_id")
terminal = Entity("terminal", key="terminal_id")

customer_activity = FeatureView(
    "customer_activity",
    customer,
    transactions,
    {
        **activity("amount", "terminal_id", "customer"),
        "last_amounts": col("amount").last_k(5).over("30d"),
        "last_country": col("country").last().over("30d"),
    },
)
terminal_activity = FeatureView(
    "terminal_activity", terminal, transactions, activity("amount", "customer_id", "terminal")
)
terminal_risk = FeatureView(
    "terminal_risk",
    terminal,
    labels,
    {"fraud_rate": col("is_fraud").mean().over("1d", "7d", "30d", delay="7d").described("share of known frauds")},
)
fraud = FeatureSet(
    "fraud",
    views=[customer_activity, terminal_activity, terminal_risk],
    request={"amount": Decimal(12, 2)},
    derived={"amount_ratio": request("amount") / feature("customer_activity.amount_mean_30d")},
)

handbook_transactions = EventSource(
    "handbook_transactions",
    schema={
        "TRANSACTION_ID": Int64,
        "TX_DATETIME": Timestamp,
        "CUSTOMER_ID": Int64,
        "TERMINAL_ID": Int64,
        "TX_AMOUNT": Decimal(12, 2),
        "TX_FRAUD": Int64(0, 1),
    },
    event_time="TX_DATETIME",
    event_id="TRANSACTION_ID",
    known_after={"TX_FRAUD": "7d"},
)
handbook_customer = Entity("customer", key="CUSTOMER_ID")
handbook_terminal = Entity("terminal", key="TERMINAL_ID")

fraud_handbook = FeatureSet(
    "fraud_handbook",
    views=[
        FeatureView(
            "customer_activity",
            handbook_customer,
            handbook_transactions,
            {
                **activity("TX_AMOUNT", "TERMINAL_ID", "customer"),
                "last_amounts": col("TX_AMOUNT").last_k(5).over("30d"),
            },
        ),
        FeatureView(
            "terminal_activity",
            handbook_terminal,
            handbook_transactions,
            activity("TX_AMOUNT", "CUSTOMER_ID", "terminal"),
        ),
        FeatureView(
            "terminal_risk",
            handbook_terminal,
            handbook_transactions,
            {"fraud_rate": col("TX_FRAUD").mean().over("1d", "7d", "30d", delay="7d")},
        ),
    ],
    request={"TX_AMOUNT": Decimal(12, 2)},
    derived={"amount_ratio": request("TX_AMOUNT") / feature("customer_activity.amount_mean_30d")},
)
