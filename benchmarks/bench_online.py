"""Reads of the online store, one entity row and 100 at a time, beside fetching raw blobs from the same SQLite and Redis.

The store holds the closed tiles of the fraud handbook's first rows; all features of the set are read. "Records" is the
store's part of a read: the records of all views of the set, checked. Without redis-server only SQLite is measured.
"""

from __future__ import annotations

import resource
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from timing import seconds_each

from unskew.backfill.upload import upload
from unskew.feature_defs.fraud import fraud_handbook
from unskew.online.read import FeatureReader
from unskew.online.store import Store
from unskew.online.store_redis import RedisStore
from unskew.online.store_sqlite import SqliteStore
from unskew.online.upload import load_upload
from unskew.pipelines.errors import StoreDown
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan

DATA = Path(__file__).parents[1].resolve().parent / "shared" / "data" / "card_transactions_handbook.parquet"
READS = 2_000
MANY = 100  # rows of one read
HOUR = 3_600_000
VIEW = "customer_activity"
PATIENCE = 10.0  # seconds


@contextmanager
def redis_store() -> Iterator[RedisStore]:
    """Run a redis-server on a free port of this machine, without files, and open a store in it."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - no input of anybody
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                store = RedisStore(f"redis://127.0.0.1:{port}/0")
                break
            except StoreDown:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        with store:
            yield store
    finally:
        process.kill()
        process.wait()


def reads_of(compiled: SetPlan, store: Store, asked: Sequence[dict[str, Any]], at: int) -> dict[str, float]:
    """Return rows a second of features and of records, by the rows of one read."""
    reader = FeatureReader(compiled, store)
    found: dict[str, float] = {}
    for n in (1, MANY):
        rows = [asked[first : first + n] for first in range(0, len(asked) - n, n)]
        keys = [reader.form.asked(each).keys for each in rows]

        def features(number: int, rows: Sequence[Any] = rows) -> object:
            return reader.read(rows[number % len(rows)], at)

        def records(number: int, keys: Sequence[Any] = keys) -> object:
            return store.read(reader.sources, keys[number % len(keys)])

        for name, work in (("features", features), ("records", records)):
            found[f"{name} of {n} row(s)"] = n / seconds_each(work, READS if n == 1 else READS // 10)
    return found


def run(rows: int) -> list[dict[str, object]]:
    """Measure reads over an upload of the first `rows` transactions.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second` (rows of one call over its median), `peak_mib` of this process.
    """
    compiled = plan(fraud_handbook)
    events = pq.read_table(DATA).slice(0, rows)
    asked = (
        events.select(["CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]).slice(max(events.num_rows - READS, 0)).to_pylist()
    )
    found: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        manifest = upload(compiled, events, output=Path(folder) / "upload")
        end = manifest["sources"]["handbook_transactions"]["batch_end"]
        with SqliteStore(Path(folder) / "store.sqlite") as store:
            load_upload(store, compiled, Path(folder) / "upload", end)
            ours = reads_of(compiled, store, asked, end + HOUR)
            found |= {(work, "unskew, SQLite"): each for work, each in ours.items()}
        with sqlite3.connect(Path(folder) / "store.sqlite") as plain:
            keys = plain.execute(f"SELECT entity FROM closed WHERE view = '{VIEW}'").fetchall()
            query = f"SELECT record FROM closed WHERE view = '{VIEW}' AND generation = 1 AND entity = ?"
            raw = seconds_each(lambda number: plain.execute(query, keys[number % len(keys)]).fetchone(), READS)
            found["one raw blob", "SQLite"] = 1 / raw
        if shutil.which("redis-server") is not None:
            found |= of_redis(compiled, Path(folder) / "upload", asked, end)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    prefix = f"online, {len(compiled.fingerprints())} features: "
    return [
        {"work": prefix + work, "system": system, "rows_per_second": round(each), "peak_mib": peak}
        for (work, system), each in found.items()
    ]


def of_redis(
    compiled: SetPlan, folder: Path, asked: Sequence[dict[str, Any]], end: int
) -> dict[tuple[str, str], float]:
    """Return the same of Redis, beside its own GET of a blob."""
    with redis_store() as store:
        load_upload(store, compiled, folder, end)
        client: Any = store.client.reads
        held = client.hgetall(f"unskew:closed:1:{VIEW}")
        keys = [b"raw:" + key for key in held]
        client.mset(dict(zip(keys, held.values(), strict=True)))
        before = seconds_each(lambda number: client.get(keys[number % len(keys)]), READS)
        ours = reads_of(compiled, store, asked, end + HOUR)
        after = seconds_each(lambda number: client.get(keys[number % len(keys)]), READS)
    found = {(work, "unskew, Redis"): each for work, each in ours.items()}
    return {**found, ("one raw blob", "Redis"): 2 / (before + after)}
