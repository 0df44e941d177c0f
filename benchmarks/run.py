"""All benchmarks in one run: prints them and writes ``build/bench.json``.

Run ``python benchmarks/run.py --rows 300000 --only stream`` for one of them on fewer rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import bench_backfill
import bench_feast
import bench_live
import bench_online
import bench_server
import bench_stream
import bench_windows

ALL_ROWS = 2**31
BENCHMARKS = {
    "online": bench_online,
    "server": bench_server,
    "backfill": bench_backfill,
    "windows": bench_windows,
    "stream": bench_stream,
}
LIVE = {"feast": bench_feast, "live": bench_live}  # they need Kafka's jars, Redis and Feast
SHOWN = {"p50_ms": "ms p50", "p99_ms": "ms p99", "requests_per_second": "requests/s"}


def main() -> None:
    """Run each benchmark beside its peers."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--rows", type=int, default=ALL_ROWS, help="only the first rows of the handbook's transactions"
    )
    arguments.add_argument("--only", choices=BENCHMARKS | LIVE, help="one benchmark")
    arguments.add_argument("--live", action="store_true", help="those of the running system")
    given = arguments.parse_args()
    found: list[dict[str, object]] = []
    chosen = LIVE if given.live else BENCHMARKS
    for each in [(BENCHMARKS | LIVE)[given.only]] if given.only else chosen.values():
        for row in each.run(given.rows):
            found.append(row)
            sys.stdout.write(
                f"{row['work']:<36} {row['system']:<28} {row['rows_per_second']:>10,} /s {row['peak_mib']:>7,} MiB"
                f"{''.join(f'  {row[name]:,} {unit}' for name, unit in SHOWN.items() if name in row)}\n"
            )
            sys.stdout.flush()
    path = Path("build/bench-live.json" if given.live or given.only in LIVE else "build/bench.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
