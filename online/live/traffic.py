"""Reads as an application makes them, over HTTP; a sample is also read from the store, to keep what each tile knew.

``python -m unskew.online.live.traffic FOLDER DEFS SET LOG RATE READS`` reads from the system whose settings are in a folder, READS
times a second, for the events of a log, of which RATE a second are sent. It keeps ``FOLDER/reads.json`` from when it is ready,
and begins once ``FOLDER/sent`` says how many of them were sent; what such a file says already, it goes on from. SIGTERM says
that it is to end.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from unskew.online.asked import Asked, Form
from unskew.online.live.settings import FILE, StoreSettings, load_settings
from unskew.online.read import FeatureReader
from unskew.online.served_rows import SERVED, sampled, served_row
from unskew.online.server.client import Client
from unskew.online.stores import open_store
from unskew.pipelines.durable import show
from unskew.pipelines.encoding import encode_row
from unskew.pipelines.errors import EngineError, InputError, StoreError
from unskew.pipelines.loading import choose_set, load_sets
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan

RECENT = 5.0  # s of the traffic from which half of the reads draw their entities
SAMPLE = 4.0  # reads a second, about, that are kept for parity
KEPT = 100_000  # latencies, the newest
DEADLINE, PATIENT = 5.0, 120.0  # s of a read, of the first one: what it needs is compiled
TICK, EVERY = 0.1, 1.0  # s between two looks whether to begin, between two words with the run
READS, SENT = "reads.json", "sent"
MOST_DEFECTS = 20


@dataclass
class Reads:
    """How reads have gone so far.

    Parameters
    ----------
    done, failed
        Reads.
    seconds
        Median and 99th percentile of the newest ones.
    compared, unexplained
        Cells of replies that were compared with the store's, and that were others.
    defects
        What the first of those were.
    moved
        Rows that could not be compared, as their tiles changed meanwhile.
    """

    done: int = 0
    failed: int = 0
    seconds: tuple[float, float] | None = None
    compared: int = 0
    unexplained: int = 0
    defects: list[str] = field(default_factory=list)
    moved: int = 0


def reads_so_far(folder: Path) -> Reads:
    """Return how the reads of a run have gone."""
    path = folder / READS
    return Reads(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Reads()


def drawn_rows(plan: SetPlan, log: Path) -> list[dict[str, Any]]:
    """Return keys and request columns of a log's events, in their order, without those that a read would refuse."""
    columns = Form(plan).columns
    exact = [name for name, each in columns.items() if each.type.kind == "decimal"]
    found = []
    for path in sorted(log.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                event = orjson.loads(line)
                row = {name: event[name] for name in columns}
                row |= {name: Decimal(row[name]) for name in exact}
                encode_row(columns, row)
            except (ValueError, KeyError, TypeError, InvalidOperation, InputError):
                continue
            found.append(row)
    return found


class Traffic:
    """Reads at a steady pace.

    Parameters
    ----------
    url
        Of the feature server.
    store
        The store that it reads.
    rows
        What is asked for, in the order in which its events are produced.
    rate, reads
        Events and reads a second.
    folder
        Of the run.
    """

    def __init__(
        self, plan: SetPlan, url: str, store: StoreSettings, rows: Sequence[dict[str, Any]], rate: float, reads: float,
        folder: Path,
    ) -> None:  # fmt: skip
        self.plan, self.url, self.store, self.rows = plan, url, store, rows
        self.rate, self.reads, self.folder = rate, reads, folder
        self.form, self.share = Form(plan), min(1.0, SAMPLE / reads)
        self.draw = random.Random(7)  # noqa: S311 - no secret
        self.latencies: deque[float] = deque(maxlen=KEPT)  # s
        self.found = reads_so_far(folder)

    def run(self, stop: Event) -> None:
        """Get ready, say so, wait until events are sent, and read until told to stop."""
        with (
            Client([self.url], self.plan.name, deadline=DEADLINE) as client,
            open_store(self.store) as store,
            (self.folder / SERVED).open("ab", buffering=0) as out,
        ):
            reader, number = FeatureReader(self.plan, store), 0
            self.known(reader, self.form.asked(self.rows[:1]), time.time_ns() // 1_000_000)  # the first one compiles
            with Client([self.url], self.plan.name, deadline=PATIENT) as first:
                first.read(self.rows[:1])
            self.tell()
            while not ((self.folder / SENT).exists() or stop.wait(TICK)):
                pass
            begun, told, sent = time.monotonic(), -EVERY, 1
            while not stop.wait(max(0.0, begun + number / self.reads - time.monotonic())):
                number = max(
                    number + 1, int((time.monotonic() - begun - 1.0) * self.reads)
                )  # what was missed is missed
                if time.monotonic() - told >= EVERY:
                    self.tell()
                    told, sent = time.monotonic(), self.sent()
                try:
                    self.read(client, reader, self.row(sent), out.write)
                except (StoreError, EngineError):  # the server or the store is away: that is what is measured
                    self.found.failed += 1
            self.tell()

    def tell(self) -> None:
        """Say how it goes."""
        known = list(self.latencies)
        if known:
            half, most = np.quantile(known, (0.5, 0.99))
            self.found.seconds = float(half), float(most)
        show(self.folder / READS, json.dumps(asdict(self.found), ensure_ascii=False) + "\n")

    def sent(self) -> int:
        """Return how many of the rows were sent, as the run says; at least one."""
        return max(1, min(len(self.rows), int((self.folder / SENT).read_text(encoding="utf-8"))))

    def row(self, sent: int) -> dict[str, Any]:
        """Draw an entity whose events were sent, every other one lately."""
        lately = self.draw.random() < 1 / 2
        return self.rows[self.draw.randrange(max(0, sent - int(RECENT * self.rate)) if lately else 0, sent)]

    def read(self, client: Client, reader: FeatureReader, row: dict[str, Any], keep: Any) -> None:
        """Make one read; keep it if its entity is sampled."""
        at, asked = time.time_ns() // 1_000_000, self.form.asked([row])
        chosen = sampled(next(iter(asked.keys.values()))[0], self.share)
        before = self.known(reader, asked, at) if chosen else None
        begun = time.perf_counter()
        reply = client.read([row], at)
        self.latencies.append(time.perf_counter() - begun)
        self.found.done += 1
        if before is not None:
            line, values = before
            again, _ = self.known(reader, asked, at)
            if line == again:  # then the reply knew just that, too
                self.compare(reply.table(), values, row, at)
            else:
                self.found.moved += 1
            keep(line + b"\n")

    def known(self, reader: FeatureReader, asked: Asked, at: int) -> tuple[bytes, pa.Table]:
        """Read one row from the store, with what its tiles knew."""
        reading = reader.read_asked(asked, np.full(1, at, np.int64))
        return served_row(reading, asked, self.form, reading.row(), 0, at, self.plan.fingerprint), reading.table()

    def compare(self, served: pa.Table, stored: pa.Table, row: dict[str, Any], at: int) -> None:
        """Compare a reply with what the store had, cell by cell."""
        self.found.compared += stored.num_columns
        for name in stored.column_names:
            if name not in served.column_names or not same_bits(served[name], stored[name]):
                given = served[name].to_pylist() if name in served.column_names else "nothing"
                defect = f"{name}: HTTP gave {given}, the store {stored[name].to_pylist()} of {row} at {at}"
                self.found.unexplained += 1
                self.found.defects = [*self.found.defects, defect][:MOST_DEFECTS]


def same_bits(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Return whether two columns have the same types and values, floats bit by bit: their texts tell -0.0 from 0.0."""
    return one.type == other.type and repr(one.to_pylist()) == repr(other.to_pylist())


def main() -> None:
    """Read until told to stop."""
    folder, defs, name, log = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    rate, reads = float(sys.argv[5]), float(sys.argv[6])
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    chosen, settings = plan(choose_set(load_sets(defs), name)), load_settings(folder / FILE, {})
    url = f"http://{settings.server.host}:{settings.server.port}"
    traffic = Traffic(chosen, url, settings.store, drawn_rows(chosen, log), rate, reads, folder)
    with ThreadPoolExecutor(1) as pool:  # a signal's function may not meet a wait for the same event in its own thread
        pool.submit(traffic.run, stop).result()


if __name__ == "__main__":
    main()
