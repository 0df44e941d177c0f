"""The figures of a running system: asked of its parts again and again, kept when one does not answer."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from unskew.online.live.control import Control
from unskew.online.live.jobs import Job
from unskew.online.live.local import LocalSystem
from unskew.online.live.scraping import NOTHING, scrape
from unskew.online.live.topics import partitions_of, topic_of
from unskew.online.live.traffic import Reads, reads_so_far
from unskew.online.served_rows import PARITY
from unskew.online.stores import open_store
from unskew.pipelines.errors import UnskewError

EVERY, SELDOM = 1.5, 9.0  # s between two looks; at the cluster and at the fates, which cost more
SPAN = 10.0  # s over which a rate is taken
HALF, MOST = 0.5, 0.99
BEHIND, WAITING = 2.0, 500  # s of traffic, as figures are older than a look; rows that are always on their way
UNTIDY = 0.05  # share of the messages that may be in no tile: copies, late and malformed ones
Quantiles = tuple[float, ...] | None


class Rate:
    """How fast a count grows."""

    def __init__(self) -> None:
        self.seen: deque[tuple[float, float]] = deque()

    def at(self, count: float, now: float) -> float:
        """Take a count; return by how much it grew a second over the last `SPAN` seconds."""
        self.seen.append((now, count))
        while now - self.seen[0][0] > SPAN and len(self.seen) > 2:  # noqa: PLR2004 - two ends of a span
            self.seen.popleft()
        then, before = self.seen[0]
        return (count - before) / (now - then) if now > then else 0.0


@dataclass
class Parity:
    """What the checker has found so far."""

    rows: int = 0
    cells: int = 0
    equal: int = 0
    unexplained: int = 0
    waiting: int = 0
    causes: dict[str, int] = field(default_factory=dict)
    features: dict[str, int] = field(default_factory=dict)
    defects: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Figures:
    """What is known.

    Parameters
    ----------
    produced, applied
        Messages on the topics; events that are in tiles.
    archived
        Messages in the archive by fate: accepted, late, quarantined.
    fates
        Of all messages up to the jobs' last checkpoints; known while none are on their way.
    freshness, store_reads, store_writes
        Median and 99th percentile since the traffic began, s.
    lag
        Messages of the jobs that are not in the store yet.
    unarchived
        Messages that are not in the archive yet.
    checkpoint_age, restarts
        By source; s.
    reads, parity
        What is read, and checked.
    """

    produced: int = 0
    produced_rate: float = 0.0
    applied: int = 0
    applied_rate: float = 0.0
    archived: dict[str, int] = field(default_factory=dict)
    fates: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    freshness: Quantiles = None
    store_reads: Quantiles = None
    store_writes: Quantiles = None
    lag: int = 0
    unarchived: int = 0
    rejected: int = 0
    checkpoint_age: dict[str, float] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    reads: Reads = field(default_factory=Reads)
    parity: Parity = field(default_factory=Parity)

    @property
    def unexplained(self) -> int:
        """Cells that nothing explains: against the archive, and over HTTP against the store."""
        return self.parity.unexplained + self.reads.unexplained


class Observer:
    """Keeps the figures of a local system."""

    def __init__(self, system: LocalSystem) -> None:
        self.system, self.figures = system, Figures()
        self.produced, self.applied = Rate(), Rate()
        self.jobs: dict[str, Job] = {}
        self.tiles, self.server = NOTHING, NOTHING  # what they had counted when the traffic began
        self.before = 0  # messages, then
        self.eager, self.settled = False, False  # whether fates are wanted at once; whether all messages have one

    @property
    def warm(self) -> bool:
        """Return whether tiles follow the events: all parts have compiled what they run, and done what waited meanwhile."""
        found = self.figures
        behind, rate = found.produced - found.applied, max(found.produced_rate, 1.0)
        return (
            found.applied > 0
            and behind < BEHIND * rate + UNTIDY * found.produced
            and found.lag < max(BEHIND * rate, WAITING)
        )

    def begin(self) -> None:
        """Leave out of the quantiles what was so far."""
        self.before = self.figures.produced
        self.tiles, self.server = scrape(self.system.materialiser_port), scrape(self.system.port)
        self.figures.freshness = self.figures.store_reads = self.figures.store_writes = None

    def run(self, stop: Event) -> None:
        """Look until told to stop."""
        seldom = -SELDOM
        with open_store(self.system.settings.store) as store:
            control = Control(self.system.plan, self.system.settings, store, self.system.folder)
            consumer = KafkaConsumer(**self.system.settings.kafka.client(), enable_auto_commit=False)
            try:
                while not stop.wait(EVERY):
                    self.look(control, consumer)
                    if self.eager or time.monotonic() - seldom >= SELDOM:
                        self.look_deeper(control)
                        self.hasten(control)
                        seldom = time.monotonic()
            finally:
                consumer.close()

    def look(self, control: Control, consumer: Any) -> None:
        """Ask what is cheap to ask."""
        self.scraped()
        self.reported()
        try:
            self.counted(control, consumer)
        except (UnskewError, KafkaError):  # a part is away: its row in the view says so
            return

    def scraped(self) -> None:
        """Take what the processes tell Prometheus."""
        figures, system = self.figures, self.system
        tiles, server = scrape(system.materialiser_port), scrape(system.port)
        archivers = [scrape(each) for each in system.archiver_ports.values()]
        figures.freshness = tiles.quantiles("unskew_freshness_seconds", self.tiles, HALF, MOST) or figures.freshness
        figures.store_writes = (
            tiles.quantiles("unskew_store_seconds", self.tiles, HALF, MOST, op="write") or figures.store_writes
        )
        figures.store_reads = (
            server.quantiles("unskew_store_seconds", self.server, HALF, MOST, op="read") or figures.store_reads
        )
        figures.rejected = int(tiles.total("unskew_rejected_writes_total"))
        fates = sum((Counter(each.by("unskew_events_total", "fate")) for each in archivers), Counter[str]())
        figures.archived = {fate: int(count) for fate, count in fates.items()} or figures.archived
        lags = [each.total("unskew_consumer_lag") for each in archivers if each.families]
        figures.unarchived = int(sum(lags)) if lags else figures.unarchived

    def reported(self) -> None:
        """Take what reads and the checker have found."""
        self.figures.reads = reads_so_far(self.system.folder)
        path = self.system.folder / PARITY
        if path.exists():
            self.figures.parity = Parity(**json.loads(path.read_text(encoding="utf-8")))

    def counted(self, control: Control, consumer: Any) -> None:
        """Count what is on the topics, and in tiles."""
        figures, now = self.figures, time.monotonic()
        topics = [topic_of(each) for each in self.system.plan.sources]
        places = [place for each in topics for place in partitions_of(consumer, each)]
        figures.produced = sum(consumer.end_offsets(places).values())
        for each in self.system.plan.sources:
            self.jobs[each.name] = control.job(each.name)
        figures.applied = sum(
            max(control.store.written(job.epoch, view).applied for view in job.views) for job in self.jobs.values()
        )
        figures.lag = self.lag(control, consumer)
        figures.produced_rate = self.produced.at(figures.produced, now)
        figures.applied_rate = self.applied.at(figures.applied, now)

    def lag(self, control: Control, consumer: Any) -> int:
        """Return how many messages of the jobs are not in the store; a materialiser that hangs would not say."""
        topics = [topic for job in self.jobs.values() for topic in job.row_topics]
        ends = consumer.end_offsets([place for each in topics for place in partitions_of(consumer, each)])
        return int(sum(ends.values())) - sum(sum(control.store.offsets(each).values()) for each in topics)

    def look_deeper(self, control: Control) -> None:
        """Ask the cluster, and count the fates."""
        try:
            for source, job in self.jobs.items():
                found = control.status(job)
                if found is not None:
                    self.figures.restarts[source] = found.restarts
                if found is not None and found.checkpoint_age is not None:
                    self.figures.checkpoint_age[source] = round(found.checkpoint_age, 1)
            if self.eager:  # while messages are on their way, counts of different moments do not add up
                self.account(control)
        except (UnskewError, KafkaError):
            return

    def hasten(self, control: Control) -> None:
        """Where fates are wanted at once, have the jobs make a checkpoint: they are known up to the last one."""
        if self.eager and not self.settled:
            with suppress(UnskewError):
                for job in self.jobs.values():
                    control.cluster.checkpoint(job.job_id)

    def account(self, control: Control) -> None:
        """Count the fates up to the last checkpoints."""
        accounts = [asdict(control.account(job)) for job in self.jobs.values()]
        fates: dict[str, int] = {}
        for each in accounts:
            for fate, count in each.items():
                if fate == "reasons":
                    self.figures.reasons |= count
                else:
                    fates[fate] = fates.get(fate, 0) + count
        self.figures.fates = fates
        self.settled = self.eager and fates.get("read") == self.figures.produced
