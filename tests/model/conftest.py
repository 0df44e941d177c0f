"""The handbook's training set, made by DuckDB in seconds; test_handbook.py proves that the backfill gives the same."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tests.feature_defs.test_handbook import direct_sql

COLUMNS = """
SELECT CUSTOMER_ID, TX_AMOUNT, TX_DATETIME, TX_FRAUD, direct.* EXCLUDE (TRANSACTION_ID),
    coalesce("terminal_risk.fraud_rate_1d", 0.0) AS terminal_risk_1d,
    coalesce("terminal_risk.fraud_rate_7d", 0.0) AS terminal_risk_7d,
    coalesce("terminal_risk.fraud_rate_30d", 0.0) AS terminal_risk_30d,
    CAST(isodow(TX_DATETIME) > 5 AS DOUBLE) AS during_weekend,
    CAST(hour(TX_DATETIME) <= 6 AS DOUBLE) AS during_night
FROM read_parquet($1) JOIN direct USING (TRANSACTION_ID)
WHERE TX_DATETIME >= '2018-07-24' AND TX_DATETIME < '2018-08-16'
ORDER BY TRANSACTION_ID
"""


@cache
def around_the_single_split(path: Path) -> pa.Table:
    """Compute the rows once for all tests."""
    query = f"WITH direct AS ({direct_sql()}) {COLUMNS}"
    return duckdb.connect().sql(query, params=[str(path)]).to_arrow_table()


@pytest.fixture
def handbook_training_set(shared_data: Callable[[str], Path]) -> pa.Table:
    """Return the rows around the weeks of the published single split, start 2018-07-25."""
    return around_the_single_split(shared_data("card_transactions_handbook.parquet"))
