"""28 features of card payments, 14 for each side: what the reads of `bench_feast` read."""

from unskew.feature_defs.fraud import WINDOWS, handbook_customer, handbook_terminal, handbook_transactions
from unskew.pipelines import FeatureSet, FeatureView, col, count
from unskew.pipelines.expr import Windowed


def side(other: str) -> dict[str, Windowed]:
    """Return the features of one side of a payment."""
    paid = col("TX_AMOUNT")
    return {
        "tx_count": count().over(*WINDOWS),
        "amount_mean": paid.mean().over(*WINDOWS),
        "amount_max": paid.max().over(*WINDOWS),
        "partners": col(other).count_distinct().over("1d", "7d"),
    }


customers = FeatureView("customers", handbook_customer, handbook_transactions, side("TERMINAL_ID"))
terminals = FeatureView("terminals", handbook_terminal, handbook_transactions, side("CUSTOMER_ID"))
features28 = FeatureSet("features28", [customers, terminals])
