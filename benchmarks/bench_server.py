"""Requests a second of the feature server on one core, and how long they take; the client has the other core.

The store holds the closed tiles of the fraud handbook's first rows; all features of the set are read, over connections
that are kept, each with one request at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import uvloop

from unskew.backfill.upload import upload
from unskew.feature_defs.fraud import fraud_handbook
from unskew.online.store_sqlite import SqliteStore
from unskew.online.upload import load_upload
from unskew.pipelines.planner import plan

ROOT = Path(__file__).parents[1].resolve()
DATA = ROOT.parent / "shared" / "data" / "card_transactions_handbook.parquet"
SECONDS = 5.0
WARM_UP = 1.0
ASKED = 2_000
HOUR = 3_600_000
END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Connection(asyncio.Protocol):
    """Sends one request after another and notes when each reply is complete."""

    def __init__(self, requests: Iterator[bytes], took: list[float]) -> None:
        self.requests = requests
        self.took = took
        self.received = bytearray()
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send the next request."""
        self.began = time.perf_counter()
        self.transport.write(next(self.requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Take a part of a reply."""
        self.received += data
        head = self.received.find(END)
        if head < 0:
            return
        at = self.received.index(LENGTH) + len(LENGTH)
        size = head + len(END) + int(self.received[at : self.received.index(b"\r", at)])
        if len(self.received) < size:
            return
        self.took.append(time.perf_counter() - self.began)
        self.failed += not self.received.startswith(b"HTTP/1.1 200")
        self.received.clear()
        self.send()


def request(rows: list[dict[str, object]], at: int) -> bytes:
    """Return a request as it is sent."""
    body = json.dumps({"set": "fraud_handbook", "rows": rows, "at": at}).encode()
    head = f"POST /v1/features HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def load(port: int, requests: list[bytes], connections: int, seconds: float) -> list[float]:
    """Keep so many requests running; return the seconds that each took."""
    loop, took = asyncio.get_running_loop(), list[float]()
    opened = [
        await loop.create_connection(
            lambda first=number: Connection(cycle(requests[first:] + requests[:first]), took), "127.0.0.1", port
        )  # type: ignore[misc]
        for number in range(connections)
    ]
    await asyncio.sleep(seconds)
    found = list(took)
    for transport, connection in opened:
        transport.close()
        if connection.failed:
            message = f"{connection.failed} requests failed"
            raise RuntimeError(message)
    return found


@contextmanager
def served(store: Path, core: int) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server on one core; give its port and its process."""
    command = [sys.executable, "-m", "unskew.pipelines.cli", "serve", "--port", "0", "--store", str(store)]
    command += ["--defs", str(ROOT / "feature_defs" / "fraud.py"), "--set", "fraud_handbook"]
    with subprocess.Popen(  # noqa: S603
        ["/usr/bin/env", "taskset", "-c", str(core), *command], stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None:
            raise RuntimeError
        port = int(process.stdout.readline().rpartition(":")[2])
        try:
            yield port, psutil.Process(process.pid)
        finally:
            process.kill()


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
            with served(Path(folder) / "store.sqlite", cores[0]) as (port, process):
                for size in (1, 100):
                    requests = [
                        request([asked[(first + each) % len(asked)] for each in range(size)], end + HOUR)
                        for first in range(0, len(asked), 10)
                    ]
                    for connections in (1, 8, 64):
                        uvloop.run(load(port, requests, connections, WARM_UP))
                        before = sum(process.cpu_times()[:2])
                        took = np.array(uvloop.run(load(port, requests, connections, SECONDS)))
                        busy = sum(process.cpu_times()[:2]) - before
                        found.append(measured(size, connections, took, busy, process))
        finally:
            os.sched_setaffinity(0, cores)
    return found


def measured(
    size: int,
    connections: int,
    took: np.ndarray,
    busy: float,
    process: psutil.Process,  # type: ignore[type-arg]
) -> dict[str, object]:
    """Return one line of the result."""
    rate = len(took) / SECONDS
    return {
        "work": f"{size} row(s) a request, {connections} connection(s)",
        "system": "unskew serve, one core",
        "rows_per_second": round(rate * size),
        "requests_per_second": round(rate),
        "requests_per_second_of_processor": round(len(took) / busy),
        "p50_ms": round(float(np.percentile(took, 50)) * 1_000, 2),
        "p99_ms": round(float(np.percentile(took, 99)) * 1_000, 2),
        "peak_mib": round(process.memory_info().rss / 2**20),
    }


if __name__ == "__main__":
    for line in run(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000):
        sys.stdout.write(json.dumps(line) + "\n")
