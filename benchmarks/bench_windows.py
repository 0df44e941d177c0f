"""Spine rows a second of 26 window features over simulated events, beside Polars and DuckDB; windows exact to the ms.

Card: count, sum, min, max, mean over 1 h, 1 d, 7 d, 30 d; merchant: count, sum over 1 d, 7 d, 30 d. Every event is a row of
the spine, read at its own instant, itself not counted. Each system reads Parquet and writes Parquet in a process of its own,
and every column of every row is compared.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_backfill import measured

DAY = 86_400_000
SPAN = 90 * DAY  # ms
START = 1_700_006_400_000
SIZES = (5_000_000, 20_000_000)
QUICK = 1_000_000  # rows; fewer are measured as they are
ROWS_PER_GROUP = 1 << 19
WINDOWS = {"1h": DAY // 24, "1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
OURS = """
import sys, time
from unskew.backfill.training import backfill
sys.path.insert(0, sys.argv[3])
from bench_windows import feature_set
began = time.perf_counter()
backfill(feature_set(), sys.argv[1], sys.argv[1], t="ts", output=sys.argv[2])
print(time.perf_counter() - began)
"""
POLARS = """
import sys, time
sys.path.insert(0, sys.argv[3])
from bench_windows import with_polars
began = time.perf_counter()
with_polars(sys.argv[1], sys.argv[2])
print(time.perf_counter() - began)
"""
DUCKDB = """
import sys, time, duckdb
sys.path.insert(0, sys.argv[3])
from bench_windows import window_sql
began = time.perf_counter()
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")
connection.execute(f"COPY ({window_sql()}) TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)", [sys.argv[1]])
print(time.perf_counter() - began)
"""


def feature_set() -> object:
    """Return the definitions."""
    from unskew.pipelines import (  # noqa: PLC0415 - the peers' processes do not need it
        Entity,
        EventSource,
        FeatureSet,
        FeatureView,
        Int64,
        Timestamp,
        col,
        count,
    )

    schema = {"id": Int64, "ts": Timestamp, "card": Int64, "merchant": Int64, "cents": Int64(-(10**7), 10**7)}
    events = EventSource("events", schema, event_time="ts", event_id="id")
    cents, every, long = col("cents"), ("1h", "1d", "7d", "30d"), ("1d", "7d", "30d")
    card = {"n": count(), "total": cents.sum(), "least": cents.min(), "most": cents.max(), "mean": cents.mean()}
    merchant = {"n": count(), "total": cents.sum()}
    return FeatureSet(
        "windows",
        [
            FeatureView(
                "card", Entity("card", "card"), events, {k: v.over(*every, hop="1ms") for k, v in card.items()}
            ),
            FeatureView(
                "merchant",
                Entity("merchant", "merchant"),
                events,
                {k: v.over(*long, hop="1ms") for k, v in merchant.items()},
            ),
        ],
    )


def simulate(path: Path, rows: int, hot: float = 0.0) -> None:
    """Write events in order of time: cards with about 100 each, merchants unevenly; `hot`: share of one card and merchant."""
    draw = np.random.default_rng(7)
    schema = pa.schema([(name, pa.int64()) for name in ("id", "ts", "card", "merchant", "cents")])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, ROWS_PER_GROUP):
            n = min(ROWS_PER_GROUP, rows - first)
            ids = np.arange(first, first + n)
            ts = np.sort(START + SPAN * first // rows + draw.integers(0, SPAN * n // rows, n))
            card = draw.integers(0, max(rows // 100, 1), n)
            merchant = (draw.pareto(1.2, n) * 10).astype(np.int64) % max(rows // 1000, 1)
            fixed = draw.random(n) < hot
            cents = draw.integers(1, 50_000, n)
            columns = (ids, ts, np.where(fixed, 0, card), np.where(fixed, 0, merchant), cents)
            writer.write_table(pa.table([pa.array(each) for each in columns], schema=schema))


def with_polars(source: str, target: str) -> None:
    """Compute the features with Polars' rolling groups."""
    import polars as pl  # noqa: PLC0415 - our process does not need it

    events = pl.read_parquet(source).with_columns(at=pl.from_epoch("ts", time_unit="ms"))
    cents = pl.col("cents")
    found = None
    for key, windows in (("card", ("1h", "1d", "7d", "30d")), ("merchant", ("1d", "7d", "30d"))):
        ordered = events.sort(key, "ts").with_columns(pl.col("at").set_sorted())
        columns = [ordered["id"]]
        for each in windows:
            wanted = [pl.len().cast(pl.Int64).alias(f"{key}.n_{each}"), cents.sum().alias(f"{key}.total_{each}")]
            if key == "card":
                wanted += [
                    cents.min().alias(f"card.least_{each}"), cents.max().alias(f"card.most_{each}"),
                    cents.mean().alias(f"card.mean_{each}"),
                ]  # fmt: skip
            rolled = ordered.rolling("at", period=each, closed="left", group_by=key).agg(wanted)
            columns += rolled.drop(key, "at").get_columns()
        part = pl.DataFrame(columns)
        found = part if found is None else found.join(part, on="id")
    assert found is not None  # noqa: S101 - there are two keys
    found.write_parquet(target, compression="zstd")


def window_sql() -> str:
    """Return the query for DuckDB."""
    windows, columns = [], ["id"]
    for key, labels in (("card", ("1h", "1d", "7d", "30d")), ("merchant", ("1d", "7d", "30d"))):
        for label in labels:
            name = f"{key}_{label}"
            windows.append(
                f"{name} AS (PARTITION BY {key} ORDER BY ts RANGE BETWEEN {WINDOWS[label]} PRECEDING AND 1 PRECEDING)"
            )
            columns += [
                f'count(*) OVER {name} AS "{key}.n_{label}"',
                f'CAST(coalesce(sum(cents) OVER {name}, 0) AS BIGINT) AS "{key}.total_{label}"',
            ]
            if key == "card":
                columns += [
                    f'min(cents) OVER {name} AS "card.least_{label}"', f'max(cents) OVER {name} AS "card.most_{label}"',
                    f"CAST(sum(cents) OVER {name} AS DOUBLE) / CAST(nullif(count(*) OVER {name}, 0) AS DOUBLE) "
                    f'AS "card.mean_{label}"',
                ]  # fmt: skip
    return f"SELECT {', '.join(columns)} FROM read_parquet($1) WINDOW {', '.join(windows)}"


def require_same(ours: Path, theirs: Path) -> None:
    """Refuse figures of programs that do not compute the same: compare every column of every row."""
    names = [each for each in pq.read_schema(theirs).names if each != "id"]
    unlike = " OR ".join(f'a."{each}" IS DISTINCT FROM b."{each}"' for each in names)
    query = f"SELECT count(*), count(*) FILTER ({unlike}) FROM read_parquet('{ours}/*.parquet') AS a JOIN read_parquet('{theirs}') AS b USING (id)"
    ((rows, wrong),) = duckdb.sql(query).fetchall()
    if wrong or not rows:
        message = f"{wrong} of {rows} rows differ between the backfill and {theirs.stem}"
        raise SystemExit(message)


def run(rows: int) -> list[dict[str, object]]:
    """Measure all over simulated events: `SIZES` of them, or as many as are asked for where they are few.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second`, `peak_mib`.
    """
    return [row for size in ([rows] if rows < QUICK else SIZES) for row in measure(size)]


def measure(count: int) -> list[dict[str, object]]:
    """Measure all over so many events."""
    with tempfile.TemporaryDirectory() as folder:
        events, ours = Path(folder) / "events.parquet", Path(folder) / "ours"
        simulate(events, count)
        here = str(Path(__file__).parent)
        figures = {"unskew": measured(OURS, str(events), str(ours), here)}
        for system, code in {"Polars rolling": POLARS, "DuckDB window SQL": DUCKDB}.items():
            theirs = Path(folder) / f"{system.split()[0].lower()}.parquet"
            figures[system] = measured(code, str(events), str(theirs), here)
            require_same(ours, theirs)
            theirs.unlink()
    return [
        {
            "work": f"26 windows of {count:,} events",
            "system": system,
            "rows_per_second": round(count / seconds),
            "peak_mib": round(peak),
        }
        for system, (seconds, peak) in figures.items()
    ]


if __name__ == "__main__":
    sys.stdout.write(f"{measure(int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[0])}\n")
