"""The generated log and the probes hold every kind of trouble that the contract decides."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.conformance.cases import EVERYTHING
from unskew.pipelines import plan
from unskew.pipelines.timegrid import DAY, LIFETIME
from unskew.validation.adversarial import NAMES, SILENT, START, adversarial
from unskew.validation.log import Log, read_logs
from unskew.validation.probes import Flip, choose_probes, plan_uploads

PLAN = plan(EVERYTHING)
SEEDS = range(4)
LOGS = read_logs(PLAN, adversarial(PLAN, SEEDS))
FLIPS = plan_uploads(LOGS)
LOG = LOGS["single"]
ALLOWED, SKEW = LOG.source.allowed_lateness, LOG.source.max_future_skew
VIEWS = [each for each in PLAN.views if each.source == "single"]


def ends(log: Log) -> list[int]:
    return [log.source.batch_end(each.cut) for each in FLIPS]


def on(instants: Any, edge: Any) -> list[int]:
    """Count the instants one millisecond before, on and after some edge."""
    return [int((np.isin(instants - nudge, edge)).sum()) for nudge in (-1, 0, 1)]


def column(name: str) -> list[Any]:
    found: list[Any] = LOG.table[name].to_pylist()
    return found


def ids() -> list[tuple[Any, Any]]:
    return [pair for pair, sound in zip(zip(column("id"), LOG.ts, strict=True), LOG.sound, strict=True) if sound]


def test_event_times_meet_ties_and_edges() -> None:
    ts = LOG.ts[LOG.sound]
    who = pc.fill_null(LOG.table["who"], -1).to_numpy()[LOG.sound]
    first: dict[Any, set[Any]] = {}
    for key, identity in zip(zip(who, ts, strict=True), ids(), strict=True):
        first.setdefault(key, set()).add(identity)
    assert sum(len(each) > 1 for each in first.values()) >= 10  # different events of an entity at one instant
    midnights = np.arange(int(ts.min()) // DAY, int(ts.max()) // DAY + 1) * DAY
    assert min(on(ts, midnights)) >= 10
    for log in LOGS.values():
        assert min(on(log.ts[log.sound], ends(log))) >= 5
    for window in {each.window for view in VIEWS for each in view.features}:  # before a read at batch_end
        if window.size != LIFETIME:
            assert min(on(ts, [window.tail(each) for each in ends(LOG)])) >= 1, window


def test_arrivals_are_late_early_and_out_of_order() -> None:
    lag = (LOG.arrival - LOG.ts)[LOG.sound]
    assert all((lag == each).sum() >= 5 for each in (ALLOWED - 1, ALLOWED, ALLOWED + 1, -SKEW, 0))
    assert (lag > 2 * ALLOWED).any()
    assert LOG.late.sum() >= 20
    assert (np.diff(LOG.ts[LOG.sound]) < 0).sum() >= 100
    assert (~LOG.sound).sum() >= 20
    assert pc.any(pc.is_null(LOG.table["seen"])).as_py()
    late = LOG.late & (LOG.arrival >= FLIPS[0].cut) & (LOG.ts < ends(LOG)[1]) & (LOG.arrival < FLIPS[1].cut)
    assert late.sum() >= 5  # the second upload heals


def test_copies_come_again_late_and_with_other_cells() -> None:
    found = ids()
    assert len(found) - len(set(found)) >= 30
    seen: dict[Any, Any] = {}
    differ = 0
    for identity, who in zip(ids(), np.array(column("who"), dtype=object)[LOG.sound], strict=True):
        differ += seen.setdefault(identity, who) != who
    assert differ >= 1


@pytest.mark.parametrize("name", ["i", "big", "d", "f", "b", "s", "at", "who", "where", "id", "ts"])
def test_every_column_has_nulls(name: str) -> None:
    assert LOG.table[name].null_count >= 2


def test_values_are_extreme_negative_and_strange() -> None:
    column_plan = {each.name: each.type for each in LOG.source.columns}
    for name in ("i", "d", "f"):
        encoded = [each * column_plan[name].units for each in column(name) if each is not None]
        numbers = [each for each in encoded if math.isfinite(each)]
        lo, hi = column_plan[name].bounds
        assert {lo, hi} <= set(numbers), name
        assert any(each < 0 for each in numbers)
        assert any(each > hi for each in numbers), f"{name} is never past its range"
    assert any(each * 100 % 1 for each in column("d") if each)
    floats = [each for each in column("f") if each is not None]
    assert any(math.isnan(each) for each in floats)
    assert {math.inf, -math.inf} <= set(floats)
    assert {"", "😀", "\uffff"} <= set(column("s"))
    assert any("😀" in each for each in column("where") if each)


def test_one_entity_is_hot_and_one_falls_silent() -> None:
    for seed in SEEDS:
        hot, silent = seed * len(NAMES), seed * len(NAMES) + len(NAMES) - 1
        own = {
            each: LOG.ts[LOG.sound & (pc.fill_null(LOG.table["who"], -1).to_numpy() == each)] for each in (hot, silent)
        }
        assert len(own[hot]) > len(LOG.ts) / len(SEEDS) / 2
        assert 0 < len(own[silent])
        assert own[silent].max() < START + SILENT


def test_probes_look_where_engines_go_wrong() -> None:
    asked = choose_probes(PLAN, LOGS, FLIPS, 5_000, seed=0)
    t, asof = asked["t"].to_numpy(), asked["asof"].to_numpy()
    assert (np.diff(asof) >= 0).all()
    newest = max(ends(each)[-1] for each in LOGS.values())
    assert min(on(t, [newest])[1:]) >= 20
    who = pc.fill_null(asked["who"], -1).to_numpy()
    events = {(who, ts) for who, ts, sound in zip(column("who"), LOG.ts, LOG.sound, strict=True) if sound}
    assert sum(pair in events for pair in zip(who, t, strict=True)) >= 50  # at exactly the time of an event of its own
    now = np.maximum.accumulate(LOG.arrival)[np.searchsorted(LOG.seq, asof, side="right") - 1]
    assert ((t > now + 10 * DAY).sum(), (t < now - DAY).sum()) >= (100, 100)
    for name in ("who", "where"):
        assert asked[name].null_count >= 20
        assert sum(each is not None and each not in set(column(name)) for each in asked[name].to_pylist()) >= 20


def test_a_refused_first_row_leaves_the_cuts_in_the_log() -> None:
    table = adversarial(PLAN, [0])
    refused = {name: pa.concat_tables([nulled(each.slice(0, 1)), each]) for name, each in table.items()}
    flips = plan_uploads(read_logs(PLAN, refused))
    assert flips == [Flip(each.cut, each.position + len(PLAN.sources)) for each in plan_uploads(read_logs(PLAN, table))]


def nulled(row: pa.Table) -> pa.Table:
    at = row.column_names.index("ts")
    return row.set_column(at, "ts", pa.nulls(1, row.schema.field(at).type))
