"""The online read over a store that took the stream's rows gives the oracle's values."""

import decimal
import tempfile
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conformance.cases import EVERYTHING
from tests.conformance.test_batch import table
from tests.depth import DEPTH
from tests.online.stream_rows import accepted, expected, stream_rows
from tests.plain import plain
from tests.strategies import World, worlds
from unskew.backfill.upload import upload
from unskew.online.materialise import Materialiser
from unskew.online.read import FeatureReader
from unskew.online.store import Store
from unskew.online.upload import load_upload
from unskew.pipelines import Decimal, Float, Int64, Timestamp, plan
from unskew.pipelines.arrow import python_values
from unskew.pipelines.backends import oracle
from unskew.pipelines.encoding import encode_cell
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import ColumnPlan, SourcePlan
from unskew.pipelines.types import DataType

PLAN = plan(EVERYTHING)
Fresh = Callable[[], Store]
FOREVER, DAY = 2**60, 86_400_000


@settings(max_examples=12 * DEPTH, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(PLAN, max_size=40), st.data())
def test_any_prefix_of_the_stream_reads_as_the_oracle_says(
    fresh_store: Fresh, world: World, data: st.DataObject
) -> None:
    with fresh_store() as store:
        writers = {
            each.name: Materialiser(store, PLAN, each.name, "job", version_life=FOREVER) for each in PLAN.sources
        }
        cuts = {
            each.name: sorted(data.draw(st.lists(st.integers(0, 40), max_size=3), label=each.name))
            for each in PLAN.sources
        }
        events = {}
        for source in PLAN.sources:
            batches = stream_rows(PLAN, source.name, world.events[source.name])
            bounds = [0, *cuts[source.name]]
            for low, high in pairwise(bounds):
                writers[source.name].apply(
                    {
                        view: [(each, rows.filter(between(rows, low, high))) for each, rows in batch]
                        for view, batch in batches.items()
                    }
                )
            events[source.name] = [
                each for each in accepted(source, world.events[source.name]) if each.position < bounds[-1]
            ]
        reading = FeatureReader(PLAN, store).read(world.spine, [row["t"] for row in world.spine])
        found = cells(reading.table())
    for number, row in enumerate(world.spine):
        for view in PLAN.reads:
            wanted = expected(view, events[view.source], row)
            for name, value in wanted.items():
                assert plain(found[name][number]) == plain(value), (name, row)
    assert_derived(found, world.spine)


@settings(
    max_examples=4 * DEPTH,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(worlds(PLAN, max_size=60), st.integers(0, 2))
def test_closed_and_open_tiles_together_read_as_the_oracle_says(fresh_store: Fresh, world: World, days: int) -> None:
    end = min(row["t"] for row in world.spine) // DAY * DAY - days * DAY
    cut = end + DAY + 5_000  # the sources allow a day of lateness
    with tempfile.TemporaryDirectory() as folder, fresh_store() as store:
        tables = {each.name: table(each.columns, world.events[each.name]) for each in PLAN.sources}
        manifest = upload(PLAN, tables, output=Path(folder) / "upload", cut=cut)
        assert {each["batch_end"] for each in manifest["sources"].values()} == {end}
        load_upload(store, PLAN, Path(folder) / "upload", cut)
        events = {}
        for source in PLAN.sources:
            writer = Materialiser(store, PLAN, source.name, "job", version_life=FOREVER)
            writer.apply(stream_rows(PLAN, source.name, world.events[source.name], end))
            examined = [oracle.examine(source, *pair) for pair in enumerate(world.events[source.name])]
            events[source.name] = held(source, examined, end, cut)
        found = cells(FeatureReader(PLAN, store).read(world.spine, [row["t"] for row in world.spine]).table())
    for number, row in enumerate(world.spine):
        for view in PLAN.reads:
            for name, value in expected(view, events[view.source], row).items():
                assert plain(found[name][number]) == plain(value), (name, row)


@pytest.mark.parametrize("type_", [Decimal(12, 2), Float(-1e6, 1e6), Int64, Timestamp])
@pytest.mark.parametrize(
    "value",
    ["1", True, [1], [], {"a": 1}, [0, [1, 2, 5], -1], (0, (1, 2, 5), -1), b"1", date(2025, 1, 1), timedelta(1), 1j],
)
def test_a_value_of_another_kind_is_no_number(type_: DataType, value: object) -> None:
    with pytest.raises(InputError, match="of column `x` is not of type"):
        encode_cell(ColumnPlan("x", type_), value)


@pytest.mark.parametrize("type_", [Decimal(12, 2), Float(-1e6, 1e6), Int64])
def test_any_number_is_encoded_or_out_of_range(type_: DataType) -> None:
    column = ColumnPlan("x", type_)
    one = encode_cell(column, 1)
    assert encode_cell(column, np.int64(1)) == one == encode_cell(column, np.int8(1))
    if type_.kind != "int":
        assert encode_cell(column, np.float32(1)) == one == encode_cell(column, decimal.Decimal("1.00"))
    for each in (10**400, -(10**400)):
        with pytest.raises(InputError, match="of column `x` is out of its range"):
            encode_cell(column, each)


def held(
    source: SourcePlan, examined: Sequence[oracle.Event | oracle.Reason], end: int, cut: int
) -> list[oracle.Event]:
    """Return the events of closed tiles before `end`, of an upload with that cut, and of open tiles after."""
    firsts = oracle.first_copies(source, examined)
    following = oracle.next_copies(examined) if source.amended else {}
    found = []
    for each in examined:
        if not isinstance(each, oracle.Event) or oracle.deletes(source, each):
            continue
        if each.ts >= end:
            counts = each.position in firsts and not each.late
        else:
            amended = each.position in following and following[each.position].arrival < cut
            counts = each.arrival < cut and not amended and (source.amended or each.position in firsts)
        found += [each] if counts else []
    return found


def cells(table: pa.Table) -> dict[str, list[object]]:
    return {name: python_values(table[name]) for name in table.column_names}


def assert_derived(found: dict[str, list[object]], spine: Sequence[dict[str, Any]]) -> None:
    """Check the derived features against those that they are made of."""
    for number, row in enumerate(spine):
        values = {name: column[number] for name, column in found.items()}
        request = {each.name: oracle.encode(each, row.get(each.name)) for each in PLAN.request}
        for each in PLAN.derived:
            expected = oracle.derived_value(each.expression, values, request)
            assert plain(values[each.name]) == plain(expected), (each.name, row)


def between(rows: Any, low: int, high: int) -> Any:
    return pc.and_(pc.greater_equal(rows["seq"], low), pc.less(rows["seq"], high))
