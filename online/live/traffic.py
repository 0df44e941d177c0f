"""Reads as an application makes them, over HTTP; a sample is also read from the store, to keep what each tile knew."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from unskew.online.asked import Asked, Form
from unskew.online.live.processes import behind
from unskew.online.live.settings import StoreSettings
from unskew.online.read import FeatureReader
from unskew.online.served_rows import sampled, served_row
from unskew.online.server.client import Client
from unskew.online.stores import open_store
from unskew.pipelines.encoding import encode_row
from unskew.pipelines.errors import EngineError, InputError, StoreError
from unskew.pipelines.plan import SetPlan

RECENT = 5.0  # s of the traffic from which half of the reads draw their entities
SAMPLE = 4.0  # reads a second, about, that are kept for parity
KEPT = 100_000  # latencies, the newest
DEADLINE, PATIENT = 5.0, 120.0  # s of a read, of the first one: what it needs is compiled
TICK = 0.1  # s
CLIENTS = 5  # nice value: clients are elsewhere in earnest, and what they ask leaves the processors to what answers


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
    sent
        Returns how many of them were produced by now.
    rate, reads
        Events and reads a second.
    output
        File for the rows that are kept.
    """

    def __init__(
        self, plan: SetPlan, url: str, store: StoreSettings, rows: Sequence[dict[str, Any]], sent: Callable[[], float],
        rate: float, reads: float, output: Path,
    ) -> None:  # fmt: skip
        self.plan, self.url, self.store, self.rows, self.sent = plan, url, store, rows, sent
        self.rate, self.reads, self.output = rate, reads, output
        self.form, self.share = Form(plan), min(1.0, SAMPLE / reads)
        self.draw = random.Random(7)  # noqa: S311 - no secret
        self.latencies: deque[float] = deque(maxlen=KEPT)  # s
        self.done, self.failed, self.kept, self.compared, self.moved = 0, 0, 0, 0, 0
        self.warm, self.go = Event(), Event()
        self.wrong: list[str] = []  # cells that HTTP gave otherwise than the store

    def run(self, stop: Event) -> None:
        """Get ready, wait for the word to go, and read until told to stop."""
        with (
            behind(CLIENTS),
            Client([self.url], self.plan.name, deadline=DEADLINE) as client,
            open_store(self.store) as store,
            self.output.open("ab", buffering=0) as out,
        ):
            reader, number = FeatureReader(self.plan, store), 0
            self.known(reader, self.form.asked(self.rows[:1]), time.time_ns() // 1_000_000)  # the first one compiles
            with Client([self.url], self.plan.name, deadline=PATIENT) as first:
                first.read(self.rows[:1])
            self.warm.set()
            while not (self.go.wait(TICK) or stop.is_set()):
                pass
            begun = time.monotonic()
            while not stop.wait(max(0.0, begun + number / self.reads - time.monotonic())):
                number = max(
                    number + 1, int((time.monotonic() - begun - 1.0) * self.reads)
                )  # what was missed is missed
                try:
                    self.read(client, reader, self.row(), out.write)
                except (StoreError, EngineError):  # the server or the store is away: that is what is measured
                    self.failed += 1

    def row(self) -> dict[str, Any]:
        """Draw an entity whose events were sent, every other one lately."""
        sent = max(1, min(len(self.rows), int(self.sent())))
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
        self.done += 1
        if before is not None:
            line, values = before
            again, _ = self.known(reader, asked, at)
            if line == again:  # then the reply knew just that, too
                self.compare(reply.table(), values, row, at)
            else:
                self.moved += 1
            keep(line + b"\n")
            self.kept += 1

    def known(self, reader: FeatureReader, asked: Asked, at: int) -> tuple[bytes, pa.Table]:
        """Read one row from the store, with what its tiles knew."""
        reading = reader.read_asked(asked, np.full(1, at, np.int64))
        return served_row(reading, asked, self.form, reading.row(), 0, at, self.plan.fingerprint), reading.table()

    def compare(self, served: pa.Table, stored: pa.Table, row: dict[str, Any], at: int) -> None:
        """Compare a reply with what the store had, cell by cell."""
        self.compared += stored.num_columns
        for name in stored.column_names:
            if name not in served.column_names or not same_bits(served[name], stored[name]):
                given = served[name].to_pylist() if name in served.column_names else "nothing"
                self.wrong.append(f"{name}: HTTP gave {given}, the store {stored[name].to_pylist()} of {row} at {at}")

    def quantiles(self) -> tuple[float, float] | None:
        """Return the median and the 99th percentile of the reads, s."""
        known = list(self.latencies)
        return (float(np.quantile(known, 0.5)), float(np.quantile(known, 0.99))) if known else None


def same_bits(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Return whether two columns have the same types and values, floats bit by bit: their texts tell -0.0 from 0.0."""
    return one.type == other.type and repr(one.to_pylist()) == repr(other.to_pylist())
