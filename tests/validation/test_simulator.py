"""The laws of the simulated log: what the configuration declares is what the log holds."""

import hashlib
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unskew.pipelines.errors import InputError
from unskew.validation import simulator
from unskew.validation.simulator import (
    DAY,
    HOUR,
    MINUTE,
    Ints,
    Simulation,
    SimulationConfig,
    simulate,
    simulate_parts,
    write_log,
    write_parquet,
)

SMALL = SimulationConfig(transactions=5_000, days=20, malformed_lines=9, late_share=0.01, duplicate_share=0.02)


@pytest.fixture(scope="module")
def usual() -> Simulation:
    return simulate(SimulationConfig(transactions=100_000))


@pytest.fixture(scope="module")
def small() -> Simulation:
    return simulate(SMALL)


def ints(table: pa.Table, column: str) -> Ints:
    values: Ints = table[column].cast(pa.int64()).to_numpy()
    return values


def lags(table: pa.Table) -> Ints:
    return ints(table, "arrival_time") - ints(table, "event_time")


def first_copies(table: pa.Table) -> Ints:
    return np.sort(np.unique(ints(table, "transaction_id"), return_index=True)[1])


def lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def readable(line: bytes) -> dict[str, Any] | None:
    """Return the row of a line, or nothing for one of the four kinds of damage."""
    try:
        row: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    sound = isinstance(row["customer_id"], int) and "event_time" in row and not row["amount"].startswith("-")
    return row if sound else None


def test_schemas(small: Simulation) -> None:
    instant = pa.timestamp("ms", "UTC")
    keys = {"transaction_id": pa.int64(), "event_time": instant, "arrival_time": instant}
    keys |= {"customer_id": pa.int64(), "terminal_id": pa.int64()}
    assert small.transactions.schema == pa.schema({**keys, "amount": pa.decimal128(12, 2), "country": pa.string()})
    assert small.labels.schema == pa.schema({**keys, "is_fraud": pa.bool_()})
    small.transactions.validate(full=True)
    small.labels.validate(full=True)
    assert not any(column.null_count for column in small.transactions.columns + small.labels.columns)


def test_both_streams_are_in_order_of_arrival(usual: Simulation) -> None:
    for table in (usual.transactions, usual.labels):
        assert (np.diff(ints(table, "arrival_time")) >= 0).all()
    # But not in order of event time: the disorder is what the log is for.
    assert (np.diff(ints(usual.transactions, "event_time")) < 0).mean() > 0.01


def test_ids_are_exact_and_copies_equal_but_for_arrival(usual: Simulation) -> None:
    table = usual.transactions
    first = first_copies(table)
    assert (np.sort(ints(table, "transaction_id")[first]) == np.arange(usual.config.transactions)).all()
    copies = np.setdiff1d(np.arange(table.num_rows), first)
    by_id = dict(zip(ints(table, "transaction_id")[first].tolist(), first.tolist(), strict=True))
    originals = [by_id[each] for each in ints(table, "transaction_id")[copies].tolist()]
    same = table.drop_columns("arrival_time")
    assert same.take(pa.array(copies)).equals(same.take(pa.array(originals)))
    assert (ints(table, "arrival_time")[copies] > ints(table, "arrival_time")[originals]).all()


def test_shares_are_as_declared(usual: Simulation) -> None:
    #   arrival - event_time:   hours < 0    seconds < 0    0 .. 1 d    over 1 d
    #                           future       ahead          on time     late
    table, config = usual.transactions, usual.config
    first = first_copies(table)
    lag = lags(table)
    copies = table.num_rows - len(first)
    assert (lag[first] > DAY).mean() == pytest.approx(config.late_share, rel=0.25)
    assert copies / config.transactions == pytest.approx(config.duplicate_share, rel=0.2)
    late_copies = (lag > DAY).sum() - (lag[first] > DAY).sum()
    assert 0.03 < late_copies / copies < 0.25
    assert (lag[first] < -MINUTE).sum() == config.future_events
    assert 0 < ((lag < 0) & (lag >= -MINUTE)).mean() < 0.01
    assert (np.abs(lag) < MINUTE).mean() > 0.9


def test_no_first_copy_is_between_ahead_and_future(usual: Simulation) -> None:
    lag = lags(usual.transactions)[first_copies(usual.transactions)]
    assert not ((lag < -30 * 1_000) & (lag > -2 * HOUR)).any()
    assert lag.min() >= -12 * HOUR
    assert lag.max() < 5 * DAY


def test_labels_follow_their_transactions(usual: Simulation) -> None:
    paid = usual.transactions.take(pa.array(first_copies(usual.transactions))).sort_by("transaction_id")
    known = usual.labels.sort_by("transaction_id")
    for column in ("transaction_id", "event_time", "customer_id", "terminal_id"):
        assert known[column].equals(paid[column])
    delay = lags(known) - 7 * DAY
    assert delay.min() >= MINUTE
    assert delay.max() < 30 * MINUTE


def test_label_delay_is_a_parameter() -> None:
    known = simulate(replace(SMALL, label_delay=timedelta(days=2))).labels
    assert 2 * DAY < lags(known).min() <= lags(known).max() < 2 * DAY + HOUR


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fraud_is_about_one_percent_in_three_scenarios(seed: int) -> None:
    simulation = simulate(SimulationConfig(transactions=200_000, seed=seed))
    shares = np.bincount(simulation.scenario.to_numpy(), minlength=4) / simulation.labels.num_rows
    assert 0.006 < 1 - shares[0] < 0.014
    assert 0.0005 < shares[1] < 0.004
    assert 0.003 < shares[2] < 0.009
    assert 0.0015 < shares[3] < 0.005
    assert pc.equal(simulation.labels["is_fraud"], pc.greater(simulation.scenario, 0)).to_numpy().all()


def test_scenarios_leave_their_traces(usual: Simulation) -> None:
    paid = usual.transactions.take(pa.array(first_copies(usual.transactions))).sort_by("transaction_id")
    order = np.argsort(ints(usual.labels, "transaction_id"))
    scenario = usual.scenario.to_numpy()[order]
    cents = pc.multiply(paid["amount"].cast(pa.float64()), 100).to_numpy()
    assert cents[scenario == 1].min() > simulator.LARGE_CENTS
    assert cents[scenario == 0].max() <= simulator.LARGE_CENTS
    assert cents[scenario == 3].mean() > 3 * cents[scenario == 0].mean()
    # All that a compromised terminal takes within its weeks is fraud: from first to last, no gap.
    terminal, day = ints(paid, "terminal_id"), ints(paid, "event_time") // DAY
    hit = np.unique(terminal[scenario == 2])
    bad_days = {(t, d) for t, d in zip(terminal[scenario == 2], day[scenario == 2], strict=True)}
    on_bad_days = np.array([(t, d) in bad_days for t, d in zip(terminal, day, strict=True)])
    assert (scenario[on_bad_days] == 2).mean() > 0.99  # a clock that is ahead may show the next day
    assert len(hit) > 5


def test_columns_are_within_their_ranges(usual: Simulation) -> None:
    config, table = usual.config, usual.transactions
    start, end = config.start_ms, config.start_ms + config.days * DAY
    assert start <= ints(table, "event_time").min()
    assert ints(table, "event_time").max() < end + 18 * HOUR  # a late evening's clock, half a day ahead
    assert start <= ints(table, "arrival_time").min()
    assert ints(table, "arrival_time").max() < end + 10 * DAY
    assert 0 <= ints(table, "customer_id").min() <= ints(table, "customer_id").max() < config.customer_count
    assert 0 <= ints(table, "terminal_id").min() <= ints(table, "terminal_id").max() < config.terminal_count
    amounts = pc.min_max(table["amount"].cast(pa.float64())).as_py()
    assert 0.01 <= amounts["min"] < amounts["max"] <= 20_000
    assert set(table["country"].unique().to_pylist()) == set(simulator.COUNTRIES)
    assert pc.mean(pc.equal(table["country"], "US")).as_py() > 0.85


def test_customers_have_histories_and_habits(usual: Simulation) -> None:
    table, config = usual.transactions, usual.config
    customer, terminal = ints(table, "customer_id"), ints(table, "terminal_id")
    rates = np.bincount(customer, minlength=config.customer_count) / config.days
    assert rates.mean() == pytest.approx(1.9, rel=0.05)
    assert np.quantile(rates, 0.95) > 3 * np.quantile(rates, 0.05)
    # About 170 purchases each: at a handful of terminals, not at 170 of them.
    pairs = len(np.unique(customer * config.terminal_count + terminal))
    assert pairs < 0.25 * table.num_rows


def test_the_same_configuration_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_log(simulate(SMALL), tmp_path / name, rows_per_file=999)
        write_parquet(simulate(SMALL), tmp_path / name)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert not simulate(replace(SMALL, seed=8)).transactions.equals(simulate(SMALL).transactions)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(0, 3))
def test_parts_together_are_the_whole(parts: int, seed: int) -> None:
    config = replace(SMALL, transactions=1_000, late_share=0.1, duplicate_share=0.1, seed=seed)
    whole, pieces = simulate(config), list(simulate_parts(config, parts))
    assert len(pieces) == parts
    for stream in ("transactions", "labels", "malformed"):
        assert pa.concat_tables([getattr(each, stream) for each in pieces]).equals(getattr(whole, stream))
    assert pa.concat_arrays([each.scenario for each in pieces]).equals(whole.scenario)
    for before, after in pairwise(pieces):
        read = before.transactions.num_rows + before.malformed.num_rows
        assert after.first_transaction == before.first_transaction + read
        assert after.first_label == before.first_label + before.labels.num_rows


def test_parts_write_the_log_that_the_whole_writes(small: Simulation, tmp_path: Path) -> None:
    write_log(small, tmp_path / "whole")
    for part in simulate_parts(SMALL, 3):
        write_log(part, tmp_path / "parts", rows_per_file=700)
        write_parquet(part, tmp_path / "parts" / "archive")
    for stream in ("transactions", "labels"):
        assert lines(tmp_path / "parts" / stream) == lines(tmp_path / "whole" / stream)
        assert pq.read_table(tmp_path / "parts" / "archive" / stream).equals(getattr(small, stream))


def test_lines_hold_the_rows_of_the_tables(small: Simulation, tmp_path: Path) -> None:
    write_log(small, tmp_path, rows_per_file=1_000)
    rows = [row for row in map(readable, lines(tmp_path / "transactions")) if row]
    numbers = ("transaction_id", "event_time", "arrival_time", "customer_id", "terminal_id")
    for column in numbers:
        assert [row[column] for row in rows] == ints(small.transactions, column).tolist()
    assert [row["amount"] for row in rows] == [str(each) for each in small.transactions["amount"].to_pylist()]
    assert [row["country"] for row in rows] == small.transactions["country"].to_pylist()
    labels = [orjson.loads(line) for line in lines(tmp_path / "labels")]
    assert [row.pop("_seq") for row in labels] == list(range(len(labels)))
    for column in numbers:
        assert [row[column] for row in labels] == ints(small.labels, column).tolist()
    assert [row["is_fraud"] for row in labels] == small.labels["is_fraud"].to_pylist()


def test_malformed_lines_count_as_positions(small: Simulation, tmp_path: Path) -> None:
    write_log(small, tmp_path, rows_per_file=1_000)
    written = lines(tmp_path / "transactions")
    rows = [readable(line) for line in written]
    assert len(written) == small.transactions.num_rows + SMALL.malformed_lines
    assert rows.count(None) == SMALL.malformed_lines
    assert all(row["_seq"] == position for position, row in enumerate(rows) if row)
    bad = [line for line, row in zip(written, rows, strict=True) if row is None]
    for sign, ways in {b"nobody": 2, b"-99999999999.99": 2}.items():
        assert sum(sign in line for line in bad) == ways
    assert sum(b"event_time" not in line for line in bad) == 2
    assert sum(not line.endswith(b"}") for line in bad) == 3
    assert max(position for position, row in enumerate(rows) if row is None) < len(rows) - 1


def test_files_are_named_by_their_first_position(small: Simulation, tmp_path: Path) -> None:
    write_log(small, tmp_path, rows_per_file=1_000)
    names = sorted(path.name for path in (tmp_path / "transactions").iterdir())
    assert names == [f"{1_000 * each:012d}.jsonl" for each in range(6)]
    assert all(len(path.read_bytes().splitlines()) == 1_000 for path in sorted((tmp_path / "labels").iterdir()))


def test_parquet_holds_the_tables(small: Simulation, tmp_path: Path) -> None:
    write_parquet(small, tmp_path)
    for stream in ("transactions", "labels"):
        assert pq.read_table(tmp_path / stream / "000000000000.parquet").equals(getattr(small, stream))


def test_two_logs_are_never_mixed(small: Simulation, tmp_path: Path) -> None:
    write_log(small, tmp_path)
    write_parquet(small, tmp_path)
    with pytest.raises(InputError, match=r"already holds `000000000000\.jsonl` of another log"):
        write_log(small, tmp_path)
    with pytest.raises(InputError, match=r"already holds `000000000000\.parquet`"):
        write_parquet(small, tmp_path)


def test_nothing_untidy_where_nothing_is_asked_for() -> None:
    quiet = SimulationConfig(
        transactions=1_000, days=10, late_share=0, duplicate_share=0, future_events=0, malformed_lines=0
    )
    simulation = simulate(quiet)
    assert simulation.transactions.num_rows == 1_000
    assert lags(simulation.transactions).max() <= DAY
    assert lags(simulation.transactions).min() >= -MINUTE
    assert simulation.malformed.num_rows == 0


def test_the_smallest_world_works(tmp_path: Path) -> None:
    config = SimulationConfig(transactions=100, customers=1, terminals=1, days=1, start=date(2024, 2, 29))
    write_log(simulate(config), tmp_path)
    assert config.start_ms == 1_709_164_800_000
    assert len(lines(tmp_path / "labels")) == 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transactions", 99),
        ("transactions", 1e6),
        ("transactions", True),
        ("customers", 0),
        ("terminals", -1),
        ("days", 0),
        ("start", date(1969, 12, 31)),
        ("start", datetime(2025, 1, 1)),  # noqa: DTZ001 - what a careless caller gives
        ("seed", -1),
        ("late_share", 0.6),
        ("late_share", float("nan")),
        ("duplicate_share", -0.1),
        ("future_events", 101),
        ("malformed_lines", -1),
        ("label_delay", 7),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{name} `.*` is out of range; give a value of type"):
        SimulationConfig(**{name: value})  # type: ignore[arg-type]


def test_wrong_parts_and_files_are_refused(small: Simulation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^parts `0` is out of range"):
        simulate_parts(SMALL, 0)
    with pytest.raises(InputError, match=r"^parts `21` are more than the days of the log; use at most 20"):
        simulate_parts(SMALL, 21)
    with pytest.raises(InputError, match=r"^rows_per_file `0` is out of range"):
        write_log(small, tmp_path, rows_per_file=0)
