"""Requests a second of the feature server on one core, and how long they take; the client has the other core.

The store holds the closed tiles of the fraud handbook's first rows; all features of the set are read, over connections
that are kept, each with one request at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pyarrow.parquet as pq
from http_load import measured, post

from unskew.backfill.upload import upload
from unskew.feature_defs.fraud import fraud_handbook
from unskew.online.store_sqlite import SqliteStore
from unskew.online.upload import load_upload
from unskew.pipelines.planner import plan

ROOT = Path(__file__).parents[1].resolve()
DATA = ROOT.parent / "shared" / "data" / "card_transactions_handbook.parquet"
DEFS = ROOT / "feature_defs" / "fraud.py"
ASKED = 2_000
HOUR = 3_600_000


def request(rows: list[dict[str, object]], at: int) -> bytes:
    """Return a request as it is sent."""
    return post("/v1/features", {"set": "fraud_handbook", "rows": rows, "at": at})


def parts(asked: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    """Return the rows of many requests."""
    return [[asked[(first + each) % len(asked)] for each in range(size)] for first in range(0, len(asked), 10)]


@contextmanager
def pinned(
    command: Sequence[str], core: int, environment: Mapping[str, str] = os.environ, errors: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on one core, and end it with all that it started."""
    with subprocess.Popen(  # noqa: S603
        ["/usr/bin/env", "taskset", "-c", str(core), *command],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(environment),
        stderr=errors,
    ) as process:
        try:
            yield process
        finally:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()


@contextmanager
def served(store: str, defs: Path, name: str, core: int) -> Iterator[tuple[int, psutil.Process]]:
    """Serve the set of a name on one core; give the server's port and its process."""
    command = [sys.executable, "-m", "unskew.pipelines.cli", "serve", "--port", "0", "--store", store]
    with pinned([*command, "--defs", str(defs), "--set", name], core) as process:
        if process.stdout is None:
            raise RuntimeError
        yield int(process.stdout.readline().rpartition(":")[2]), psutil.Process(process.pid)


def run(rows: int) -> list[dict[str, object]]:
    """Measure the server over an upload of the first `rows` transactions.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second`, `requests_per_second`, the same for each second that the server had a
        processor (which others on the machine do not change), `p50_ms`, `p99_ms`, `peak_mib` of the server.
    """
    compiled = plan(fraud_handbook)
    events = pq.read_table(DATA).slice(0, rows)
    columns = ["CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
    asked = events.select(columns).slice(max(events.num_rows - ASKED, 0)).to_pylist()
    cores = sorted(os.sched_getaffinity(0))
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = upload(compiled, events, output=Path(folder) / "upload")
        end = manifest["sources"]["handbook_transactions"]["batch_end"]
        with SqliteStore(Path(folder) / "store.sqlite") as store:
            load_upload(store, compiled, Path(folder) / "upload", end)
        os.sched_setaffinity(0, cores[-1:])
        try:
            with served(f"{folder}/store.sqlite", DEFS, fraud_handbook.name, cores[0]) as (port, process):
                for size in (1, 100):
                    requests = [request(each, end + HOUR) for each in parts(asked, size)]
                    found += [
                        {"work": f"{size} row(s) a request, {connections} connection(s)"}
                        | of_rows(size, measured(port, process, requests, connections))
                        for connections in (1, 8, 64)
                    ]
        finally:
            os.sched_setaffinity(0, cores)
    return found


def of_rows(size: int, found: dict[str, float]) -> dict[str, object]:
    """Return one line of the result."""
    return {"system": "unskew serve, one core", "rows_per_second": found["requests_per_second"] * size, **found}


if __name__ == "__main__":
    for line in run(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000):
        sys.stdout.write(json.dumps(line) + "\n")
