"""A seeded log of card transactions and their labels, as untidy as a real one.

Customers live on a map of 100 x 100 km, buy mostly at terminals near home, at their own hours and for
their own amounts. The three kinds of fraud follow the idea of the simulator in Le Borgne et al.,
*Reproducible Machine Learning for Credit Card Fraud Detection* (2022), chapter 3: large amounts,
compromised terminals, leaked credentials. The log adds what a stream must survive: disorder, late
events, duplicates, clocks that run ahead, lines that cannot be read.

Each day is drawn from a generator of its own, seeded by (seed, day), and nothing arrives before it
happens. So a log can be made in parts, of which only the rows still under way are kept, and the parts
together are the whole log, row by row. The same configuration gives the same bytes (for one version of
NumPy and of pyarrow).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
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
LARGE_CENTS = 40_000  # scenario 1: every amount above is fraud
MAX_CENTS = 2_000_000
LEAK_FACTOR, LEAK_SHARE = 5, 1 / 3
# Of all entity days, the share under attack; and how long one attack lasts, in days, inclusive.
TERMINALS_HIT, TERMINAL_DAYS = 0.0055, (14, 28)
CUSTOMERS_HIT, CUSTOMER_DAYS = 0.009, (14, 14)

RATE = 1.9  # transactions of a customer a day, in the mean
TERMINAL_RATE = 1.0
WEEK = np.array([0.95, 0.95, 1.0, 1.0, 1.15, 1.15, 0.8])  # traffic by weekday, Monday first
MAP_KM, NEAR_KM = 100.0, 6.0
FAVOURITES = 16
AWAY_SHARE = 0.04
# One country but for a strip in the east, cut into equal bands from south to north.
HOME_COUNTRY, FOREIGN, BORDER_KM = "US", ("CA", "MX", "GB", "DE", "FR", "JP"), 93.0
COUNTRIES = (HOME_COUNTRY, *FOREIGN)

SLOW_SHARE, SLOW_MEAN, SLOW_MAX = 0.04, 8 * MINUTE, 6 * HOUR
AHEAD_SHARE, AHEAD_MAX = 0.004, 30 * SECOND
FUTURE_MIN, FUTURE_MAX = 2 * HOUR, 12 * HOUR
LATE_MAX = 5 * DAY
LATE_COPIES = 0.1
LABEL_JITTER = 30 * MINUTE

ROWS_PER_FILE = 100_000
ROW_GROUP = 262_144


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate; refused as a whole if one value is out of range.

    Parameters
    ----------
    transactions
        Number of distinct transactions, exact; duplicates come on top. 100 to 10^9.
    customers
        Number of customers; by default so many that each has 1.9 transactions a day.
    terminals
        Number of terminals; by default so many that each has 1 transaction a day.
    days
        Length of the log in days; 90 lets windows of 30 d fill and labels of 7 d mature.
    start
        First day, UTC.
    seed
        Seed of every random number, at least 0.
    late_share
        Share of first copies that arrive more than 1 d after their event time (and within 5 d).
    duplicate_share
        Share of transactions of which a second, equal copy arrives later; a tenth of these late.
    future_events
        Number of events that are 2 h to 12 h ahead of their arrival, exact.
    malformed_lines
        Number of unreadable lines in the written transactions, exact; none in the tables.
    label_delay
        Time from a transaction to its label.

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
        return self.customers or max(1, round(self.transactions / self.days / RATE))

    @property
    def terminal_count(self) -> int:
        """Number of terminals, derived where not given."""
        return self.terminals or max(1, round(self.transactions / self.days / TERMINAL_RATE))

    @property
    def start_ms(self) -> int:
        """First instant of the log in epoch ms."""
        return int(datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC).timestamp()) * 1000


# Lowest and highest value, both inclusive.
_RANGES: dict[str, tuple[Any, Any]] = {
    "transactions": (100, 10**9),
    "customers": (1, 10**8),
    "terminals": (1, 10**8),
    "days": (1, 3_650),
    "start": (date(1970, 1, 1), date(2100, 1, 1)),
    "seed": (0, 2**63 - 1),
    "late_share": (0.0, 0.5),
    "duplicate_share": (0.0, 0.5),
    "future_events": (0, 100),
    "malformed_lines": (0, 1_000_000),
    "label_delay": (timedelta(0), timedelta(days=365)),
    "parts": (1, 3_650),
    "rows_per_file": (1, 1_000_000),
}


def _check(name: str, value: object) -> None:
    """Raise if `value` is not of the type or not in the range that `name` declares."""
    if value is None and name in ("customers", "terminals"):
        return
    low, high = _RANGES[name]
    # Exact types: a bool is no count, and a datetime would bring a time of day into `start`.
    right = type(value) is type(low) or (type(low) is float and type(value) is int)
    if not right or not low <= value <= high:  # type: ignore[operator]
        message = f"{name} `{value}` cannot be simulated; give a value of type {type(low).__name__} from {low} to {high}"
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
    scenario
        int8, one for each row of `labels`: 0 genuine, 1 large amount, 2 compromised terminal,
        3 leaked credentials. The simulator's secret; no stream carries it.
    malformed_at
        Arrival in epoch ms of each malformed line, ascending.
    first_malformed
        Rank of the first malformed line of this part within the whole log.
    first_transaction, first_label
        Position of the first row of this part within its stream, malformed lines counted.
    """

    config: SimulationConfig
    transactions: pa.Table
    labels: pa.Table
    scenario: pa.Array
    malformed_at: Ints
    first_malformed: int = 0
    first_transaction: int = 0
    first_label: int = 0


def simulate(config: SimulationConfig) -> Simulation:
    """Simulate the whole log in memory; about 0.5 kB a transaction at the peak.

    Parameters
    ----------
    config
        What to simulate.

    Returns
    -------
    Simulation
        Both streams in order of arrival.
    """
    return next(simulate_parts(config, 1))


def simulate_parts(config: SimulationConfig, parts: int) -> Iterator[Simulation]:
    """Simulate the log in consecutive ranges of arrival, holding one range and what is under way.

    The parts of a stream, one after the other, are the rows of `simulate(config)`; the last part
    also holds what arrives after the last day.

    Parameters
    ----------
    config
        What to simulate.
    parts
        Number of parts, at most one for each day.

    Returns
    -------
    Iterator[Simulation]
        The parts in order of arrival.

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
    waiting: list[list[Columns]] = [[], []]
    malformed = transactions = labels = 0
    for first, end in itertools.pairwise(bounds):
        for day in range(first, end):
            for rows, drawn in zip(waiting, _day(config, world, day), strict=True):
                rows.append(drawn)
        # Nothing arrives before it happens: what later days bring lies behind this instant.
        until = config.start_ms + end * DAY if end < config.days else np.iinfo(np.int64).max
        ready = [_release(rows, until) for rows in waiting]
        lines = world.malformed_at[malformed : int(np.searchsorted(world.malformed_at, until))]
        scenario = pa.array(ready[1]["scenario"].astype(np.int8))
        tables = _transaction_table(ready[0]), _label_table(ready[1])
        yield Simulation(config, *tables, scenario, lines, malformed, transactions, labels)
        malformed += len(lines)
        transactions += tables[0].num_rows + len(lines)
        labels += tables[1].num_rows


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
class _Attacks:
    """Entities under attack from the day `first` up to the day before `end`; one row an attack."""

    entity: Ints
    first: Ints
    end: Ints

    def on(self, day: int, entities: int) -> Bools:
        """Return for each entity whether it is under attack on `day`."""
        hit = np.zeros(entities, dtype=np.bool_)
        hit[self.entity[(self.first <= day) & (day < self.end)]] = True
        return hit


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
    leaks: _Attacks  # of customers
    compromises: _Attacks  # of terminals
    first_id: Ints  # (days + 1,) first transaction id of each day
    future_ids: Ints  # transactions whose clock is hours ahead
    malformed_at: Ints  # arrival of each malformed line, ms, ascending


def _world(config: SimulationConfig) -> _World:
    """Draw customers, terminals, attacks and the calendar."""
    rng = np.random.default_rng([config.seed, 0])
    customers, terminals, days = config.customer_count, config.terminal_count, config.days
    demand = np.cumsum(rng.gamma(4.0, size=customers))
    places = rng.uniform(0, MAP_KM, (terminals, 2))
    weekday = (config.start.weekday() + np.arange(days)) % 7
    per_day = rng.multinomial(config.transactions, WEEK[weekday] / WEEK[weekday].sum())
    return _World(
        demand=demand / demand[-1],
        shape=rng.uniform(0.3, 0.7, customers) ** -2,
        cents=rng.uniform(500, 12_000, customers),
        peak=rng.normal(14, 3, customers) * HOUR,
        spread=rng.uniform(1.5, 5, customers) * HOUR,
        favourites=_favourites(rng, rng.uniform(0, MAP_KM, (customers, 2)), places),
        country=_countries(places),
        leaks=_attacks(rng, customers, days, CUSTOMERS_HIT, CUSTOMER_DAYS),
        compromises=_attacks(rng, terminals, days, TERMINALS_HIT, TERMINAL_DAYS),
        first_id=np.concatenate([[0], np.cumsum(per_day)]),
        future_ids=rng.choice(config.transactions, config.future_events, replace=False),
        malformed_at=np.sort(config.start_ms + rng.integers(0, days * DAY, config.malformed_lines)),
    )


def _favourites(rng: np.random.Generator, homes: Floats, places: Floats) -> npt.NDArray[np.int32]:
    """Return terminals near each home: any one in the map cell of a point drawn around the home.

    Parameters
    ----------
    rng
        Source of randomness.
    homes
        (customers, 2) positions in km.
    places
        (terminals, 2) positions in km.

    Returns
    -------
    NDArray[int32]
        (customers, FAVOURITES) terminal numbers.
    """
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
    column_row = np.clip((points * (side / MAP_KM)).astype(np.int64), 0, side - 1)
    cells: Ints = column_row[:, 1] * side + column_row[:, 0]
    return cells


def _countries(places: Floats) -> Ints:
    """Return the index into `COUNTRIES` of each place."""
    band = (places[:, 1] * (len(FOREIGN) / MAP_KM)).astype(np.int64)
    return np.where(places[:, 0] < BORDER_KM, 0, 1 + band)


def _attacks(
    rng: np.random.Generator, entities: int, days: int, share: float, length: tuple[int, int]
) -> _Attacks:
    """Draw attacks that cover `share` of all entity days; on the first day some are already under way."""
    span = days + length[1] - 1
    count = max(1, round(share * entities * span / (sum(length) / 2)))
    first = rng.integers(1 - length[1], days, count)
    return _Attacks(rng.integers(0, entities, count), first, first + rng.integers(length[0], length[1] + 1, count))


def _day(config: SimulationConfig, world: _World, day: int) -> tuple[Columns, Columns]:
    """Draw the transactions that happen on one day, copies included, and their labels."""
    rng = np.random.default_rng([config.seed, 1, day])
    first, end = int(world.first_id[day]), int(world.first_id[day + 1])
    customer, happened = _who_and_when(rng, world, end - first)
    terminal = _where(rng, world, customer)
    cents, scenario = _amounts(rng, world, day, customer, terminal)
    ids = np.arange(first, end)
    event, arrival = _clocks(
        rng, config.late_share, config.start_ms + day * DAY + happened, np.isin(ids, world.future_ids)
    )
    rows = {
        "transaction_id": ids,
        "event_time": event,
        "arrival_time": arrival,
        "customer_id": customer,
        "terminal_id": terminal,
    }
    delay = config.label_delay // timedelta(milliseconds=1)
    known = event + delay + rng.integers(MINUTE, LABEL_JITTER, len(ids))
    labels = {**rows, "arrival_time": known, "scenario": scenario}
    transactions = {**rows, "cents": cents, "country": world.country[terminal]}
    return _with_copies(rng, config.duplicate_share, transactions), labels


def _who_and_when(rng: np.random.Generator, world: _World, count: int) -> tuple[Ints, Ints]:
    """Draw customers by their demand and instants by their hours; in order of the instant, ms of the day."""
    customer = np.searchsorted(world.demand, rng.random(count), side="right")
    usual = rng.normal(world.peak[customer], world.spread[customer])
    happened = np.floor(usual).astype(np.int64) % DAY
    order = np.argsort(happened, kind="stable")
    return customer[order], happened[order]


def _where(rng: np.random.Generator, world: _World, customer: Ints) -> Ints:
    """Draw a terminal for each customer: a favourite, the first ones more often, or now and then any."""
    rank = (FAVOURITES * rng.random(len(customer)) ** 2).astype(np.int64)
    terminal = world.favourites[customer, rank].astype(np.int64)
    away = rng.random(len(customer)) < AWAY_SHARE
    terminal[away] = rng.integers(0, len(world.country), np.count_nonzero(away))
    return terminal


def _amounts(rng: np.random.Generator, world: _World, day: int, customer: Ints, terminal: Ints) -> tuple[Ints, Ints]:
    """Draw amounts in cents and name the fraud; where two scenarios meet, the terminal's counts first."""
    shape = world.shape[customer]
    cents = np.rint(rng.gamma(shape) * (world.cents[customer] / shape)).astype(np.int64)
    leaked = world.leaks.on(day, len(world.demand))[customer] & (rng.random(len(customer)) < LEAK_SHARE)
    compromised = world.compromises.on(day, len(world.country))[terminal]
    cents = np.clip(np.where(leaked, LEAK_FACTOR * cents, cents), 1, MAX_CENTS)
    scenario = np.select(
        [compromised, leaked, cents > LARGE_CENTS], [COMPROMISED_TERMINAL, LEAKED_CREDENTIALS, LARGE_AMOUNT], GENUINE
    )
    return cents, scenario.astype(np.int64)


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
    event = np.where(ahead, arrival + rng.integers(SECOND, AHEAD_MAX, count), happened)
    event = np.where(future, arrival + rng.integers(FUTURE_MIN, FUTURE_MAX, count), event)
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
    country = pa.DictionaryArray.from_arrays(pa.array(rows["country"].astype(np.int8)), list(COUNTRIES))
    return pa.table({**_keys(rows), "amount": _decimals(rows["cents"]), "country": country.cast(pa.string())})


def _label_table(rows: Columns) -> pa.Table:
    """Return the Arrow table of the labels."""
    return pa.table({**_keys(rows), "is_fraud": pa.array(rows["scenario"] != GENUINE)})


def _keys(rows: Columns) -> dict[str, pa.Array]:
    """Return the columns that both streams have."""
    instants = ("event_time", "arrival_time")
    names = ("transaction_id", *instants, "customer_id", "terminal_id")
    columns = {name: pa.array(rows[name]) for name in names}
    return columns | {name: columns[name].view(pa.timestamp("ms", "UTC")) for name in instants}


def _decimals(cents: Ints) -> pa.Array:
    """Return cents as decimal128(12, 2), without a Python object for each value."""
    words = np.column_stack([cents, cents >> 63]).astype("<i8")  # low word, then the sign's
    return pa.Array.from_buffers(pa.decimal128(12, 2), len(cents), [None, pa.py_buffer(words)])


@dataclass(frozen=True)
class _Stream:
    """One stream of a simulation, ready to be written."""

    name: str
    table: pa.Table
    first: int  # position of the first line
    malformed_at: Ints


def _streams(simulation: Simulation) -> tuple[_Stream, _Stream]:
    """Return the two streams of a simulation."""
    none = np.empty(0, dtype=np.int64)
    return (
        _Stream("transactions", simulation.transactions, simulation.first_transaction, simulation.malformed_at),
        _Stream("labels", simulation.labels, simulation.first_label, none),
    )


def write_log(simulation: Simulation, folder: Path, *, rows_per_file: int = ROWS_PER_FILE) -> None:
    """Write both streams as JSON lines: `folder/transactions/*.jsonl` and `folder/labels/*.jsonl`.

    Each line has its position in the stream as `_seq`, from 0 in order of arrival; times are epoch
    ms, amounts strings of two digits. Files are named by their first position, so that their names
    sort as their lines do, and appear whole. Parts written in their order make one log.

    Parameters
    ----------
    simulation
        A log or a part of one.
    folder
        Where the two folders are made.
    rows_per_file
        Lines of a file, the last one of a part excepted.

    Raises
    ------
    InputError
        Where the folder already holds lines at or after these positions.
    """
    _check("rows_per_file", rows_per_file)
    streams = _streams(simulation)
    for stream in streams:
        _make_room(folder / stream.name, stream.first, "jsonl")
    for stream in streams:
        _write_lines(stream, simulation, folder / stream.name, rows_per_file)


def write_parquet(simulation: Simulation, folder: Path) -> None:
    """Write both tables as Parquet: one file each in `folder/transactions` and `folder/labels`.

    Files are named by their first position and appear whole; the malformed lines are not in them.

    Parameters
    ----------
    simulation
        A log or a part of one.
    folder
        Where the two folders are made.

    Raises
    ------
    InputError
        Where the folder already holds rows at or after these positions.
    """
    streams = _streams(simulation)
    for stream in streams:
        _make_room(folder / stream.name, stream.first, "parquet")
    for stream in streams:
        path = folder / stream.name / f"{stream.first:012d}.parquet"
        aside = _aside(path)
        pq.write_table(stream.table, aside, compression="zstd", row_group_size=ROW_GROUP)
        aside.replace(path)


def _make_room(folder: Path, first: int, suffix: str) -> None:
    """Make the folder; refuse to mix two logs in it."""
    folder.mkdir(parents=True, exist_ok=True)
    clash = max((path.name for path in folder.glob(f"[0-9]*.{suffix}")), default="")
    if clash >= f"{first:012d}":
        message = f"folder `{folder}` already holds `{clash}`, a log written before; delete it or name another folder"
        raise InputError(message)


def _aside(path: Path) -> Path:
    """Return the hidden name under which a file is written until it is whole."""
    return path.with_name(f".{path.name}.part")


def _write_lines(stream: _Stream, simulation: Simulation, folder: Path, rows_per_file: int) -> None:
    """Write one stream as files of `rows_per_file` lines, malformed ones at their arrival."""
    arrival = stream.table["arrival_time"].combine_chunks().view(pa.int64()).to_numpy()
    # Positions in this part: of the rows, and of the malformed lines, which go before rows of their ms.
    rows = np.arange(len(arrival)) + np.searchsorted(stream.malformed_at, arrival, side="right")
    malformed = np.arange(len(stream.malformed_at)) + np.searchsorted(arrival, stream.malformed_at, side="left")
    for start in range(0, len(rows) + len(malformed), rows_per_file):
        ends = [start, start + rows_per_file]
        first, end = np.searchsorted(rows, ends)
        first_bad, end_bad = np.searchsorted(malformed, ends)
        lines = _lines(stream.first + rows[first:end], stream.table.slice(first, end - first))
        bad = [
            _malformed_line(simulation, stream.first + int(malformed[rank]), rank)
            for rank in range(first_bad, end_bad)
        ]
        if bad:
            order = np.argsort(np.concatenate([rows[first:end], malformed[first_bad:end_bad]]), kind="stable")
            lines = pa.concat_arrays([lines, pa.array(bad, pa.string())]).take(pa.array(order))
        path = folder / f"{stream.first + start:012d}.jsonl"
        aside = _aside(path)
        aside.write_bytes(_text(lines))
        aside.replace(path)


def _lines(positions: Ints, table: pa.Table) -> pa.Array:
    """Return one JSON line for each row, joined column by column in Arrow."""
    pieces: list[Any] = ['{"_seq":', pc.cast(pa.array(positions), pa.string())]
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_timestamp(column.type):
            column = column.view(pa.int64())
        # Countries are plain letters: nothing in this log needs escaping.
        quote = '"' if pa.types.is_string(column.type) or pa.types.is_decimal(column.type) else ""
        pieces += [f'{pieces.pop()}{quote},"{name}":' if isinstance(pieces[-1], str) else f',"{name}":']
        pieces += [quote, pc.cast(column, pa.string()), quote]
    return pc.binary_join_element_wise(*pieces, "}\n", "")


def _text(lines: pa.Array) -> memoryview:
    """Return the bytes of all strings of a fresh array, one after the other, without a copy."""
    _, offsets, data = lines.buffers()
    end = int(np.frombuffer(offsets, dtype=np.int32)[len(lines)])
    return memoryview(data)[:end]


def _malformed_line(simulation: Simulation, position: int, rank: int) -> str:
    """Return the line that damages one row in one of four ways, taken in turn."""
    rank_in_log = simulation.first_malformed + rank
    at = int(simulation.malformed_at[rank])
    row: dict[str, object] = {
        "_seq": position,
        "transaction_id": simulation.config.transactions + rank_in_log,
        "event_time": at,
        "arrival_time": at,
        "customer_id": 0,
        "terminal_id": 0,
        "amount": "10.00",
        "country": HOME_COUNTRY,
    }
    match rank_in_log % 4:
        case 0:  # broken off in the middle of a value
            return json.dumps(row, separators=(",", ":"))[:-20] + "\n"
        case 1:
            row["customer_id"] = "nobody"
        case 2:
            del row["event_time"]
        case _:  # below what a Decimal(12, 2) holds
            row["amount"] = "-99999999999.99"
    return json.dumps(row, separators=(",", ":")) + "\n"
