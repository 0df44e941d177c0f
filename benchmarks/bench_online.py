"""Reads a second of the online store, one entity row at a time, beside fetching one raw blob from the same file.

The store holds the closed tiles of the fraud handbook's first rows; all features of the set are read.
"""

from __future__ import annotations

import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from unskew.backfill.upload import upload
from unskew.feature_defs.fraud import fraud_handbook
from unskew.online.read import FeatureReader
from unskew.online.store_sqlite import SqliteStore
from unskew.online.upload import load_upload
from unskew.pipelines.planner import plan

DATA = Path(__file__).parents[1].resolve().parent / "shared" / "data" / "card_transactions_handbook.parquet"
READS = 2_000
HOUR = 3_600_000


def seconds_each(work: Callable[[int], object]) -> float:
    """Return the median seconds of one call over `READS` calls, after a tenth of them to warm up."""
    for number in range(READS // 10):
        work(number)
    took = []
    for number in range(READS):
        began = time.perf_counter()
        work(number)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def run(rows: int) -> list[dict[str, object]]:
    """Measure reads over an upload of the first `rows` transactions.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second` (1 over the median), `peak_mib` of this process.
    """
    compiled = plan(fraud_handbook)
    events = pq.read_table(DATA).slice(0, rows)
    asked = (
        events.select(["CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]).slice(max(events.num_rows - READS, 0)).to_pylist()
    )
    with tempfile.TemporaryDirectory() as folder:
        manifest = upload(compiled, events, output=Path(folder) / "upload")
        end = manifest["sources"]["handbook_transactions"]["batch_end"]
        with SqliteStore(Path(folder) / "store.sqlite") as store:
            load_upload(store, compiled, Path(folder) / "upload", end)
            reader = FeatureReader(compiled, store)
            ours = seconds_each(lambda number: reader.read([asked[number % len(asked)]], end + HOUR).row())
        with sqlite3.connect(Path(folder) / "store.sqlite") as plain:
            keys = plain.execute("SELECT entity FROM closed WHERE view = 'customer_activity'").fetchall()
            query = "SELECT record FROM closed WHERE view = 'customer_activity' AND generation = 1 AND entity = ?"
            raw = seconds_each(lambda number: plain.execute(query, keys[number % len(keys)]).fetchone())
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    work = f"online read: {len(compiled.fingerprints())} features"
    return [
        {"work": work, "system": "unskew", "rows_per_second": round(1 / ours), "peak_mib": peak},
        {"work": work, "system": "one raw blob from SQLite", "rows_per_second": round(1 / raw), "peak_mib": peak},
    ]
