"""Reads of 28 features, by library and over HTTP, beside Feast's SDK and feature server: same Redis, same values, one run.

Redis holds the closed tiles of the fraud handbook's first rows for us, and for Feast the values that we read at one instant:
it keeps values, no tiles, so a window does not move on by itself. Decimals are floats there. Each server has one core, the
client has the other one. A raw blob is what one GET of a record takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import features28 as definitions
import httpx
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from bench_server import DATA, HOUR, parts, pinned, served
from features28 import features28
from http_load import measured, post
from timing import figures, seconds_of

from unskew.backfill.upload import upload
from unskew.online.live.processes import free_port
from unskew.online.live.redis_server import RedisServer
from unskew.online.read import FeatureReader
from unskew.online.store_redis import RedisStore
from unskew.online.upload import load_upload
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan

ROOT = Path(__file__).parents[1].resolve()
PEER = ROOT / "build" / "feast" / "bin"
ROWS = 200_000  # transactions: what Feast's writes need some seconds for
ASKED = 2_000
KEYS = {"CUSTOMER_ID": "customers", "TERMINAL_ID": "terminals"}
AT_ONCE = 1_000  # entities that are read together
READS = {1: 2_000, 100: 200}  # calls by the rows of one
CONNECTIONS = (1, 8, 64)
PATIENCE = 60.0  # s
ENVIRONMENT = {**os.environ, "FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}


def write_values(compiled: SetPlan, reader: FeatureReader, events: pa.Table, at: int, folder: Path) -> None:
    """Write the values of all entities as Feast takes them: a file for each view."""
    for view in compiled.reads:
        key, other = view.keys[0].name, next(each for each in KEYS if each != view.keys[0].name)
        entities = pc.unique(events[key]).to_pylist()
        parts = [
            reader.read([{key: each, other: 0} for each in entities[first : first + AT_ONCE]], at).table()
            for first in range(0, len(entities), AT_ONCE)
        ]
        columns = pa.concat_tables(parts).select([each.name for each in view.features])
        floats = [each.cast(pa.float64()) if pa.types.is_decimal(each.type) else each for each in columns.columns]
        names = [each.partition(".")[2] for each in columns.column_names]
        stamps = pa.array([at] * len(entities), pa.timestamp("ms", "UTC"))
        table = pa.table([pa.array(entities, pa.int64()), *floats, stamps], [key, *names, "event_timestamp"])
        pq.write_table(table, folder / f"{view.name}.parquet")


def library(reader: FeatureReader, asked: list[dict[str, Any]], at: int) -> dict[str, dict[str, float]]:
    """Return the figures of our library by the rows of a call."""
    found = {}
    for size, calls in READS.items():

        def read(number: int, size: int = size) -> object:
            first = number * 7 % (len(asked) - size)
            return reader.read(asked[first : first + size], at).columns.cells()

        found[str(size)] = figures(seconds_of(read, calls))
    return found


@contextmanager
def feast_served(folder: Path, core: int) -> Iterator[tuple[int, psutil.Process]]:
    """Run Feast's feature server on one core, with one worker; give its port and the process that does the work."""
    port = free_port()
    command = [
        str(PEER / "feast"),
        "-c",
        str(folder),
        "serve",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-w",
        "1",
        "--max-requests",
        "0",
    ]
    with pinned([*command, "--no-access-log"], core, ENVIRONMENT, subprocess.DEVNULL) as process:
        wait_for(port)
        own = psutil.Process(process.pid)
        yield port, (own.children(recursive=True) or [own])[-1]


def wait_for(port: int) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=2.0, trust_env=False)
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def peer(folder: Path, redis: str) -> dict[str, Any]:
    """Return what Feast's SDK says of itself."""
    command = [str(PEER / "python"), str(Path(__file__).with_name("feast_peer.py")), str(folder), redis]
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def require_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Compare one row, so that both did read what is there.

    Raises
    ------
    RuntimeError
        If a value differs.
    """
    for name, value in ours.items():
        (other,) = theirs[name.replace(".", "__")]
        if (None if value is None else float(value)) != (None if other is None else float(other)):
            message = f"Feast gave `{other}` for `{name}`, we `{value}`"
            raise RuntimeError(message)


def run(rows: int) -> list[dict[str, object]]:
    """Measure reads over an upload of the first transactions.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second`, `p50_ms`, `p99_ms`; of servers also requests a second, and `peak_mib`.

    Raises
    ------
    RuntimeError
        If Feast is not installed beside us (`make bench-live` does that), or gives other values.
    """
    if not (PEER / "feast").exists():
        message = "Feast is not there; run `make bench-live`"
        raise RuntimeError(message)
    compiled = plan(features28)
    events = pq.read_table(DATA).slice(0, min(rows, ROWS))
    asked = events.select(list(KEYS)).slice(max(events.num_rows - ASKED, 0)).to_pylist()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as place, RedisServer(Path(place) / "redis") as redis:
        folder = Path(place) / "feast"
        folder.mkdir()
        (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        manifest = upload(compiled, events, output=Path(place) / "upload")
        at = manifest["sources"]["handbook_transactions"]["batch_end"] + HOUR
        with RedisStore(redis.address) as store:
            load_upload(store, compiled, Path(place) / "upload", at - HOUR)
            reader = FeatureReader(compiled, store)
            write_values(compiled, reader, events, at, folder)
            ours, blob = library(reader, asked, at), of_blob(store)
            theirs = peer(folder, redis.address.removeprefix("redis://").removesuffix("/0"))
            require_same(reader.read(asked[:1], at).row(), theirs["one"])
        found = [line(f"library, {size} row(s)", "unskew, Redis", int(size), each) for size, each in ours.items()]
        found += [
            line(f"library, {size} row(s)", "Feast SDK", int(size), each) for size, each in theirs["reads"].items()
        ]
        found.append(line("one raw blob", "Redis", 1, blob))
        os.sched_setaffinity(0, cores[-1:])
        try:
            own = {"set": features28.name, "at": at}
            with served(redis.address, Path(definitions.__file__), features28.name, cores[0]) as server:
                for size in READS:
                    requests = [post("/v1/features", own | {"rows": each}) for each in parts(asked, size)]
                    found += http("unskew serve", server, requests, size)
            names = json.loads((folder / "features.json").read_text(encoding="utf-8"))
            with feast_served(folder, cores[0]) as server:
                for size in READS:
                    bodies = [
                        {
                            "features": names,
                            "entities": {key: [row[key] for row in each] for key in KEYS},
                            "full_feature_names": True,
                        }
                        for each in parts(asked, size)
                    ]
                    found += http("Feast server", server, [post("/get-online-features", each) for each in bodies], size)
        finally:
            os.sched_setaffinity(0, cores)
    return found


def of_blob(store: RedisStore) -> dict[str, float]:
    """Return the figures of Redis' own HGET of one record."""
    client: Any = store.client.reads
    name = "unskew:closed:1:customers"
    keys = client.hkeys(name)
    return figures(seconds_of(lambda number: client.hget(name, keys[number % len(keys)]), READS[1]))


def http(system: str, server: tuple[int, psutil.Process], requests: list[bytes], size: int) -> list[dict[str, object]]:
    """Return a server's figures at several numbers of connections."""
    found = []
    for connections in CONNECTIONS:
        load = measured(*server, requests, connections)
        work = f"HTTP, {size} row(s), {connections} connection(s)"
        found.append(line(work, f"{system}, one core", size, load | {"calls_per_second": load["requests_per_second"]}))
    return found


def line(work: str, system: str, size: int, measures: dict[str, float]) -> dict[str, object]:
    """Return one line of the result."""
    kept = {name: each for name, each in measures.items() if name != "calls_per_second"}
    return {
        "work": work,
        "system": system,
        "rows_per_second": round(measures["calls_per_second"] * size),
        "peak_mib": 0,
        **kept,
    }
