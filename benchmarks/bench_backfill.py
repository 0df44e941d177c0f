"""Spine rows a second of the backfill, beside hand-written DuckDB window SQL of the same features.

Both read the fraud handbook's Parquet and write Parquet, each in a process of its own. The time is that of the work:
Python's start and its imports are apart. The windows of DuckDB lie on the same grid: its frames reach back from each
row's own instant to the tile's start.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import psutil  # type: ignore[import-untyped]
import pyarrow.parquet as pq

DATA = Path(__file__).parents[1].resolve().parent / "shared" / "data" / "card_transactions_handbook.parquet"
MIB = 2**20
HOUR, DAY = 3_600_000, 86_400_000
HOPS = {"1h": (HOUR, 300_000), "1d": (DAY, HOUR), "7d": (7 * DAY, HOUR), "30d": (30 * DAY, DAY)}  # size, hop: ms
SIDES = {"customer_activity": ("CUSTOMER_ID", "TERMINAL_ID"), "terminal_activity": ("TERMINAL_ID", "CUSTOMER_ID")}
OURS = """
import sys, time, duckdb
from unskew.backfill.training import backfill
from unskew.feature_defs.fraud import fraud_handbook
began = time.perf_counter()
spine = duckdb.sql("SELECT TRANSACTION_ID, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_DATETIME + to_milliseconds(1) AS t FROM read_parquet(?)", params=[sys.argv[1]])
backfill(fraud_handbook, sys.argv[1], spine.to_arrow_table(), output=sys.argv[2])
print(time.perf_counter() - began)
"""
THEIRS = """
import sys, time, duckdb
sys.path.insert(0, sys.argv[3])
from bench_backfill import window_sql
began = time.perf_counter()
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")
connection.execute(f"COPY ({window_sql()}) TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)", [sys.argv[1]])
print(time.perf_counter() - began)
"""


def frame(size: int, hop: int, delay: int) -> str:
    """Return a frame from the tail on the grid to the head, both seen from the row's instant `ms`, read 1 ms later."""
    tail = f"ms - ((ms + 1 - {size + delay}) - ((ms + 1 - {size + delay}) % {hop}))"
    head = f"ms - ((ms + 1 - {delay}) - ((ms + 1 - {delay}) % {hop})) + 1" if delay else "0"
    return f"ORDER BY ms RANGE BETWEEN {tail} PRECEDING AND {head} PRECEDING"


def window_sql() -> str:
    """Return the query: one window for each key and length, all features of `fraud_handbook` but the derived ones.

    DuckDB would collect a whole window for its last five amounts, so `lag` fetches them; of transactions in the same
    millisecond each takes the list of the last.
    """
    windows, columns = [], ["TRANSACTION_ID"]
    for view, (key, other) in SIDES.items():
        for label, (size, hop) in HOPS.items():
            name = f"{view}_{label}"
            windows.append(f"{name} AS (PARTITION BY {key} {frame(size, hop, 0)})")
            columns += [
                f'count(*) OVER {name} AS "{view}.tx_count_{label}"',
                f'CAST(sum(cents) OVER {name} AS DOUBLE) / 100 AS "{view}.amount_sum_{label}"',
                f'CAST(sum(cents) OVER {name} AS DOUBLE) / CAST(count(*) OVER {name} * 100 AS DOUBLE) AS "{view}.amount_mean_{label}"',
                f'CAST(max(cents) OVER {name} AS DOUBLE) / 100 AS "{view}.amount_max_{label}"',
            ]
        columns += [
            f'CAST(min(cents) OVER {view}_{each} AS DOUBLE) / 100 AS "{view}.amount_min_{each}"'
            for each in ("7d", "30d")
        ]
        columns += [f'count(DISTINCT {other}) OVER {view}_{each} AS "{view}.partners_{each}"' for each in ("1d", "7d")]
        columns.append(f'ms + 1 - max(ms) OVER {view}_30d AS "{view}.since_last_30d"')
    for label in ("1d", "7d", "30d"):
        size, hop = HOPS[label]
        windows.append(f"risk_{label} AS (PARTITION BY TERMINAL_ID {frame(size, hop, 7 * DAY)})")
        columns.append(
            f"CAST(sum(TX_FRAUD) OVER risk_{label} AS DOUBLE) / CAST(nullif(count(*) OVER risk_{label}, 0) AS DOUBLE) "
            f'AS "terminal_risk.fraud_rate_{label}"'
        )
    tail = f"ms - ((ms + 1 - {30 * DAY}) - ((ms + 1 - {30 * DAY}) % {DAY}))"
    newest = [
        f"CASE WHEN lag(ms, {k}) OVER newest >= ms - ({tail}) THEN lag(cents, {k}) OVER newest / 100.0::DOUBLE END"
        for k in range(5)
    ]
    columns.append(
        'arg_max(newest, TRANSACTION_ID) OVER (PARTITION BY CUSTOMER_ID, ms) AS "customer_activity.last_amounts_30d"'
    )
    source = (
        "SELECT *, epoch_ms(TX_DATETIME) AS ms, CAST(round(TX_AMOUNT * 100) AS BIGINT) AS cents FROM read_parquet($1)"
    )
    listed = (
        f"SELECT *, list_filter([{', '.join(newest)}], lambda x: x IS NOT NULL) AS newest FROM ({source}) "
        "WINDOW newest AS (PARTITION BY CUSTOMER_ID ORDER BY ms, TRANSACTION_ID)"
    )
    return f"SELECT {', '.join(columns)} FROM ({listed}) WINDOW {', '.join(windows)}"


def measured(code: str, *arguments: str) -> tuple[float, float]:
    """Run code that prints its seconds in a fresh process; return them and the peak of its tree's own memory, MiB.

    Pages of mapped files are left out: they are the kernel's cache, which it gives up when memory is short.
    """
    peak = 0.0
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code above
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                found = [each.memory_info() for each in [watched, *watched.children(recursive=True)]]
                peak = max(peak, sum(each.rss - each.shared for each in found) / MIB)
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.1)
        said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return float(said), peak


def require_same(ours: Path, theirs: Path) -> None:
    """Refuse figures of programs that do not compute the same: compare every column."""
    left = f"read_parquet('{ours}/*.parquet')"
    names = [each for each in pq.read_schema(theirs).names if each != "TRANSACTION_ID"]
    unlike = " OR ".join(f'a."{each}" IS DISTINCT FROM b."{each}"' for each in names)
    query = f"SELECT count(*) FROM {left} AS a JOIN read_parquet('{theirs}') AS b USING (TRANSACTION_ID) WHERE {unlike}"
    ((wrong,),) = duckdb.sql(query).fetchall()
    if wrong:
        message = f"{wrong} rows differ between the backfill and DuckDB"
        raise SystemExit(message)


def run(rows: int) -> list[dict[str, object]]:
    """Measure both over the first `rows` transactions.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second`, `peak_mib`.
    """
    with tempfile.TemporaryDirectory() as folder:
        events, ours, theirs = (Path(folder) / name for name in ("events.parquet", "ours", "theirs.parquet"))
        pq.write_table(pq.read_table(DATA).slice(0, rows), events)
        work, count = "backfill: fraud features", pq.read_metadata(events).num_rows
        figures = {
            "unskew": measured(OURS, str(events), str(ours)),
            "hand-written DuckDB window SQL": measured(THEIRS, str(events), str(theirs), str(Path(__file__).parent)),
        }
        require_same(ours, theirs)
    return [
        {"work": work, "system": system, "rows_per_second": round(count / seconds), "peak_mib": round(peak)}
        for system, (seconds, peak) in figures.items()
    ]
