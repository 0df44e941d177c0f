"""The backfill's front door: inputs in many forms, bad ones refused, output whole or not there."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal as PyDecimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.pipelines import (
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int64,
    String,
    Timestamp,
    col,
    count,
    feature,
)
from unskew.pipelines.backends import beam, beam_shuffle
from unskew.pipelines.errors import InputError

SCHEMA = {"id": Int64, "ts": Timestamp, "card": Int64, "amount": Decimal(12, 2), "shop": String}
TX = EventSource("tx", SCHEMA, event_time="ts", event_id="id")
SET = FeatureSet(
    "cards",
    [
        FeatureView(
            "card",
            Entity("card", "card"),
            TX,
            {"n": count().over("1h"), "sum": col("amount").sum().over("1h"), "shop": col("shop").last().over("1h")},
        )
    ],
)
EVENTS = pa.table({
    "id": [1, 2, 2, 3, 4, 5],
    "ts": pa.array([1_000, 2_000, 2_000, 2_000, 9_000, 400_000], pa.timestamp("ms", "UTC")),
    "card": [7, 7, 7, 7, None, 7],
    "amount": [1.25, 2.5, 2.5, 85.64999999999999, 1.0, 1.005],
    "shop": ["a", "b", "b", "😀", "c", "d"],
})  # fmt: skip
SPINE = pa.table(
    {"card": [7, 7, 8], "t": pa.array([2_000, 500_000, 500_000], pa.timestamp("ms", "UTC")), "tag": [1, 2, 3]}
)


def test_values_are_point_in_time_correct() -> None:
    #   ts:  1000 (1.25)  2000 (2.50, twice the same id)  2000 (85.65)   9000 null key   400000 (a digit too many)
    #   t =        2000: strict head, only the first      500000: the first three
    found = backfill(SET, EVENTS, SPINE)
    assert found.column_names == ["card", "t", "tag", "card.n_1h", "card.sum_1h", "card.shop_1h"]
    assert found["card.n_1h"].to_pylist() == [1, 3, 0]
    assert found["card.sum_1h"].to_pylist() == [1.25, 89.4, 0.0]
    assert found["card.shop_1h"].to_pylist() == ["a", "😀", None]


@pytest.mark.parametrize("kind", [pa.timestamp("ms", "UTC"), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.int64()])
def test_a_new_day_reads_no_more_than_its_windows(tmp_path: Path, kind: pa.DataType) -> None:
    day = 86_400_000
    ts = pa.array([each * day // 10 for each in range(100)], pa.timestamp("ms", "UTC"))  # ten events a day, ten days
    times = ts.cast(pa.int64()) if kind == pa.int64() else ts.cast(kind)
    events = pa.table({"id": range(100), "ts": times, "card": [7] * 100})
    source = EventSource("tx", {"id": Int64, "ts": Timestamp, "card": Int64}, event_time="ts", event_id="id")
    view = FeatureView(
        "card", Entity("card", "card"), source, {"n": count().over("1h", "1d"), "last": col("id").last().over("1d")}
    )
    pq.write_table(events, tmp_path / "log.parquet", row_group_size=10)
    spine = pa.table({"card": [7, 7], "t": pa.array([9 * day, 10 * day], pa.timestamp("ms"))})
    narrow, ever = FeatureSet("s", [view]), FeatureSet("ever", [view, replaced(view)])
    manifest = backfill(narrow, tmp_path / "log.parquet", spine, output=tmp_path / "out")
    assert manifest["unread"] == {"tx": 80}  # all but the day before and the day itself
    assert sum(manifest["account"]["tx"].values()) == 20
    found = pq.read_table(tmp_path / "out" / "part-000000.parquet")
    assert found.equals(backfill(narrow, events, spine))
    assert backfill(ever, tmp_path / "log.parquet", spine, output=tmp_path / "ever")["unread"] == {"tx": 0}
    done = upload(narrow, tmp_path / "log.parquet", output=tmp_path / "up", cut=10 * day)
    assert (done["unread"], done["account"]["tx"]["applied"]) == ({"tx": 80}, 10)


def two_views(*windows: str, lifetime: bool = False) -> FeatureSet:
    card = FeatureView(
        "card", Entity("card", "card"), TX, {"n": count().over(*windows), "sum": col("amount").sum().over("1h")}
    )
    shop = FeatureView("shop", Entity("shop", "shop"), TX, {"n": count().over("lifetime" if lifetime else "1d")})
    return FeatureSet("two", [card, shop], derived={"share": feature("card.n_1h") / feature("card.sum_1h")})


def test_only_new_features_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spine = SPINE.append_column("shop", pa.array(["a", "b", None]))
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    first = backfill(two_views("1h"), tmp_path / "events.parquet", spine, output=tmp_path / "first")
    seen: list[list[str]] = []
    sound = beam.compute_bucket

    def watched(group: Any, *rest: Any) -> Any:
        seen.append([each.name for view in group.views for each in view.features])
        return sound(group, *rest)

    monkeypatch.setattr(beam, "compute_bucket", watched)
    modes = ["--direct_running_mode=in_memory"]
    for wanted, computed in (
        (two_views("1h", "1d"), {"card.n_1d"}),
        (two_views("1h", lifetime=True), {"shop.n_lifetime"}),
        (two_views("1h"), set()),
    ):
        seen.clear()
        out = tmp_path / f"then-{len(computed)}-{min(computed, default='')}"
        then = backfill(wanted, tmp_path / "events.parquet", spine, output=out, reuse=tmp_path / "first", options=modes)
        assert {name for names in seen for name in names} == computed
        assert then["account"] == first["account"]
        assert pq.read_table(out / "part-000000.parquet").equals(backfill(wanted, EVENTS, spine))


def test_reuse_of_something_else_is_refused(tmp_path: Path) -> None:
    spine = SPINE.append_column("shop", pa.array(["a", "b", None]))
    backfill(two_views("1h"), EVENTS, spine, output=tmp_path / "first")
    for events, rows, message in (
        (EVENTS, spine.slice(1), "is of another spine; compute it without reuse"),
        (EVENTS.slice(1), spine, "is of another events of `tx`; compute it without reuse"),
    ):
        with pytest.raises(InputError, match=message):
            backfill(two_views("1h"), events, rows, output=tmp_path / "next", reuse=tmp_path / "first")
    with pytest.raises(InputError, match="is of another how; compute it without reuse"):
        backfill(two_views("1h"), EVENTS, spine, output=tmp_path / "n", reuse=tmp_path / "first", as_of="arrival")
    with pytest.raises(InputError, match="is no training set that can be reused"):
        backfill(two_views("1h"), EVENTS, spine, output=tmp_path / "n", reuse=tmp_path)
    assert not (tmp_path / "next").exists()


def replaced(view: FeatureView) -> FeatureView:
    return replace(view, name="ever", features={"n": count().over("lifetime")})


def test_the_smallest_int64_is_a_value_like_any_other() -> None:
    source = EventSource("ids", {"id": Int64, "ts": Timestamp, "who": Int64}, event_time="ts", event_id="id")
    view = FeatureView(
        "v", Entity("who", "who"), source, {"min": col("id").min().over("1h"), "max": col("id").max().over("1h")}
    )
    smallest = -(2**63)
    events = pa.table({"id": [smallest, None], "ts": pa.array([1, 2], pa.timestamp("ms", "UTC")), "who": [1, 1]})
    found = backfill(FeatureSet("s", [view]), events, pa.table({"who": [1], "t": [10]}))
    assert found["v.min_1h"].to_pylist() == found["v.max_1h"].to_pylist() == [smallest]


def test_the_manifest_accounts_for_every_row(tmp_path: Path) -> None:
    backfill(SET, EVENTS, SPINE, output=tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["account"] == {"tx": {"applied": 3, "duplicate": 1, "filtered": 1, "quarantined_wrong_type": 1}}
    assert manifest["rows"] == 3
    assert pq.read_table(tmp_path / "out" / "part-000000.parquet").num_rows == 3
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"]
    with pytest.raises(InputError, match="exists; name a new folder"):
        backfill(SET, EVENTS, SPINE, output=tmp_path / "out")


FORMS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "pandas": lambda table, _: table.to_pandas(),
    "polars": lambda table, _: pl.from_arrow(table),
}


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_taken(form: str, tmp_path: Path) -> None:
    events = EVENTS.slice(0, 4)
    found = backfill(SET, {"tx": FORMS[form](events, tmp_path)}, FORMS[form](SPINE, tmp_path))
    assert found["card.sum_1h"].to_pylist() == [1.25, 89.4, 0.0]
    assert isinstance(found.to_pandas(), pd.DataFrame)


def test_a_folder_of_files_is_one_log(tmp_path: Path) -> None:
    for index in range(3):
        path = tmp_path / f"day={index}" / "part.parquet"
        path.parent.mkdir()
        pq.write_table(EVENTS.slice(2 * index, 2), path)
    assert backfill(SET, tmp_path, SPINE)["card.n_1h"].to_pylist() == [1, 3, 0]


def test_what_a_killed_run_left_is_no_input(tmp_path: Path) -> None:
    pq.write_table(EVENTS, tmp_path / "part.parquet")
    for name in (".unskew-killed", "_temporary"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.parquet").write_text("half")
    assert backfill(SET, tmp_path, SPINE)["card.n_1h"].to_pylist() == [1, 3, 0]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_instants_are_taken_in_any_unit_and_zone_and_floored(unit: str, zone: str | None) -> None:
    kind = pa.timestamp(unit, zone)
    events = EVENTS.set_column(1, "ts", pa.array([n * PER_SECOND[unit] for n in (1, 2, 2, 2, 9, 400)], kind))
    beyond = {"us": 999, "ns": 999_999}.get(unit, 0)  # less than a millisecond: t is still 2000 ms
    spine = SPINE.set_column(1, "t", pa.array([n * PER_SECOND[unit] + beyond for n in (2, 500, 500)], kind))
    assert backfill(SET, events, spine)["card.n_1h"].to_pylist() == [1, 3, 0]


PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def without(name: str) -> pa.Table:
    return EVENTS.drop_columns([name])


def with_column(name: str, values: pa.Array) -> pa.Table:
    return EVENTS.set_column(EVENTS.column_names.index(name), name, values)


BAD: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "does not exist": lambda path: (path / "nowhere", SPINE),
    "holds no .parquet file": lambda path: (path, SPINE),
    "column `shop` is missing in the table of events": lambda _: (without("shop"), SPINE),
    "is `string`, which is never `Int64`": lambda _: (with_column("card", pa.array(["x"] * 6)), SPINE),
    "column `card` is missing in the spine": lambda _: (EVENTS, SPINE.drop_columns(["card"])),
    "column `t` is missing in the spine": lambda _: (EVENTS, SPINE.rename_columns(["card", "when", "tag"])),
    "events of source `tx` are missing": lambda _: ({"ty": EVENTS}, SPINE),
    "cannot be read; give a path": lambda _: (3, SPINE),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_before_the_run(message: str, tmp_path: Path) -> None:
    events, spine = BAD[message](tmp_path)
    with pytest.raises(InputError, match=message):
        backfill(SET, events, spine, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("no")
    with pytest.raises(InputError, match="is no readable Parquet file"):
        backfill(SET, path, SPINE)


def test_what_is_shuffled_goes_to_the_temp_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def hand_over(tables: Any, folder: str) -> Any:
        written.append(folder)
        return sound(tables, folder)

    sound = beam_shuffle.hand_over
    monkeypatch.setattr(beam, "hand_over", hand_over)
    found = backfill(SET, EVENTS, SPINE, options=[f"--temp_location={tmp_path / 'spills'}"])
    assert found.equals(backfill(SET, EVENTS, SPINE))
    assert [each for each in written if each.startswith(str(tmp_path / "spills"))]
    assert list((tmp_path / "spills").iterdir()) == []


ODD_SPINES: dict[str, tuple[pa.Table, str]] = {
    "an instant past every year": (
        pa.table({"card": [1], "t": pa.array([2**63 - 1], pa.timestamp("ms"))}), "column `t` of the spine has 1 value"
    ),
    "an instant before every year": (
        pa.table({"card": [1], "t": pa.array([-(2**63) + 1], pa.timestamp("s"))}), "column `t` of the spine has 1 value"
    ),
    "a column twice": (
        pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["card", "card", "t"]), "`card` stands twice in the spine"
    ),
    "decimals of 256 bits": (
        pa.table({"card": pa.array([1], pa.decimal256(40, 0)), "t": [1]}), "which is never"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD_SPINES)
def test_odd_spines_are_one_clear_error(case: str) -> None:
    spine, message = ODD_SPINES[case]
    with pytest.raises(InputError, match=message):
        backfill(SET, EVENTS, spine)


def test_columns_of_the_spine_that_look_like_a_key_are_left_alone() -> None:
    shouted = pa.table({"CARD": [99] * 3, "T": ["x"] * 3})
    spine = shouted
    for name in SPINE.column_names:
        spine = spine.append_column(name, SPINE[name])
    found = backfill(SET, EVENTS, spine)
    assert found["card.n_1h"].equals(backfill(SET, EVENTS, SPINE)["card.n_1h"])
    assert found["CARD"].to_pylist() == [99] * 3


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_spine_that_is_no_parquet_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "spine.parquet").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        backfill(SET, EVENTS, tmp_path / "spine.parquet")


def test_one_bad_cell_is_quarantined_and_spoils_no_job(tmp_path: Path) -> None:
    source = EventSource("tx", {"ts": Timestamp, "k": Int64, "x": Decimal(12, 2)}, event_time="ts")
    few = FeatureSet("s", [FeatureView("v", Entity("k", "k"), source, {"n": count().over("1h")})])
    events = pa.table({
        "ts": pa.array([1, 2, 2**63 - 2, -(2**63) + 2, 3], pa.timestamp("ms")),
        "k": [1] * 5,
        "x": pa.array([None, None, None, None, PyDecimal("1e35")], pa.decimal128(38, 2)),
    })  # fmt: skip
    manifest = backfill(few, events, pa.table({"k": [1], "t": [10]}), output=tmp_path / "out")
    assert manifest["account"] == {"tx": {"applied": 2, "quarantined_out_of_range": 3}}


def test_a_float_is_the_decimal_that_it_is_nearest_to() -> None:
    source = EventSource("tx", {"id": Int64, "ts": Timestamp, "k": Int64, "x": Decimal(15, 2)}, "ts", "id")
    one = FeatureSet("s", [FeatureView("v", Entity("k", "k"), source, {"x": col("x").last_k(9).over("1h")})])
    amounts = [9_999_999_999.37, 12_345_678_901.23, 0.1 + 0.2, 1e10 + 0.01, 0.301]
    events = pa.table({"id": range(5), "ts": [1] * 5, "k": [1] * 5, "x": amounts})
    found = backfill(one, events, pa.table({"k": [1], "t": [10]}))
    assert found["v.x_1h"].to_pylist() == [[10_000_000_000.01, 0.3, 12_345_678_901.23, 9_999_999_999.37]]
