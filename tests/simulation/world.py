"""A live system without a clock: one process, real store, guard, tiles and reads, a schedule drawn from a seed.

What Flink would write is what `tests/conformance/test_stream.py` shows that it writes. The schedule decides the rest: what
has arrived, which rows reach the store (again, or in another order) after a crash, when an upload is made, flipped and
dropped, what is read when, and whether a flip happens between a read and the compilation of its program.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from redis import Redis

from tests.online.stream_rows import accepted, stream_rows
from unskew.backfill.tiles import closed_records
from unskew.backfill.window_states import Column, Events
from unskew.online.asked import entity_key
from unskew.online.materialise import Materialiser
from unskew.online.read import FeatureReader
from unskew.online.store import ViewContent
from unskew.online.store_redis import RedisStore
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int32, Int64, Timestamp, col, count, plan
from unskew.pipelines.backends import oracle
from unskew.pipelines.backends.flink_streams import Stream
from unskew.pipelines.errors import StoreError
from unskew.pipelines.records import closed_layout
from unskew.pipelines.states import LISTS
from unskew.pipelines.timegrid import DAY, HOUR, MINUTE

FOREVER, EPOCH = 2**60, "job"
BELOW_NULL = 7
START = 1_700_006_400_000  # 2023-11-15, a day's start, ms
events = EventSource(
    "events", {"id": Int64, "ts": Timestamp, "seen": Timestamp, "who": Int64, "shop": Int64, "amount": Int32(-50, 50)},
    event_time="ts", event_id="id", arrival="seen", allowed_lateness="6h",
)  # fmt: skip
activity = FeatureView(
    "activity", Entity("who", "who"), events,
    {
        "n": count().over("1h", "1d"),
        "total": col("amount").sum().over("2d", hop="1h"),
        "least": col("amount").min().over("1d"),
        "last": col("shop").last().over("1d"),
        "recent": col("amount").last_k(2).over("1d"),
        "largest": col("amount").top_k(2).over("2d", hop="1h"),
        "shops": col("shop").count_distinct().over("1d"),
        "by_shop": col("amount").sum().by(col("shop")).over("1d"),
        "ever": count().over("lifetime"),
        "known_later": count().over("2h", delay="1h"),
    },
)  # fmt: skip
PLAN = plan(FeatureSet("simulated", [activity]))
VIEW, SOURCE = PLAN.views[0], PLAN.sources[0]
Op = tuple[Any, ...]


@dataclass(frozen=True)
class Schedule:
    """Events in order of arrival, and what happens: both drawn from a seed, or a part of such."""

    rows: tuple[dict[str, Any], ...]
    ops: tuple[Op, ...]


def draw(seed: int) -> Schedule:
    """Draw a schedule."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    rows = sorted(draw_rows(rng, rng.randint(1, 24)), key=lambda row: row["seen"])
    weights = {"arrive": 5, "deliver": 6, "shuffled": 2, "crash": 2, "upload": 2, "flip": 2, "drop": 1, "read": 8}
    ops = [draw_op(rng, kind) for kind in rng.choices(list(weights), list(weights.values()), k=rng.randint(4, 24))]
    return Schedule(
        tuple(rows), (*ops, ("arrive", 99), ("deliver", 99), ("read", 1, "after", False), ("read", 2, "after", False))
    )


def draw_rows(rng: random.Random, n: int) -> list[dict[str, Any]]:
    """Draw events of two entities over three days: on edges, with ties, copies, disorder and late ones."""
    rows: list[dict[str, Any]] = []
    for _ in range(n):
        if rows and rng.random() < 0.15:
            row = dict(rng.choice(rows))
            row["amount"] = rng.choice((row["amount"], 9))
        else:
            grid = START + rng.randrange(3 * 24) * HOUR
            ts = grid + rng.choice((0, -1, 1, 5 * MINUTE, rng.randrange(HOUR)))
            row = {
                "id": rng.randint(1, 9),
                "ts": ts,
                "who": rng.choice((1, 1, 2, None)),
                "shop": rng.choice((1, 2, 3, None)),
            }
            row["amount"] = rng.choice((None, -50, -1, 0, 1, 50))
        lag = rng.choice((0, 0, 1, 30_000, -60_000, HOUR, 6 * HOUR, 6 * HOUR + 1, DAY, 2 * DAY))
        rows.append(row | {"seen": row["ts"] + lag})
    return rows


def draw_op(rng: random.Random, kind: str) -> Op:
    """Draw one step; its numbers are taken modulo what there is."""
    if kind in ("arrive", "deliver", "crash"):
        return kind, rng.randint(1, 8)
    if kind == "shuffled":
        return kind, rng.randint(2, 8), rng.randrange(2**32)
    if kind == "read":
        when = rng.choice(("after", "now", "batch_end", "event", "event", rng.randrange(4 * 24 * 60)))
        return kind, rng.choice((1, 2, 3)), when, rng.random() < 0.2
    return (kind,)


@dataclass
class Version:
    """A row of a tile or of a value in a tile, as the store took it: the events that it holds, in the order of the log."""

    held: list[oracle.Event]

    @property
    def rank(self) -> tuple[int, int]:
        """Count and smallest arrival."""
        return len(self.held), min(each.arrival for each in self.held)


@dataclass
class Expected:
    """A naive model of what the store holds."""

    versions: dict[tuple[Any, ...], list[Version]] = field(default_factory=dict)
    entries: dict[int, set[int]] = field(default_factory=dict)
    rejected: int = 0
    applied: int = 0

    def write(self, key: tuple[Any, ...], held: list[oracle.Event]) -> None:
        """Apply a version, or refuse it (design section 8)."""
        kept, new = self.versions.setdefault(key, []), Version(held)
        if not kept:
            kept.append(new)
            self.count(key, new.rank[0])
            return
        (n, arrival), (stored, first) = new.rank, kept[-1].rank
        if n < stored or arrival > first:
            self.rejected += 1
        elif n == stored:
            kept[-1] = new
        else:
            kept.append(new)
            self.count(key, n - stored)

    def count(self, key: tuple[Any, ...], more: int) -> None:
        """Count events that a tile now holds."""
        self.applied += more if key[0] == -1 else 0


class Interruption:
    """A part of a store: something may happen right after a read."""

    next: Any = None

    def read(self, *args: Any) -> Any:
        found = super().read(*args)  # type: ignore[misc] # the store's own
        if self.next is not None:
            happens, self.next = self.next, None
            happens()
        return found


class InterruptedSqlite(Interruption, SqliteStore):
    """An SQLite store in which something may happen."""


class InterruptedRedis(Interruption, RedisStore):
    """A Redis store in which something may happen."""


Interrupted = InterruptedSqlite | InterruptedRedis


def in_memory() -> Interrupted:
    return InterruptedSqlite(":memory:")


@dataclass
class InRedis:
    """Opens an empty store in a database of a Redis."""

    port: int
    database: int = 0

    def __call__(self) -> Interrupted:
        with Redis(port=self.port, db=self.database) as client:
            client.flushdb()
        return InterruptedRedis(f"redis://127.0.0.1:{self.port}/{self.database}")


class Simulation:
    """Runs a schedule and checks each read."""

    def __init__(self, schedule: Schedule, fresh: Callable[[], Interrupted] = in_memory) -> None:
        self.schedule = schedule
        self.events = [oracle.examine(SOURCE, *pair) for pair in enumerate(schedule.rows)]
        self.applied = [each for each in accepted(SOURCE, schedule.rows) if each.cells["who"] is not None]
        self.streams = stream_rows(PLAN, SOURCE.name, schedule.rows)[VIEW.name]
        self.store = fresh()
        self.writer = Materialiser(self.store, PLAN, SOURCE.name, EPOCH, version_life=FOREVER)
        self.reader = FeatureReader(PLAN, self.store)
        self.arrived = self.delivered = 0
        self.expected = Expected()
        self.closed: list[oracle.Event] = []
        self.batch_end = self.generation = 0
        self.waiting: tuple[int, int, list[oracle.Event]] | None = None
        self.reads = 0

    def run(self) -> None:
        """Run the whole schedule."""
        with self.store:
            for op in self.schedule.ops:
                getattr(self, op[0])(*op[1:])
            assert self.store.written(EPOCH).rejected == self.expected.rejected
            assert self.store.written(EPOCH).applied == self.expected.applied
            self.account()
            if self.delivered == len(self.schedule.rows):
                self.converged()

    def account(self) -> None:
        """Check that each row has one fate, and that the stream applied those that the contract says."""
        fates = oracle.fates(SOURCE, self.schedule.rows, PLAN.views)
        names = [each.name for each in fates]
        assert len(names) == len(self.schedule.rows) == sum(map(names.count, set(names)))
        assert [each.position for each in self.applied] == [at for at, name in enumerate(names) if name == "applied"]

    def converged(self) -> None:
        """Check that once all is delivered, reads hold all that an upload holds and all that the stream applies."""
        t = START + 6 * DAY
        known = [*self.closed, *(each for each in self.applied if each.ts >= self.batch_end)]
        for who in (1, 2):
            own = [each for each in known if each.cells["who"] == who]
            found = self.reader.read([{"who": who}], t).row()
            assert found == {each.name: oracle.feature_value(VIEW, each, own, t) for each in VIEW.features}

    # What happens

    def arrive(self, n: int) -> None:
        self.arrived = min(self.arrived + n, len(self.schedule.rows))

    def deliver(self, n: int) -> None:
        self.write(min(self.delivered + n, self.arrived))

    def shuffled(self, n: int, seed: int) -> None:
        self.write(min(self.delivered + n, self.arrived), random.Random(seed))  # noqa: S311

    def crash(self, back: int) -> None:
        """Let the job go on from an older checkpoint: it writes the same rows again."""
        self.delivered = max(self.delivered - back, 0)

    def write(self, until: int, rng: random.Random | None = None) -> None:
        lo, hi = self.delivered, until
        self.delivered = until
        batch: list[tuple[Stream, pa.Table]] = []
        for stream, rows in self.streams:
            bounds = np.searchsorted(rows["seq"].to_numpy(), [lo, hi])
            order = list(range(int(bounds[0]), int(bounds[1])))
            if rng is not None:
                rng.shuffle(order)
            batch.append((stream, rows.take(pa.array(order, pa.int64()))))
            for seq in (rows["seq"][each].as_py() for each in order):
                self.expect(stream, seq)
        if any(rows.num_rows for _, rows in batch):
            self.writer.apply({VIEW.name: batch})

    def expect(self, stream: Stream, seq: int) -> None:
        """Tell the model of a row that the stream wrote for an event."""
        event = next(each for each in self.applied if each.position == seq)
        before = [each for each in self.applied if each.position <= seq and same_tile(each, event)]
        tile = (event.cells["who"], tile_of(event.ts))
        if tile[1] < self.batch_end:
            return  # closed by now
        if stream.kind == "entries":
            self.expected.entries.setdefault(stream.field, set()).add(seq)
            return
        value = None
        if stream.kind == "values":
            value = oracle.lifted(VIEW.fields[stream.field].lift, event.cells)
            before = [each for each in before if oracle.lifted(VIEW.fields[stream.field].lift, each.cells) == value]
        self.expected.write((stream.field if stream.kind == "values" else -1, *tile, value), before)

    def upload(self) -> None:
        """Close the tiles of what has arrived, under a generation that nobody reads yet."""
        if not self.arrived:
            return
        cut = self.events[self.arrived - 1].arrival  # type: ignore[union-attr]
        end = SOURCE.batch_end(cut)
        archive = [each for each in self.events[: self.arrived] if isinstance(each, oracle.Event)]
        firsts = sorted(oracle.first_copies(SOURCE, archive).values(), key=lambda each: each.order)
        held = [each for each in firsts if each.arrival < cut and each.ts < end and each.cells["who"] is not None]
        if self.waiting is not None:
            self.store.drop_generation(self.waiting[0])
        generation = self.store.new_generation()
        features = {each.name: each.fingerprint for each in VIEW.features}
        self.store.put_content("closed", str(generation), VIEW.name, ViewContent(closed_layout(VIEW), features))
        whos = sorted({each.cells["who"] for each in held})  # type: ignore[type-var]
        ordered = sorted(held, key=lambda each: (each.cells["who"], each.order))
        records = closed_records(VIEW, columns_of(ordered, whos), len(whos), end)
        self.store.put_closed(
            generation, VIEW.name, [(entity_key([who]), record) for who, record in zip(whos, records, strict=True)]
        )
        self.waiting = (generation, cut, held)

    def flip(self) -> None:
        """Let reads see the newest upload."""
        if self.waiting is None:
            return
        generation, cut, held = self.waiting
        end = SOURCE.batch_end(cut)
        if end < self.batch_end:
            return
        self.store.flip(generation, {SOURCE.name: (cut, end)}, cut)
        self.generation, self.batch_end, self.closed, self.waiting = generation, end, held, None

    def drop(self) -> None:
        """Drop all generations before the one that is read."""
        for each in range(1, self.generation):
            self.store.drop_generation(each)

    # Reads

    def read(self, who: int, when: str | int, interrupted: bool) -> None:
        """Read and compare with the model as it was when the read began, or at its end where a flip came between."""
        t = max(self.instant(when), self.batch_end)
        wanted = self.model(who, t)
        if interrupted:
            self.store.next = self.flip_and_drop
        try:
            reading = self.reader.read([{"who": who}], t)
        except StoreError as error:  # a flip came between, and the instant lies before the closed tiles by now
            if not interrupted or self.batch_end <= t or "is before batch_end" not in str(error):
                raise
            return
        self.reads += 1
        found = reading.row()
        if found != wanted and interrupted:
            wanted = self.model(who, t)
        assert found == wanted, (
            who,
            t,
            {name: (found[name], wanted[name]) for name in wanted if found[name] != wanted[name]},
        )

    def flip_and_drop(self) -> None:
        self.upload()
        self.flip()
        self.drop()

    def instant(self, when: str | int) -> int:
        if when == "after":
            return START + 6 * DAY
        if when == "batch_end":
            return self.batch_end
        at = max(min(self.delivered, len(self.schedule.rows)) - 1, 0)
        row = self.schedule.rows[at]
        if when == "now":
            return int(row["seen"])
        return int(row["ts"]) if when == "event" else START + int(when) * MINUTE

    def model(self, who: int, t: int) -> dict[str, oracle.Result]:
        """Return each feature over exactly the events that the tiles read hold."""
        found = {}
        for feature in VIEW.features:
            of = VIEW.fields[feature.fields[0]]
            own = [each for each in self.closed if each.cells["who"] == who]
            if of.kind in LISTS:
                positions = self.expected.entries.get(feature.fields[0], set())
                own += [
                    each
                    for each in self.applied
                    if each.position in positions and each.cells["who"] == who and each.ts >= self.batch_end
                ]
            else:
                kind = feature.fields[0] if of.kind == "multiset" else -1
                for (at, entity, tile, _), versions in self.expected.versions.items():
                    if (at, entity) == (kind, who) and tile >= self.batch_end:
                        own += chosen(versions, tile, t)
            found[feature.name] = oracle.feature_value(VIEW, feature, own, t)
        return found


def chosen(versions: Sequence[Version], tile: int, t: int) -> list[oracle.Event]:
    """Return the events of the version that a read at `t` takes."""
    if tile != tile_of(t):
        return versions[-1].held
    fit = [each for each in versions if max(event.ts for event in each.held) < t]
    return fit[-1].held if fit else []


def tile_of(ts: int) -> int:
    return ts - ts % VIEW.hop


def same_tile(a: oracle.Event, b: oracle.Event) -> bool:
    return a.cells["who"] == b.cells["who"] and tile_of(a.ts) == tile_of(b.ts)


def columns_of(held: Sequence[oracle.Event], whos: Sequence[Any]) -> Events:
    """Return events as the kernels take them."""
    entity = np.array([whos.index(each.cells["who"]) for each in held], np.int64)
    return Events(
        entity, np.array([each.ts for each in held], np.int64), None, [column_of(each, held) for each in VIEW.fields]
    )


def column_of(of: Any, held: Sequence[oracle.Event]) -> Column:
    """Return lifts as the kernels take them: below a null anything, strings as codes in no order."""
    cells = [oracle.lifted(of.lift, each.cells) for each in held]
    valid = np.array([each is not None for each in cells], np.bool_)
    inner = tuple(column_of(each, held) for each in of.inner)
    if of.lift.type.kind != "string":
        return Column(
            np.array([BELOW_NULL if each is None else int(each) for each in cells], np.int64), valid, None, inner
        )
    texts = list(dict.fromkeys(str(each) for each in cells if each is not None))
    codes = np.array([0 if each is None else texts.index(str(each)) for each in cells], np.int64)
    return Column(codes, valid, pa.array(texts, pa.string()), inner)
