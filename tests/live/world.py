"""A running system over shared servers: a topic and a store of its own, real processes, and a check of all that was sent."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from kafka import KafkaProducer

from unskew.backfill.training import backfill
from unskew.online.live.control import Control
from unskew.online.live.job_report import described
from unskew.online.live.jobs import Job
from unskew.online.live.processes import Process
from unskew.online.live.settings import Settings, load_settings
from unskew.online.live.topics import make_topics
from unskew.online.read import FeatureReader
from unskew.online.stores import open_store
from unskew.pipelines.loading import choose_set, load_sets
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan

DAY = 86_400_000
START = 1_760_000_000_000 // DAY * DAY  # ms: midnight
PATIENCE, LONGEST = 120.0, 900.0  # s of a wait, of a command
DEFINITIONS = """
from unskew.pipelines import Decimal, Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count

payments = EventSource(
    "payments",
    {{"id": Int64, "at": Timestamp, "arrived": Timestamp, "card": Int64, "shop": String, "paid": Decimal(12, 2)}},
    event_time="at", event_id="id", arrival="arrived", topic="{topic}", archive="{folder}/archive",
)
paid = col("paid")
cards = FeatureView("cards", Entity("card", "card"), payments, {{
    "n": count().over("1h", "1d", "7d"),
    "total": paid.sum().over("1d"),
    "most": paid.max().over("7d"),
    "spread": paid.stddev().over("1d"),
    "shops": col("shop").count_distinct().over("1d", "7d"),
    "last_shop": col("shop").last().over("7d"),
    "last_paid": paid.last_k(3).over("1d"),
    {more}
}})
shops = FeatureView("shops", Entity("shop", "shop"), payments, {{
    "n": count().over("1h", "7d"),
    "large": count().where(paid > 900).over("1d"),
    "cards": col("card").count_distinct().over("1d"),
}})
live = FeatureSet("{set}", [cards, shops])
"""
SETTINGS = """
[kafka]
bootstrap_servers = "{broker}"
partitions = 2
{kafka}
[store]
url = "{store}"
[flink]
target = "{cluster}"
checkpoints = "{folder}/checkpoints"
checkpoint_interval = "1s"
"""
POISON = [b"{", b"", None, b"x" * 5_000_000, b'{"id": "x", "at": 1}', b'{"id": 1}', b"[1]", b"\xff\xfe"]


@dataclass
class Payments:
    """Draws payments in the order of their arrival, and keeps what was sent."""

    seed: int
    cards: int = 40
    shops: int = 8
    now: int = START
    step: int = 20_000  # ms between two arrivals, at most
    share_late: float = 0.002
    ids: int = 0
    late: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)
    draw: np.random.Generator = field(init=False)
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)

    def take(self, n: int) -> list[tuple[bytes, bytes, int]]:
        """Return key, value and timestamp of `n` messages; events are up to a minute, or days, behind."""
        with self.lock:
            return [self.one(bool(self.draw.random() < self.share_late)) for _ in range(n)]

    def one(self, late: bool) -> tuple[bytes, bytes, int]:
        self.now += int(self.draw.integers(0, self.step))
        self.ids += 1
        self.late += late
        behind = int(self.draw.integers(DAY + 60_000, 3 * DAY)) if late else int(self.draw.exponential(3_000))
        card, shop = int(self.draw.integers(self.cards)), f'shop {self.draw.integers(self.shops)} é, "{"x"}"'
        cents = int(self.draw.integers(1, 100_000))
        row = {"id": self.ids, "at": self.now - behind, "card": card, "shop": shop, "paid": f"{cents / 100:.2f}"}
        self.sent.append({**row, "arrived": self.now})
        return message(self.sent[-1])

    def newest(self, n: int) -> list[tuple[bytes, bytes, int]]:
        """Return the last `n` messages again."""
        return [message(each) for each in self.sent[-n:]]


def message(sent: Mapping[str, Any]) -> tuple[bytes, bytes, int]:
    """Return key, value and timestamp of a payment."""
    row = {name: value for name, value in sent.items() if name != "arrived"}
    return str(row["card"]).encode(), orjson.dumps(row), sent["arrived"]


@dataclass
class World:
    """One set, its topic and store, and the processes that serve it."""

    folder: Path
    broker: str
    cluster: str
    store_url: str
    topic: str
    payments: Payments
    partitions: int = 3
    kafka: str = ""  # further settings
    set: str = field(default_factory=lambda: f"live{time.monotonic_ns()}")  # which names the topic of what is served
    messages: int = 0
    poison: int = 0
    processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.define()
        addresses = {"broker": self.broker, "store": self.store_url, "cluster": self.cluster}
        text = SETTINGS.format(**addresses, folder=self.folder, kafka=self.kafka)
        (self.folder / "unskew.toml").write_text(text, encoding="utf-8")
        keep = {"retention.ms": "-1", "message.timestamp.type": "CreateTime", "max.message.bytes": str(8 << 20)}
        make_topics(self.settings.kafka, {self.topic: self.partitions}, keep)

    def define(self, more: str = "") -> None:
        """Write the definitions, with further features of cards."""
        text = DEFINITIONS.format(topic=self.topic, folder=self.folder, set=self.set, more=more)
        (self.folder / "defs.py").write_text(text, encoding="utf-8")

    @property
    def settings(self) -> Settings:
        return load_settings(self.folder / "unskew.toml", {})

    @property
    def plan(self) -> SetPlan:
        return plan(choose_set(load_sets(self.folder / "defs.py"), None))

    @contextmanager
    def control(self) -> Iterator[Control]:
        with open_store(self.settings.store) as store:
            yield Control(self.plan, self.settings, store, self.folder / "submit")

    def command(self, *words: str) -> list[str]:
        where = ["--defs", str(self.folder / "defs.py")]
        if words[0] not in ("upload", "parity", "erase"):
            where += ["--settings", str(self.folder / "unskew.toml")]
        return [sys.executable, "-m", "unskew.pipelines.cli", *words, *where]

    def run(self, *words: str, refused: bool = False, environment: Mapping[str, str] = os.environ) -> str:
        """Run a command of ours to its end; return what it prints, or why it refuses."""
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=LONGEST, check=False,
        )  # fmt: skip
        assert bool(done.returncode) == refused, done.stdout + done.stderr
        return done.stderr if refused else done.stdout

    def start(self, name: str, *words: str) -> Process:
        """Start a command of ours; `name` tells several of one kind apart."""
        process = Process(name, self.command(*words), self.folder, self.folder / f"{name}.log")
        self.processes[name] = process
        return process

    def end(self) -> None:
        """End all processes and the jobs."""
        for each in self.processes.values():
            each.end()
        with self.control() as control:
            for job in control.jobs("payments"):
                status = control.status(job)
                if status is not None and status.state not in ("FAILED", "CANCELED", "FINISHED"):
                    control.cluster.cancel(job.job_id)

    def produce(self, messages: Sequence[tuple[bytes, bytes | None, int]], rate: float = 0.0) -> None:
        """Send messages and wait for the acknowledgements; `rate` a second where it is given."""
        producer = KafkaProducer(
            **self.settings.kafka.client(), acks="all", linger_ms=2, max_request_size=8 << 20, retries=1_000_000,
            delivery_timeout_ms=120_000, enable_idempotence=True,
        )  # fmt: skip
        began = time.monotonic()
        sent = []
        for number, (key, value, at) in enumerate(messages):
            sent.append(producer.send(self.topic, key=key, value=value, timestamp_ms=at))
            if rate and number % 20 == 0:
                time.sleep(max(0.0, number / rate - (time.monotonic() - began)))
        for each in sent:
            each.get(timeout=120)
        producer.close()
        self.messages += len(messages)

    def send(self, n: int, rate: float = 0.0) -> list[tuple[bytes, bytes, int]]:
        """Draw and send payments."""
        drawn = self.payments.take(n)
        self.produce(drawn, rate)
        return drawn

    def send_large(self) -> None:
        """Send a payment in a shop whose name has 600 kB: its rows are larger than messages are by default."""
        self.payments.take(1)
        sent = self.payments.sent[-1]
        sent["shop"] = "x" * 600_000
        self.produce([message(sent)])

    def send_again(self, messages: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Send copies of messages, as a producer that was restarted does: they arrive now."""
        self.payments.late += sum(at - orjson.loads(value)["at"] > DAY for _, value, at in messages)
        self.produce(messages)

    def send_poison(self) -> None:
        """Send what no source accepts, and an event that is too late by decades."""
        future = orjson.dumps({"id": 0, "at": 4_070_908_800_000, "card": 1, "shop": "s", "paid": "1"})
        wrong = orjson.dumps({"id": 0, "at": self.payments.now, "card": 1, "shop": 7, "paid": "1"})
        own = [*POISON, future, wrong]
        self.poison += len(own)
        self.payments.late += 1
        past = orjson.dumps({"id": 0, "at": -1, "card": 1, "shop": "s", "paid": "1"})
        self.produce([(b"poison", each, self.payments.now) for each in (*own, past)])

    def job(self) -> Job:
        with self.control() as control:
            return control.job("payments")

    def flip(self) -> None:
        """Let reads see the job."""
        with self.control() as control:
            control.store.start_epoch("payments", control.job("payments").epoch)

    def read_by(self) -> bool:
        """Return whether reads see a job."""
        with self.control() as control:
            pointer = control.store.pointer("payments")
            return pointer is not None and bool(pointer.epoch)

    def settle(self, patience: float = PATIENCE) -> None:
        """Wait until all that was sent is in the store."""
        with self.control() as control:
            waiting = control.catching_up(control.job("payments"))
            wait(waiting.over, patience, lambda: self.told(control))

    def sound(self) -> int:
        """Return how many of the events that were sent belong into tiles."""
        return sum(int(each["arrived"]) - int(each["at"]) <= DAY for each in self.payments.sent)

    def applied(self) -> bool:
        """Return whether the tiles in the store have all of them; asks for no checkpoint."""
        with self.control() as control:
            job = control.job("payments")
            return all(control.store.written(job.epoch, each).applied == self.sound() for each in job.views)

    def told(self, control: Control) -> str:
        logs = {name: (self.folder / f"{name}.log").read_text()[-500:] for name in self.processes}
        return json.dumps([described(control, each) for each in control.jobs("payments")] + [logs], indent=1)

    def require_parity(self) -> int:
        """Compare what is served of every entity, at several instants, with the backfill; return the number of cells."""
        last = self.payments.now
        instants = [last + 1, last + 50 * 60_000, last + DAY, last + 6 * DAY]
        cards = [*range(self.payments.cards), self.payments.cards + 1]  # the last one is unknown
        shops = sorted({str(each["shop"]) for each in self.payments.sent})
        rows = [{"card": each, "shop": shops[place % len(shops)]} for place, each in enumerate(cards)]
        asked = [row | {"t": t} for t in instants for row in rows]
        with open_store(self.settings.store) as store:
            served = FeatureReader(self.plan, store).read(asked, [row["t"] for row in asked]).table()
        wanted = self.ideal(asked)
        unequal = {
            name: [(asked[i], a, b) for i, (a, b) in enumerate(zip(*pair, strict=True)) if a != b][:3]
            for name in served.column_names
            if (pair := (served[name].to_pylist(), wanted[name].to_pylist()))[0] != pair[1]
        }
        assert not unequal, unequal
        return int(served.num_rows * served.num_columns)

    def ideal(self, asked: Sequence[dict[str, object]]) -> pa.Table:
        """Return the backfill's values for what had arrived."""
        events = pa.table({
            "id": pa.array([each["id"] for each in self.payments.sent], pa.int64()),
            "at": pa.array([each["at"] for each in self.payments.sent], pa.int64()),
            "arrived": pa.array([each["arrived"] for each in self.payments.sent], pa.int64()),
            "card": pa.array([each["card"] for each in self.payments.sent], pa.int64()),
            "shop": pa.array([each["shop"] for each in self.payments.sent]),
            "paid": pa.array([float(str(each["paid"])) for each in self.payments.sent]),
        })  # fmt: skip
        spine = pa.table({**{name: [row[name] for row in asked] for name in asked[0]}, "place": range(len(asked))})
        out = self.folder / f"ideal-{time.monotonic_ns()}"
        backfill(self.plan, events, spine, t="t", as_of="arrival", output=out)
        return pq.read_table(out).sort_by("place")

    def require_account(self) -> None:
        """Every message has one fate, as it was drawn."""
        with self.control() as control:
            found = control.account(control.job("payments"))
        sound = self.sound()
        assert (found.read, found.quarantined, found.late) == (self.messages, self.poison, self.payments.late), found
        assert found.applied == sound, found
        assert found.duplicates == self.messages - self.poison - self.payments.late - sound, found


def wait(until: Callable[[], bool], patience: float = PATIENCE, told: Callable[[], str] = str) -> None:
    """Wait until something holds."""
    last = time.monotonic() + patience
    while not until():
        assert time.monotonic() < last, told()
        time.sleep(0.2)


def unique() -> str:
    """Return a name that no other test uses."""
    return f"payments-{os.getpid()}-{time.monotonic_ns()}"
