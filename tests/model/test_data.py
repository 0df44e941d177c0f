"""Columns to numbers: order, nulls, lists, decimals, one row; training sets that cannot be used."""

from collections.abc import Callable
from decimal import Decimal as Dec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from unskew.backfill.training import backfill
from unskew.feature_defs.fraud import fraud
from unskew.model.data import Column, Inputs, inputs_of, labels_of, matrix, read_training_set, times_of
from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count, plan
from unskew.pipelines.errors import InputError, ModelError

TX = EventSource("tx", {"id": Int64, "ts": Timestamp, "card": Int64, "shop": String}, event_time="ts", event_id="id")
CARD = Entity("card", "card")
SET = FeatureSet("cards", [FeatureView("card", CARD, TX, {"n": count().over("1h")})])
OTHER = FeatureSet("cards", [FeatureView("card", CARD, TX, {"n": count().over("1h", hop="1min")})])
EVENTS = pa.table({"id": [1], "ts": [1_000], "card": [7], "shop": ["a"]})
SPINE = pa.table({"card": [7, 8], "t": [2_000, 2_000], "y": [True, False]})
INPUTS = Inputs((Column("a"), Column("list", size=3), Column("price", units=100)))
NAN = float("nan")


def test_the_columns_of_a_set_have_one_order() -> None:
    found = inputs_of(plan(fraud))
    names = [each.name for each in found.columns]
    assert names[0] == "amount"
    assert names[-1] == "amount_ratio"
    assert found.columns[names.index("customer_activity.last_amounts_30d")] == Column(
        "customer_activity.last_amounts_30d", size=5
    )
    assert found.ignored == ("customer_activity.last_country_30d",)
    assert found.width == len(names) + 4
    assert found == inputs_of(plan(fraud))


def test_a_set_without_numbers_is_refused() -> None:
    words = FeatureSet("words", [FeatureView("card", CARD, TX, {"shop": col("shop").last().over("1h")})])
    with pytest.raises(ModelError, match="set `words` has no numeric feature"):
        inputs_of(plan(words))


ROWS = [[1.0, 4.0, 5.0, NAN, 0.29], [NAN, NAN, NAN, NAN, NAN], [3.0, 6.0, 7.0, 8.0, 85.65]]
FORMS: dict[str, dict[str, Any]] = {
    "arrow": {
        "a": pa.array([1, None, 3]),
        "list": pa.array([[4.0, 5.0], None, [6.0, 7.0, 8.0, 9.0]]),
        "price": pa.array([Dec("0.29"), None, Dec("85.65")], pa.decimal128(12, 2)),
    },
    "lists": {"a": [1, None, 3], "list": [[4, 5], None, [6, 7, 8, 9]], "price": [0.29, NAN, 85.64999999999999]},
    "numpy": {"a": np.array([1, NAN, 3]), "list": [[4, 5], [], [6, 7, 8]], "price": np.array([0.29, NAN, 85.65])},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bits(form: str) -> None:
    assert matrix(INPUTS, FORMS[form]).tobytes() == np.array(ROWS).tobytes()
    assert matrix(INPUTS, pa.table(FORMS[form])).tobytes() == np.array(ROWS).tobytes()


@pytest.mark.parametrize("row", range(3))
def test_one_row_of_plain_values(row: int) -> None:
    plain = {name: values[row].as_py() for name, values in FORMS["arrow"].items()}
    assert matrix(INPUTS, plain).tobytes() == np.array(ROWS[row]).tobytes()


def test_parts_of_a_table_are_read_where_they_are() -> None:
    table = pa.concat_tables([pa.table(FORMS["arrow"]), pa.table(FORMS["arrow"])]).slice(2, 3)
    np.testing.assert_array_equal(matrix(INPUTS, table), [ROWS[2], ROWS[0], ROWS[1]])


def test_no_rows_are_no_rows() -> None:
    assert matrix(INPUTS, pa.table(FORMS["arrow"]).slice(0, 0)).shape == (0, 5)


def test_truth_values_are_numbers() -> None:
    assert matrix(Inputs((Column("a"),)), {"a": [True, None, False]})[:, 0].tolist() == pytest.approx(
        [1, NAN, 0], nan_ok=True
    )


BAD: dict[str, dict[str, Any]] = {
    "column `price` that the model reads is missing; did you mean `prize`": {"a": 1, "list": [1], "prize": 1},
    "column `a` holds no numbers: found `string`": {"a": ["x"], "list": [[1]], "price": [1]},
    "column `a` holds no numbers: could not convert": {"a": "x", "list": [1], "price": 1},
    "column `a` holds no numbers: found `list": {"a": [[1]], "list": [[1]], "price": [1]},
    "column `list` has 2 rows, others have 1": {"a": [1], "list": [[1], [2]], "price": [1]},
}


@pytest.mark.parametrize("message", BAD)
def test_columns_that_do_not_fit_are_refused(message: str) -> None:
    with pytest.raises(ModelError, match=message):
        matrix(INPUTS, BAD[message])


LABELS: dict[str, pa.Array] = {
    "label column `y` has 1 null": pa.array([1, None]),
    "label column `y` holds `2`": pa.array([0, 2]),
    "label column `y` is `double`": pa.array([0.0, 1.0]),
}


@pytest.mark.parametrize("message", LABELS)
def test_labels_that_are_none_are_refused(message: str) -> None:
    with pytest.raises(InputError, match=message):
        labels_of(pa.table({"y": LABELS[message]}), "y")
    with pytest.raises(InputError, match="label column `x` is missing in the training set; known: `y`"):
        labels_of(pa.table({"y": [0]}), "x")


@pytest.mark.parametrize(("unit", "ticks"), [("s", -2), ("ms", -1_001), ("us", -1_000_001), ("ns", -1_000_000_001)])
def test_instants_are_floored_to_milliseconds(unit: str, ticks: int) -> None:
    found = times_of(pa.table({"t": pa.array([ticks, 0], pa.timestamp(unit))}), "t")
    assert found.tolist() == [-2_000 if unit == "s" else -1_001, 0]


def test_instants_that_are_none_are_refused() -> None:
    for column in (pa.array([1, None]), pa.array(["x"])):
        with pytest.raises(InputError, match="give timestamps or int64 ms"):
            times_of(pa.table({"t": column}), "t")
    with pytest.raises(InputError, match="time column `when` is missing"):
        times_of(pa.table({"t": [1]}), "when")


def test_a_folder_is_read_and_other_definitions_are_refused(tmp_path: Path) -> None:
    backfill(SET, EVENTS, SPINE, output=tmp_path / "set")
    assert read_training_set(tmp_path / "set", plan(SET)).equals(backfill(SET, EVENTS, SPINE))
    with pytest.raises(InputError, match=r"of other definitions than set `cards`: 1 changed \(`card.n_1h`\)"):
        read_training_set(tmp_path / "set", plan(OTHER))
    renamed = FeatureSet("cards", [FeatureView("card", CARD, TX, {"m": count().over("1h")})])
    with pytest.raises(InputError, match=r"1 missing \(`card.m_1h`\)"):
        read_training_set(tmp_path / "set", plan(renamed))


SPOILT: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.rmdir(),
    "empty": lambda _: None,
    "no JSON": lambda path: (path / "_manifest.json").write_text("{"),
    "no manifest": lambda path: (path / "_manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_folder_that_is_no_training_set_is_refused(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    SPOILT[how](folder)
    with pytest.raises(InputError, match="is no training set; give the output of `unskew backfill`"):
        read_training_set(folder, plan(SET))
