"""One source over logs of several schemas: batch and stream read the same values, whichever name carries them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unskew.backfill.training import backfill
from unskew.online.changelog import final_rows
from unskew.online.stream import run_stream
from unskew.pipelines import Decimal, Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count
from unskew.pipelines.backends.flink import compile_source
from unskew.pipelines.errors import DefinitionError, InputError
from unskew.pipelines.planner import plan

SCHEMA = {"id": Int64, "ts": Timestamp, "card": Int64, "amount": Decimal(12, 2), "shop": String}
TX = EventSource(
    "tx", SCHEMA, event_time="ts", event_id="id",
    aliases={"ts": "at", "card": ["card_no", "payload.card"], "amount": "payload.money.amount", "shop": "payload.shop"},
)  # fmt: skip
CARD = FeatureView(
    "card", Entity("card", "card"), TX,
    {"n": count().over("1h"), "sum": col("amount").sum().over("1h"), "shops": col("shop").count_distinct().over("1h")},
)  # fmt: skip
SET = FeatureSet("aliased", [CARD])
FLAT = [
    {"id": 1, "ts": 1_000, "card": 7, "amount": 1.5, "shop": "a"},
    {"id": 2, "ts": 2_000, "card": 7, "amount": 2, "shop": None},
]
NESTED: list[dict[str, Any]] = [
    {"id": 3, "at": 3_000, "payload": {"card": 7, "money": {"amount": 0.25}, "shop": "b"}},
    {"id": 4, "at": 4_000, "payload": {"card": 7, "money": None, "shop": "a"}},
    {"id": 5, "at": 5_000, "payload": None},
]  # fmt: skip
RENAMED = [{"id": 6, "at": 6_000, "card": None, "card_no": 7, "amount": 4, "shop": "c"}]
WANTED = {"card": 7, "t": 10_000, "card.n_1h": 5, "card.sum_1h": 7.75, "card.shops_1h": 3}


def archive(folder: Path) -> Path:
    """Write a file of each schema."""
    for name, rows in (("1-flat", FLAT), ("2-nested", NESTED), ("3-renamed", RENAMED)):
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


def test_files_of_several_schemas_are_one_source(tmp_path: Path) -> None:
    spine = pa.table({"card": [7], "t": [10_000]})
    found = backfill(SET, archive(tmp_path / "tx"), spine)
    assert found.to_pylist() == [WANTED]


def test_the_stream_reads_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    spaced = json.dumps({"id": 7, "ts": None, "at": 7_000, "payload": {"card": "7", "shop": 'x"y'}, "shop": None})
    wrong = json.dumps({"id": 8, "at": 8_000, "card": 7, "payload": {"money": {"amount": "0.125"}}})
    scalar = json.dumps({"id": 9, "at": 9_000, "payload": 5}, separators=(",", ":"))
    lines = [json.dumps(each, separators=(",", ":")) for each in (*FLAT, *NESTED, *RENAMED)] + [spaced, wrong, scalar]
    (tmp_path / "in" / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    account = run_stream(plan(SET), "tx", tmp_path / "in", tmp_path / "out")
    assert (account.applied, account.filtered, account.reasons) == (6, 2, {"wrong_type": 1})
    job = compile_source(plan(SET), "tx", tmp_path / "in", tmp_path / "out")
    tiles, values = (next(each for each in job.streams if each.kind == kind) for kind in ("tiles", "values"))
    (tile,) = final_rows(tmp_path / "out", tiles).values()
    assert (tile["n"], tile["f1"]) == (6, 775)
    assert {each["value"]: each["count"] for each in final_rows(tmp_path / "out", values).values()} == {
        "a": 2, "b": 1, "c": 1, 'x"y': 1,
    }  # fmt: skip


def test_carriers_that_disagree_are_refused() -> None:
    spine = pa.table({"card": [7], "t": [10_000]})
    both = pa.table({"id": [1], "ts": [1], "card": [7], "card_no": ["7"], "amount": [1], "shop": ["a"]})
    with pytest.raises(InputError, match="`card` is `int64`, `card_no` is `string`; cast one"):
        backfill(SET, both, spine)
    with pytest.raises(InputError, match=r"column `card` and `card_no` and `payload\.card` is missing"):
        backfill(SET, both.drop_columns(["card", "card_no"]), spine)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"nothing": "x"}, "alias column `nothing` of `tx` is unknown"),
        ({"card": "amount"}, "alias `amount` of column `card` of `tx` is a column already"),
        ({"card": "x", "shop": "x"}, "alias `x` of column `shop` of `tx` is an alias of `card` already"),
        ({"card": "a b"}, "alias name `a b` is no plain identifier"),
        ({"card": "a..b"}, "alias name `` is no plain identifier"),
    ],
)
def test_wrong_aliases(aliases: dict[str, str], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        EventSource("tx", SCHEMA, event_time="ts", event_id="id", aliases=aliases)


def test_aliases_are_part_of_the_fingerprint() -> None:
    plain = EventSource("tx", SCHEMA, event_time="ts", event_id="id")
    other = FeatureSet("aliased", [FeatureView("card", CARD.entity, plain, CARD.features)])
    assert plan(other).fingerprints() != plan(SET).fingerprints()
