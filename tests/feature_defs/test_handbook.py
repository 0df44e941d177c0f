"""The handbook's features on all of its transactions, against a direct recomputation in DuckDB."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

from unskew.backfill.training import backfill
from unskew.feature_defs.handbook import handbook

DAY = 86_400_000
DIRECT = """
WITH tx AS (
    SELECT *, epoch_ms(TX_DATETIME) AS ms, CAST(round(TX_AMOUNT * 100) AS BIGINT) AS cents FROM read_parquet($1)
)
SELECT TRANSACTION_ID, {columns}
FROM tx
WINDOW {windows}
ORDER BY TRANSACTION_ID
"""


def direct_sql() -> str:
    """Spell the windows out: (tx - W, tx] for customers, the same a week earlier for terminals."""
    columns, windows = [], []
    for days in (1, 7, 30):
        span = days * DAY - 1
        windows += [
            f"c{days} AS (PARTITION BY CUSTOMER_ID ORDER BY ms RANGE BETWEEN {span} PRECEDING AND CURRENT ROW)",
            f"t{days} AS (PARTITION BY TERMINAL_ID ORDER BY ms "
            f"RANGE BETWEEN {span + 7 * DAY} PRECEDING AND {7 * DAY} PRECEDING)",
        ]
        total = f"count(*) OVER t{days}"
        columns += [
            f'count(*) OVER c{days} AS "customer_activity.tx_count_{days}d"',
            f"CAST(sum(cents) OVER c{days} AS DOUBLE) / CAST(count(*) OVER c{days} * 100 AS DOUBLE) "
            f'AS "customer_activity.amount_mean_{days}d"',
            f'{total} AS "terminal_risk.tx_count_{days}d"',
            f"CAST(sum(TX_FRAUD) OVER t{days} AS DOUBLE) / CAST(NULLIF({total}, 0) AS DOUBLE) "
            f'AS "terminal_risk.fraud_rate_{days}d"',
        ]
    return DIRECT.format(columns=", ".join(columns), windows=", ".join(windows))


def test_the_backfill_equals_a_direct_recomputation(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("card_transactions_handbook.parquet")
    spine = (
        duckdb.connect()
        .sql(
            "SELECT TRANSACTION_ID, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_DATETIME, TX_DATETIME + to_milliseconds(1) AS t "
            "FROM read_parquet($1) ORDER BY TRANSACTION_ID",
            params=[str(path)],
        )
        .to_arrow_table()
    )
    found = backfill(handbook, path, spine)
    expected = duckdb.connect().sql(direct_sql(), params=[str(path)]).to_arrow_table()
    assert found.num_rows == expected.num_rows == 1_754_155
    for name in expected.column_names:
        left, right = (pa.chunked_array(each[name]).combine_chunks() for each in (found, expected))
        assert left.equals(right.cast(left.type)), name
    for days in (1, 7, 30):
        risk = found[f"terminal_risk_{days}d"]
        assert risk.null_count == 0
        assert risk.combine_chunks().equals(found[f"terminal_risk.fraud_rate_{days}d"].combine_chunks().fill_null(0.0))
