"""A seeded log of card transactions and their labels, as untidy as a real one.

Customers live on a map, buy mostly at terminals near home, at their own hours and for their own amounts.
The three kinds of fraud follow the idea of Le Borgne et al., *Reproducible Machine Learning for Credit
Card Fraud Detection* (2022), chapter 3. The log adds what a stream must survive: disorder, late events,
duplicates, clocks that run ahead, lines that cannot be read.

Each day has a generator of its own, seeded by (seed, day), and nothing arrives before it happens. So a
log can be made in parts that hold only the rows still under way, and the parts together are the whole
log, row by row. The same configuration gives the same bytes (for one version of NumPy and of pyarrow).
"""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unskew.pipelines.errors import InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Columns = dict[str, Ints]

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000  # ms
LATE_AFTER = DAY  # the default `allowed_lateness` of a source
GENUINE, LARGE_AMOUNT, COMPROMISED_TERMINAL, LEAKED_CREDENTIALS = range(4)
LARGE_CENTS, MAX_CENTS = 30_000, 2_000_000  # scenario 1: every amount above the first is fraud
LEAK_FACTOR, LEAK_SHARE = 5, 1 / 3
# Of all entity days, the share under attack; and how long one attack lasts, in days, inclusive.
TERMINALS_HIT, TERMINAL_DAYS = 0.006, (14, 28)
CUSTOMERS_HIT, CUSTOMER_DAYS = 0.009, (14, 14)

CUSTOMER_RATE, TERMINAL_RATE = 1.9, 1.0  # transactions a day, in the mean
WEEK = np.array([0.95, 0.95, 1.0, 1.0, 1.15, 1.15, 0.8])  # traffic by weekday, Monday first
MAP_KM, NEAR_KM = 100.0, 6.0
FAVOURITES, AWAY_SHARE = 16, 0.04
# One country but for a strip in the east, cut into equal bands from south to north.
COUNTRIES, BORDER_KM = ("US", "CA", "MX", "GB", "DE", "FR", "JP"), 93.0

SLOW_SHARE, SLOW_MEAN, SLOW_MAX = 0.04, 8 * MINUTE, 6 * HOUR
AHEAD_SHARE, AHEAD_MAX = 0.004, 30 * SECOND
FUTURE_MIN, FUTURE_MAX = 2 * HOUR, 12 * HOUR
LATE_MAX, LATE_COPIES, LABEL_JITTER = 5 * DAY, 0.1, 30 * MINUTE
ROWS_PER_FILE, ROW_GROUP = 100_000, 262_144


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate; refused as a whole if one value is out of range.

    Parameters
    ----------
    transactions
        Number of distinct transactions, exact; duplicates come on top.
    customers, terminals
        Numbers of them; by default so many that a customer has 1.9 and a terminal 1 transaction a day.
    days
        Length of the log in days; 90 lets windows of 30 d fill and labels of 7 d mature.
    start, seed
        First day, UTC; seed of every random number.
    late_share, duplicate_share
        Share of first copies that arrive more than 1 d after their event time (and within 5 d); share
        of transactions of which a second, equal copy arrives later, a tenth of them late.
    future_events, malformed_lines
        Numbers of events that are 2 h to 12 h ahead of their arrival, and of unreadable lines in the
        written transactions (none in the tables); both exact.
    label_delay
        Time from a transaction to its label; the label arrives up to 30 min after that.

    Raises
    ------
    InputError
        Where a value has the wrong type or is out of range.
    """

    transactions: int = 300_000
    customers: int | None = None
    terminals: int | None = None
    days: int = 90
    start: date = date(2025, 1, 1)
    seed: int = 7
    late_share: float = 0.002
    duplicate_share: float = 0.005
    future_events: int = 12
    malformed_lines: int = 20
    label_delay: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        for field in fields(self):
            _check(field.name, getattr(self, field.name))

    @property
    def customer_count(self) -> int:
        """Number of customers, derived where not given."""
        return self.customers or max(1, round(self.transactions / self.days / CUSTOMER_RATE))

    @property
    def terminal_count(self) -> int:
        """Number of terminals, derived where not given."""
        return self.terminals or max(1, round(self.transactions / self.days / TERMINAL_RATE))

    @property
    def start_ms(self) -> int:
        """First instant of the log in epoch ms."""
        return (self.start - date(1970, 1, 1)).days * DAY


# Lowest and highest value, both inclusive.
_RANGES: dict[str, tuple[Any, Any]] = {
    "transactions": (100, 10**9),
    **dict.fromkeys(("customers", "terminals"), (1, 10**8)),
    **dict.fromkeys(("days", "parts"), (1, 3_650)),
    "start": (date(1970, 1, 1), date(2100, 1, 1)),
    "seed": (0, 2**63 - 1),
    **dict.fromkeys(("late_share", "duplicate_share"), (0.0, 0.5)),
    "future_events": (0, 100),
    "malformed_lines": (0, 10**6),
    "rows_per_file": (1, 10**6),
    "label_delay": (timedelta(0), timedelta(days=365)),
}


def _check(name: str, value: Any) -> None:
    """Raise if `value` is not of the type or not in the range that `name` declares."""
    if value is None and name in ("customers", "terminals"):
        return
    low, high = _RANGES[name]
    # Exact types: a bool is no count, and a datetime would bring a time of day into `start`.
    kinds = (float, int) if type(low) is float else (type(low),)
    if type(value) not in kinds or not low <= value <= high:
        message = f"{name} `{value}` is out of range; give a value of type {kinds[0].__name__} from {low} to {high}"
        raise InputError(message)


@dataclass(frozen=True, eq=False)
class Simulation:
    """One log, or one part of it, in order of arrival.

    Attributes
    ----------
    config
        What was simulated.
    transactions
        transaction_id int64, event_time and arrival_time timestamp[ms, UTC], customer_id int64,
        terminal_id int64, amount decimal128(12, 2), country string.
    labels
        transaction_id int64, event_time (the transaction's), arrival_time, customer_id, terminal_id,
        is_fraud bool; one row for each distinct transaction.
    malformed
        Rows like those of `transactions` that only `write_log` adds, damaged.
    scenario
        int8, one for each row of `labels`: 0 genuine, 1 large amount, 2 compromised terminal,
        3 leaked credentials. No stream carries it.
    first_transaction, first_label
        Position of the first row of this part within its stream, malformed rows counted.
    """

    config: SimulationConfig
    transactions: pa.Table
    labels: pa.Table
    malformed: pa.Table
    scenario: pa.Array
    first_transaction: int = 0
    first_label: int = 0


def simulate(config: SimulationConfig) -> Simulation:
    """Simulate the whole log in memory; about 0.3 kB a transaction at the peak."""
    return next(simulate_parts(config, 1))


def simulate_parts(config: SimulationConfig, parts: int) -> Iterator[Simulation]:
    """Simulate the log in `parts` consecutive ranges of arrival, holding one and what is under way.

    The parts of a stream, one after the other, are the rows of `simulate(config)`. Each covers whole
    days, `start <= arrival < end`; the last one also holds what arrives after the last day.

    Raises
    ------
    InputError
        Where `parts` is below 1 or above `config.days`.
    """
    _check("parts", parts)
    if parts > config.days:
        message = f"parts `{parts}` are more than the days of the log; use at most {config.days}"
        raise InputError(message)
    return _parts(config, parts)


def _parts(config: SimulationConfig, parts: int) -> Iterator[Simulation]:
    """Draw the days of each part and release the rows that arrive before its end."""
    world = _world(config)
    bounds = [config.days * part // parts for part in range(parts + 1)]
    waiting: list[list[Columns]] = [[], [], [_malformed(config)]]
    transactions = labels = 0
    for first, end in itertools.pairwise(bounds):
        for day in range(first, end):
            for rows, drawn in zip(waiting, _day(config, world, day), strict=False):
                rows.append(drawn)
        # Nothing arrives before it happens: what later days bring lies behind this instant.
        until = config.start_ms + end * DAY if end < config.days else np.iinfo(np.int64).max
        paid, known, spoilt = (_release(rows, until) for rows in waiting)
        fraud = pa.table({**_keys(known), "is_fraud": pa.array(known["scenario"] != GENUINE)})
        tables = _transaction_table(paid), fraud, _transaction_table(spoilt)
        yield Simulation(config, *tables, pa.array(known["scenario"].astype(np.int8)), transactions, labels)
        transactions += len(paid["cents"]) + len(spoilt["cents"])
        labels += len(known["scenario"])


def _release(rows: list[Columns], until: int) -> Columns:
    """Take the rows with `arrival_time < until`, sorted by arrival, and leave the others in `rows`."""
    together = {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}
    # Stable, and earlier days come first: ties fall the same way however the log is cut.
    order = np.argsort(together["arrival_time"], kind="stable")
    ready = int(np.searchsorted(together["arrival_time"], until, sorter=order))
    rows[:] = [_take(together, order[ready:])]
    return _take(together, order[:ready])


def _take(columns: Columns, rows: Ints | Bools) -> Columns:
    """Return the given rows of all columns."""
    return {name: column[rows] for name, column in columns.items()}


@dataclass(frozen=True)
class _World:
    """All that outlasts a day; arrays by customer, by terminal, by day."""

    demand: Floats  # (customers,) cumulative share of the traffic; the last is 1
    shape: Floats  # (customers,) gamma shape of the amounts: 1 / (relative spread)^2
    cents: Floats  # (customers,) mean amount
    peak: Floats  # (customers,) usual instant of the day, ms
    spread: Floats  # (customers,) standard deviation around it, ms
    favourites: npt.NDArray[np.int32]  # (customers, FAVOURITES) terminals near home, the dearest first
    country: Ints  # (terminals,) index into COUNTRIES
    leaks: Ints  # (3, attacks) customer, first day, day after the last
    compromises: Ints  # (3, attacks) the same of terminals
    first_id: Ints  # (days + 1,) first transaction id of each day
    future_ids: Ints  # transactions whose clock is hours ahead


def _world(config: SimulationConfig) -> _World:
    """Draw customers, terminals, attacks and the calendar."""
    rng = np.random.default_rng([config.seed, 0])
    customers, terminals, days = config.customer_count, config.terminal_count, config.days
    demand = np.cumsum(rng.gamma(4.0, size=customers))
    places = rng.uniform(0, MAP_KM, (terminals, 2))
    foreign = (places[:, 1] * ((len(COUNTRIES) - 1) / MAP_KM)).astype(np.int64)
    weekday = (config.start.weekday() + np.arange(days)) % 7
    per_day = rng.multinomial(config.transactions, WEEK[weekday] / WEEK[weekday].sum())
    return _World(
        demand=demand / demand[-1],
        shape=rng.uniform(0.3, 0.7, customers) ** -2,
        cents=rng.uniform(500, 12_000, customers),
        peak=rng.normal(14, 3, customers) * HOUR,
        spread=rng.uniform(1.5, 5, customers) * HOUR,
        favourites=_favourites(rng, rng.uniform(0, MAP_KM, (customers, 2)), places),
        country=np.where(places[:, 0] < BORDER_KM, 0, 1 + foreign),
        leaks=_attacks(rng, customers, days, CUSTOMERS_HIT, CUSTOMER_DAYS),
        compromises=_attacks(rng, terminals, days, TERMINALS_HIT, TERMINAL_DAYS),
        first_id=np.concatenate([[0], np.cumsum(per_day)]),
        future_ids=rng.choice(config.transactions, config.future_events, replace=False),
    )


def _favourites(rng: np.random.Generator, homes: Floats, places: Floats) -> npt.NDArray[np.int32]:
    """Return (customers, FAVOURITES) terminals, each in the map cell of a point drawn around the home."""
    side = max(1, int(np.sqrt(len(places) / 4)))  # cells of four terminals in the mean
    cell = _cell(places, side)
    by_cell = np.argsort(cell, kind="stable").astype(np.int32)
    first = np.searchsorted(cell[by_cell], np.arange(side * side + 1))
    chosen = np.empty((len(homes), FAVOURITES), dtype=np.int32)
    for rank in range(FAVOURITES):  # rank by rank, so that large maps need little memory
        wanted = _cell(homes + rng.normal(0, NEAR_KM, homes.shape), side)
        room = np.maximum(first[wanted + 1] - first[wanted], 1)
        # An empty cell gives the first terminal of the next cell, its neighbour.
        chosen[:, rank] = by_cell[(first[wanted] + rng.integers(0, room)) % len(places)]
    return chosen


def _cell(points: Floats, side: int) -> Ints:
    """Return the number of the map cell of each point, row by row from the south-west."""
    column, row = np.clip((points * (side / MAP_KM)).astype(np.int64), 0, side - 1).T
    return np.asarray(row * side + column, dtype=np.int64)


def _attacks(rng: np.random.Generator, entities: int, days: int, share: float, length: tuple[int, int]) -> Ints:
    """Draw attacks that cover `share` of all entity days; on the first day some are already under way."""
    span = days + length[1] - 1
    count = max(1, round(share * entities * span / (sum(length) / 2)))
    first = rng.integers(1 - length[1], days, count)
    return np.stack([rng.integers(0, entities, count), first, first + rng.integers(length[0], length[1] + 1, count)])


def _attacked(attacks: Ints, day: int, entities: int) -> Bools:
    """Return for each entity whether it is under attack on `day`."""
    entity, first, end = attacks
    hit = np.zeros(entities, dtype=np.bool_)
    hit[entity[(first <= day) & (day < end)]] = True
    return hit


def _malformed(config: SimulationConfig) -> Columns:
    """Draw the rows that are written damaged; their ids follow on the log's."""
    rng, count = np.random.default_rng([config.seed, 2]), config.malformed_lines
    at = np.sort(config.start_ms + rng.integers(0, config.days * DAY, count))
    zeros = dict.fromkeys(("customer_id", "terminal_id", "cents", "country"), np.zeros(count, dtype=np.int64))
    return {"transaction_id": config.transactions + np.arange(count), "event_time": at, "arrival_time": at, **zeros}


def _day(config: SimulationConfig, world: _World, day: int) -> tuple[Columns, Columns]:
    """Draw the transactions that happen on one day, copies included, and their labels."""
    rng = np.random.default_rng([config.seed, 1, day])
    first, end = int(world.first_id[day]), int(world.first_id[day + 1])
    customer, terminal, happened = _payments(rng, world, end - first)
    cents, scenario = _amounts(rng, world, day, customer, terminal)
    ids = np.arange(first, end)
    happened += config.start_ms + day * DAY
    event, arrival = _clocks(rng, config.late_share, happened, np.isin(ids, world.future_ids))
    rows = {"transaction_id": ids, "event_time": event, "customer_id": customer, "terminal_id": terminal}
    known = event + config.label_delay // timedelta(milliseconds=1) + rng.integers(MINUTE, LABEL_JITTER, len(ids))
    paid = {**rows, "arrival_time": arrival, "cents": cents, "country": world.country[terminal]}
    return _with_copies(rng, config.duplicate_share, paid), {**rows, "arrival_time": known, "scenario": scenario}


def _payments(rng: np.random.Generator, world: _World, count: int) -> tuple[Ints, Ints, Ints]:
    """Draw customers by demand, terminals near them, instants (ms of the day); in order of the instants."""
    customer = np.searchsorted(world.demand, rng.random(count), side="right")
    usual = rng.normal(world.peak[customer], world.spread[customer])
    happened = np.floor(usual).astype(np.int64) % DAY
    # The first favourites more often; now and then a terminal anywhere.
    rank = (FAVOURITES * rng.random(count) ** 2).astype(np.int64)
    terminal = world.favourites[customer, rank].astype(np.int64)
    away = rng.random(count) < AWAY_SHARE
    terminal[away] = rng.integers(0, len(world.country), np.count_nonzero(away))
    order = np.argsort(happened, kind="stable")
    return customer[order], terminal[order], happened[order]


def _amounts(rng: np.random.Generator, world: _World, day: int, customer: Ints, terminal: Ints) -> tuple[Ints, Ints]:
    """Draw amounts in cents and name the fraud; where two scenarios meet, the terminal's counts first."""
    shape = world.shape[customer]
    cents = np.rint(rng.gamma(shape) * (world.cents[customer] / shape)).astype(np.int64)
    leaked = _attacked(world.leaks, day, len(world.demand))[customer] & (rng.random(len(customer)) < LEAK_SHARE)
    compromised = _attacked(world.compromises, day, len(world.country))[terminal]
    cents = np.clip(np.where(leaked, LEAK_FACTOR * cents, cents), 1, MAX_CENTS)
    names = [COMPROMISED_TERMINAL, LEAKED_CREDENTIALS, LARGE_AMOUNT]
    return cents, np.select([compromised, leaked, cents > LARGE_CENTS], names, GENUINE)


def _clocks(rng: np.random.Generator, late_share: float, happened: Ints, future: Bools) -> tuple[Ints, Ints]:
    """Draw event times and arrivals, in ms, of what truly happened at `happened`.

    A wrong clock moves the event time, never the arrival, so that nothing arrives before it happens.
    """
    count = len(happened)
    fast = np.minimum(50 + rng.lognormal(7.3, 1.0, count), MINUTE)  # 1.5 s in the median
    slow = np.minimum(rng.exponential(SLOW_MEAN, count), SLOW_MAX)
    lag = np.where(rng.random(count) < SLOW_SHARE, slow, fast).astype(np.int64)
    late = (rng.random(count) < late_share) & ~future
    lag[late] = rng.integers(LATE_AFTER + MINUTE, LATE_MAX, np.count_nonzero(late))
    arrival = happened + lag
    ahead = (rng.random(count) < AHEAD_SHARE) & ~late & ~future
    clocks = [rng.integers(least, most, count) for least, most in ((FUTURE_MIN, FUTURE_MAX), (SECOND, AHEAD_MAX))]
    event = np.select([future, ahead], [arrival + each for each in clocks], happened)
    return event, arrival


def _with_copies(rng: np.random.Generator, share: float, rows: Columns) -> Columns:
    """Append second copies that arrive seconds to minutes after the first, or days."""
    copies = _take(rows, rng.random(len(rows["cents"])) < share)
    count = len(copies["cents"])
    lag = SECOND + np.minimum(rng.exponential(30 * SECOND, count), HOUR).astype(np.int64)
    late = rng.random(count) < LATE_COPIES
    # A day after the event time, which a wrong clock may have moved by half a day.
    lag[late] = rng.integers(LATE_AFTER + FUTURE_MAX, LATE_MAX, np.count_nonzero(late))
    copies["arrival_time"] = copies["arrival_time"] + lag
    return {name: np.concatenate([rows[name], copies[name]]) for name in rows}


def _transaction_table(rows: Columns) -> pa.Table:
    """Return the Arrow table of the transactions."""
    # A decimal is two words, low and sign: no Python object for each value.
    words = np.column_stack([rows["cents"], rows["cents"] >> 63]).astype("<i8")
    amount = pa.Array.from_buffers(pa.decimal128(12, 2), len(words), [None, pa.py_buffer(words)])
    country = pa.DictionaryArray.from_arrays(pa.array(rows["country"].astype(np.int8)), list(COUNTRIES))
    return pa.table({**_keys(rows), "amount": amount, "country": country.cast(pa.string())})


def _keys(rows: Columns) -> dict[str, pa.Array]:
    """Return the columns that both streams have."""
    names = ("transaction_id", "event_time", "arrival_time", "customer_id", "terminal_id")
    instant = pa.timestamp("ms", "UTC")
    return {name: pa.array(rows[name]).view(instant if name.endswith("_time") else pa.int64()) for name in names}


def _streams(simulation: Simulation, folder: Path, suffix: str) -> list[tuple[Path, pa.Table, pa.Table, int]]:
    """Make the folders; return each with its rows, malformed rows, first position. Never mix two logs."""
    paid, known, spoilt = simulation.transactions, simulation.labels, simulation.malformed
    streams = [
        (folder / "transactions", paid, spoilt, simulation.first_transaction),
        (folder / "labels", known, known.slice(0, 0), simulation.first_label),
    ]
    for place, _, _, first in streams:
        place.mkdir(parents=True, exist_ok=True)
        clash = max((path.name for path in place.glob(f"[0-9]*.{suffix}")), default="")
        if clash >= f"{first:012d}":
            message = f"folder `{place}` already holds `{clash}` of another log; delete it or name a new folder"
            raise InputError(message)
    return [each for each in streams if each[1].num_rows + each[2].num_rows]  # a first part may know no label


def write_log(simulation: Simulation, folder: Path, *, rows_per_file: int = ROWS_PER_FILE) -> None:
    """Write both streams as JSON lines: `folder/transactions/*.jsonl` and `folder/labels/*.jsonl`.

    Each line has its position in the stream as `_seq`, from 0 in order of arrival; times are epoch
    ms, amounts strings of two digits. Files are named by their first position, so that their names
    sort as their lines do, and appear whole. Parts written in their order make one log.

    Raises
    ------
    InputError
        Where the folder already holds lines at or after these positions.
    """
    _check("rows_per_file", rows_per_file)
    for place, rows, malformed, first in _streams(simulation, folder, "jsonl"):
        together = pa.concat_tables([malformed, rows]).combine_chunks()
        order = np.argsort(together["arrival_time"].to_numpy(), kind="stable")
        together, spoilt = together.take(pa.array(order)), order < malformed.num_rows
        for start in range(0, len(order), rows_per_file):
            some = slice(start, start + rows_per_file)
            lines = _lines(first + np.arange(len(order))[some], together[some])
            lines = _with_damage(lines, together["transaction_id"].to_numpy()[some], spoilt[some])
            size = pc.sum(pc.binary_length(lines)).as_py()
            with _whole(place / f"{first + start:012d}.jsonl") as aside:
                aside.write_bytes(memoryview(lines.buffers()[2])[:size])  # the strings' bytes, end to end


def write_parquet(simulation: Simulation, folder: Path) -> None:
    """Write both tables as Parquet: one file each in `folder/transactions` and `folder/labels`.

    Files are named by their first position and appear whole; malformed lines are not in them.

    Raises
    ------
    InputError
        Where the folder already holds rows at or after these positions.
    """
    for place, rows, _, first in _streams(simulation, folder, "parquet"):
        with _whole(place / f"{first:012d}.parquet") as aside:
            pq.write_table(rows, aside, compression="zstd", row_group_size=ROW_GROUP)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a hidden name to write to, and rename it once the file is whole."""
    aside = path.with_name(f".{path.name}.part")
    yield aside
    aside.replace(path)


def _lines(positions: Ints, table: pa.Table) -> pa.Array:
    """Return one JSON line for each row, joined column by column in Arrow."""
    pieces: list[Any] = ['{"_seq":', pc.cast(pa.array(positions), pa.string())]
    for name in table.column_names:
        kind, column = table.schema.field(name).type, table[name].combine_chunks()
        integers = column.view(pa.int64()) if pa.types.is_timestamp(kind) else column
        # Countries are plain letters: nothing in this log needs escaping.
        quote = '"' if pa.types.is_string(kind) or pa.types.is_decimal(kind) else ""
        pieces += [f',"{name}":{quote}', pc.cast(integers, pa.string()), quote]
    return pc.binary_join_element_wise(*pieces, "}\n", "")


# How a line is spoilt, taken in turn by its transaction's id: a pattern and what replaces it.
_DAMAGE = (
    (r".{60}\n", "\n"),  # broken off
    (r'"customer_id":\d+', '"customer_id":"nobody"'),
    (r'"event_time":\d+,', ""),
    (r'"amount":"[^"]+"', '"amount":"-99999999999.99"'),  # below what a Decimal(12, 2) holds
)


def _with_damage(lines: pa.Array, ids: Ints, spoilt: Bools) -> pa.Array:
    """Return the lines with the `spoilt` ones damaged."""
    mask = pa.array(spoilt)
    pairs = zip(ids[spoilt].tolist(), lines.filter(mask).to_pylist(), strict=True)
    damaged = [re.sub(*_DAMAGE[each % len(_DAMAGE)], line) for each, line in pairs]
    return pc.replace_with_mask(lines, mask, pa.array(damaged)) if damaged else lines
