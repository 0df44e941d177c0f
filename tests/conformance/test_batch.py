"""The Beam backfill gives the oracle's values, bit for bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conformance.cases import EVERYTHING
from tests.depth import DEPTH
from tests.plain import plain
from tests.strategies import World, worlds
from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.feature_defs.fraud import fraud
from unskew.pipelines import plan
from unskew.pipelines.arrow import python_values
from unskew.pipelines.backends import beam, oracle
from unskew.pipelines.backends.beam_sql import Flip
from unskew.pipelines.plan import ColumnPlan, SetPlan

PLAN = plan(EVERYTHING)
PHYSICAL = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
PHYSICAL |= {"timestamp": pa.int64()}


def arrow_type(column: ColumnPlan) -> pa.DataType:
    """Return the plainest physical type; a decimal has digits to spare, so that ranges can be passed."""
    if column.type.kind == "decimal":
        return pa.decimal128(30, len(str(column.type.units)) - 1)
    return PHYSICAL[column.type.kind]


def table(columns: Sequence[ColumnPlan], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.table({each.name: pa.array([row.get(each.name) for row in rows], arrow_type(each)) for each in columns})


def spine_table(found: SetPlan, world: World) -> pa.Table:
    keys = found.spine_keys()
    named = [*keys.values(), *(each for each in found.request if each.name not in keys)]
    rows = table(named, world.spine)
    return rows.append_column("t", pa.array([row["t"] for row in world.spine], pa.timestamp("ms", "UTC")))


def assert_equal(found: pa.Table, expected: Sequence[Mapping[str, Any]]) -> None:
    for name in PLAN.fingerprints():
        values = [plain(each) for each in python_values(found[name])]
        wanted = [plain(row[name]) for row in expected]
        wrong = [(row, *pair) for row, pair in enumerate(zip(values, wanted, strict=True)) if pair[0] != pair[1]]
        assert not wrong, (name, wrong)


slow = settings(
    max_examples=5 * DEPTH, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate),
    derandomize=True,
)  # fmt: skip


@slow
@given(worlds(PLAN, max_size=60))
def test_as_of_event_time(world: World) -> None:
    events = {each.name: table(each.columns, world.events[each.name]) for each in PLAN.sources}
    assert_equal(backfill(PLAN, events, spine_table(PLAN, world)), oracle.features(PLAN, world.events, world.spine))


@slow
@given(worlds(PLAN, max_size=60), st.integers(0, 60_000), st.integers(-3, 3))
def test_as_of_arrival(world: World, lag: int, days: int) -> None:
    events = {each.name: table(each.columns, world.events[each.name]) for each in PLAN.sources}
    end = world.spine[0]["t"] // 86_400_000 * 86_400_000 + days * 86_400_000
    flips = [(end + 86_400_000, end, end + 90_000_000), (end + 3 * 86_400_000, end + 86_400_000, end + 2 * 86_400_000)]
    known = {each.name: oracle.known_by_arrival(each, world.events[each.name], lag + 1, flips) for each in PLAN.sources}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam, "ROWS_AT_ONCE", 2)  # a hot key's rows are computed in slices
        found = backfill(
            PLAN,
            events,
            spine_table(PLAN, world),
            as_of="arrival",
            lag=f"{lag + 1}ms",
            flips=[Flip(*each) for each in flips],
        )
    assert_equal(found, oracle.features(PLAN, world.events, world.spine, known=known))


@pytest.mark.parametrize("option", ["--direct_running_mode=in_memory", "--direct_running_mode=multi_processing"])
def test_runners_agree(option: str, simulated: tuple[dict[str, pa.Table], pa.Table]) -> None:
    events, spine = simulated
    found = backfill(fraud, events, spine, options=[option, "--direct_num_workers=2"])
    assert found.num_rows == spine.num_rows
    assert found.equals(backfill(fraud, events, spine))


def test_uploads_of_runners_agree(simulated: tuple[dict[str, pa.Table], pa.Table], tmp_path: Path) -> None:
    events, _ = simulated
    modes = ("in_memory", "multi_threading", "multi_processing")
    for mode in modes:
        options = [f"--direct_running_mode={mode}", "--direct_num_workers=2"]
        upload(fraud, events, output=tmp_path / mode, options=options)
    first, *others = (
        {each.relative_to(tmp_path / mode): each.read_bytes() for each in (tmp_path / mode).rglob("*.*")}
        for mode in modes
    )
    assert len(first) > len(fraud.views)
    assert all(each == first for each in others)
