"""All benchmarks in one run: prints them and writes ``build/bench.json``.

Run ``python benchmarks/run.py --rows 300000 --only stream`` for one of them on fewer rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import bench_backfill
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


def main() -> None:
    """Run each benchmark beside its peers."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--rows", type=int, default=ALL_ROWS, help="only the first rows of the handbook's transactions"
    )
    arguments.add_argument("--only", choices=BENCHMARKS, help="one benchmark")
    given = arguments.parse_args()
    found: list[dict[str, object]] = []
    for name, each in BENCHMARKS.items():
        for row in each.run(given.rows) if given.only in (None, name) else ():
            found.append(row)
            sys.stdout.write(
                f"{row['work']:<32} {row['system']:<32} {row['rows_per_second']:>10,} /s {row['peak_mib']:>7,} MiB\n"
            )
            sys.stdout.flush()
    path = Path("build/bench.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
