"""Spines of every form: files, folders, frames; odd ones are refused in one line, none loses a row or a value."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unskew.backfill import spine as spine_module
from unskew.backfill.training import backfill
from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count
from unskew.pipelines.backends import beam
from unskew.pipelines.errors import DefinitionError, InputError
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan
from unskew.pipelines.types import DataType

TX = EventSource("tx", {"id": Int64, "ts": Timestamp, "card": Int64, "x": Int64}, event_time="ts", event_id="id")
CARD = Entity("card", "card")
SET = FeatureSet("s", [FeatureView("v", CARD, TX, {"n": count().over("1h"), "x": col("x").sum().over("1h")})])
EVENTS = pa.table({"id": [1, 2], "ts": [1, 2], "card": [7, 7], "x": [3, 4]})
IN_MEMORY = ["--direct_running_mode=in_memory"]
ROWS = {"card": [7, 8, 7], "t": [2, 5, 5], "tag": ["a", None, "b"]}
WANTED = {**ROWS, "v.n_1h": [1, 0, 2], "v.x_1h": [3, 0, 7]}


def found(spine: Any, **more: Any) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = backfill(SET, EVENTS, spine, options=IN_MEMORY, **more).to_pydict()
    return values


def test_every_form_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table(ROWS)
    for number in range(3):
        pq.write_table(table.slice(number, 1), tmp_path / f"{number}.parquet")
    coded = table.set_column(2, "tag", table["tag"].dictionary_encode())
    pq.write_table(coded, tmp_path.parent / "coded.parquet")
    monkeypatch.setattr(spine_module, "ROWS_PER_BLOCK", 2)  # blocks of the staged file
    monkeypatch.setattr(beam, "ROWS_PER_BLOCK", 2)
    for spine in (table, pa.concat_tables([table.slice(0, 1), table.slice(1)]), table.to_pandas(), coded, tmp_path):
        assert found(spine) == WANTED
    assert found(tmp_path.parent / "coded.parquet") == WANTED


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_blocks_end_where_the_rows_end(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spine_module, "ROWS_PER_BLOCK", 2)
    monkeypatch.setattr(beam, "ROWS_PER_BLOCK", 2)
    spine = pa.table({"card": pa.array([7] * rows, pa.int64()), "t": pa.array([5] * rows, pa.int64())})
    pq.write_table(spine, tmp_path / "spine.parquet")
    assert found(spine)["v.n_1h"] == found(tmp_path / "spine.parquet")["v.n_1h"] == [2] * rows
    done = backfill(SET, EVENTS, spine, output=tmp_path / "out", options=IN_MEMORY)
    assert done["rows"] == rows == pq.read_table(tmp_path / "out").num_rows


SECOND: dict[str, pa.Table] = {
    "instants of another unit": pa.table({"card": [7], "t": pa.array([5], pa.timestamp("us")), "tag": ["a"]}),
    "a key of another type": pa.table({"card": ["7"], "t": [5], "tag": ["a"]}),
    "a column more": pa.table({"card": [7], "t": [5], "tag": ["a"], "more": [1]}),
    "a column less": pa.table({"card": [7], "t": [5]}),
    "another order": pa.table({"t": [5], "card": [7], "tag": ["a"]}),
    "nulls alone": pa.table({"card": [7], "t": [5], "tag": pa.nulls(1)}),
}


@pytest.mark.parametrize("case", SECOND)
def test_files_that_are_not_alike_are_refused(case: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(ROWS), tmp_path / "1.parquet")
    pq.write_table(SECOND[case], tmp_path / "2.parquet")
    with pytest.raises(InputError, match=r"2\.parquet` of the spine has other columns than .*; write them alike"):
        found(tmp_path)


def test_columns_that_parquet_does_not_hold_are_refused_before_any_work(tmp_path: Path) -> None:
    spans = pa.array([None], pa.month_day_nano_interval())
    odd = pa.table({"card": [7], "t": [5], "span": spans})
    with pytest.raises(InputError, match="column `span` of the spine is `month_day_nano_interval`, which Parquet"):
        backfill(SET, EVENTS, odd, output=tmp_path / "out")
    twice = pa.Table.from_arrays([pa.array([7]), pa.array([5]), pa.array([1]), pa.array([2])], ["card", "t", "z", "z"])
    with pytest.raises(InputError, match="column `z` stands twice in the spine"):
        backfill(SET, EVENTS, twice, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_dictionaries_of_instants_are_read() -> None:
    instants = pa.array([2, 5, 5], pa.timestamp("ms")).dictionary_encode()
    assert found(pa.table(ROWS).set_column(1, "t", instants))["v.n_1h"] == [1, 0, 2]
    coded = EVENTS.set_column(1, "ts", EVENTS["ts"].cast(pa.timestamp("ms")).dictionary_encode())
    assert backfill(SET, coded, pa.table(ROWS), options=IN_MEMORY)["v.n_1h"].to_pylist() == [1, 0, 2]


def test_an_archive_that_is_written_again_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    def write(x: int) -> None:
        values = {"id": [1, 2, 3], "ts": [1, 2, 3], "card": [7] * 3, "x": [0, x, 9]}
        pq.write_table(pa.table(values), tmp_path / "a.parquet")

    write(3)
    backfill(SET, tmp_path / "a.parquet", pa.table(ROWS), output=tmp_path / "o1", options=IN_MEMORY)
    write(7)  # of the same size, with the same statistics
    with pytest.raises(InputError, match="is of another events of `tx`"):
        backfill(SET, tmp_path / "a.parquet", pa.table(ROWS), output=tmp_path / "o2", reuse=tmp_path / "o1")


def nested(outer: str, inner: Any, kind: DataType = Int64) -> SetPlan:
    built = getattr(inner.by(col("shop")), outer)()
    schema = {"id": Int64, "ts": Timestamp, "card": Int64, "x": kind, "shop": String}
    source = EventSource("tx", schema, event_time="ts", event_id="id")
    return plan(FeatureSet("s", [FeatureView("v", CARD, source, {"f": built.over("1h")})]))


def test_extremes_that_are_added_up_have_the_range_of_summed_values() -> None:
    assert nested("max", col("x").max()).source("tx").column("x").type.lo is None
    for outer in ("sum", "mean", "stddev"):
        assert nested(outer, col("x").max()).source("tx").column("x").type.hi == 2**40
        with pytest.raises(DefinitionError, match=r"feature `v\.f`: a summed input could reach .* a tighter range"):
            nested(outer, col("x").max(), Int64(-(2**50), 2**50))
    with pytest.raises(DefinitionError, match=r"feature `v\.f`: `sum` over instants says nothing"):
        nested("sum", col("ts").max())
    with pytest.raises(DefinitionError, match=r"`max` over categories takes nothing, `\[1\]` given"):
        count().by(col("x")).max(1)
