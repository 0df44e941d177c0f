"""The Flink SQL of the shipped set, and the parts that Python shares with it."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from unskew.feature_defs.fraud import fraud, transactions
from unskew.pipelines import Decimal, Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count
from unskew.pipelines.backends.flink import compile_source, decode_ordered, identity_hash, ordered_values
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.planner import plan

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("source", ["transactions", "labels"])
def test_the_sql_of_the_fraud_set_is_the_golden_one(source: str) -> None:
    found = compile_source(plan(fraud), source, "/input", "/output").text
    path = GOLDEN / f"fraud_{source}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), "if the change is meant, run the test once with UPDATE_GOLDEN=1"


def test_the_hash_vectors_are_what_flink_gives() -> None:
    assert identity_hash([-1, 1000], [1, 2]).tolist() == [-2674337328763156308, 6863758304779337923]


def test_the_hash_depends_on_which_id_stands_at_which_time() -> None:
    straight, crossed = identity_hash([1, 2], [10, 20]), identity_hash([1, 2], [20, 10])
    assert np.add.reduce(straight) != np.add.reduce(crossed)
    assert len(set(identity_hash([0] * 2000, list(range(2000))).tolist())) == 2000
    assert len(set(identity_hash([0] * 2000, [str(each) for each in range(2000)]).tolist())) == 2000


def test_sums_of_hashes_tell_sets_of_neighbours_apart() -> None:
    for ids in (range(20), range(1_700_000_000_000, 1_700_000_020_000, 1_000)):
        hashes = identity_hash(list(ids), list(range(20)))
        for size in (2, 3, 4):
            sums = [int(np.add.reduce(hashes[list(each)])) for each in combinations(range(20), size)]
            assert len(set(sums)) == len(sums)


def test_an_ordered_text_is_read_back() -> None:
    source = plan(fraud).source("transactions")
    order = "09223372036854775807 10000000000000000001 44F09F9880"
    assert decode_ordered(order, source, "string") == (-1, (1,), "D😀")
    least = "00000000000000000000 00000000000000000000 00000000000000000005"
    assert decode_ordered(least, source, "int") == (-(2**63), (-(2**63),), 5 - 2**63)
    column = pa.chunked_array([[order, None], [order[:-10], order + "C3A9"]])
    assert ordered_values(column, source, "string").to_pylist() == ["D😀", None, "", "D😀é"]
    head = order.rpartition(" ")[0]
    flags = pa.chunked_array([[f"{head} TRUE", f"{head} FALSE", None]])
    assert ordered_values(flags, source, "bool").to_pylist() == [True, False, None]
    assert ordered_values(pa.chunked_array([[least, None]]), source, "int").to_pylist() == [5 - 2**63, None]


def test_what_flink_cannot_do_is_refused() -> None:
    with pytest.raises(DefinitionError, match="did you mean `transactions`"):
        compile_source(plan(fraud), "transaction", "/input", "/output")
    fine = EventSource("fine", {"ts": Timestamp, "k": Int64, "x": Decimal(18, 7)}, event_time="ts")
    view = FeatureView("v", Entity("k", "k"), fine, {"n": col("x").max().over("1h")})
    with pytest.raises(DefinitionError, match="at most 6 digits"):
        compile_source(plan(FeatureSet("s", [view])), "fine", "/input", "/output")


def test_any_column_may_be_a_key() -> None:
    names = ("value", "ts", "n", "tile_start", "seq", "arrival", "count", "f0", "key1", "order")
    source = EventSource(
        "s", {"at": Timestamp, "id": Int64, **dict.fromkeys(names, String)}, event_time="at", event_id="id"
    )
    features = {
        "n": count().over("1h"),
        "d": col("value").count_distinct().over("1h"),
        "l": col("ts").last_k(2).over("1h"),
    }
    job = compile_source(
        plan(FeatureSet("set", [FeatureView("v", Entity("k", names), source, features)])), "s", "/in", "/out"
    )
    for stream in job.streams:
        assert len({name for name, _ in stream.columns}) == len(stream.columns), stream.name


def test_a_watched_folder_is_looked_at_each_second_and_no_id_means_no_deduplication() -> None:
    source = EventSource("s", {"ts": Timestamp, "k": String}, event_time="ts")
    compiled = plan(FeatureSet("set", [FeatureView("v", Entity("k", "k"), source, {"n": count().over("1h")})]))
    text = compile_source(compiled, "s", "/input", "/output", watch=True).text
    assert "'source.monitor-interval' = '1 s'" in text
    assert "'table.exec.state.ttl'" in text
    assert "archived" not in text
    assert "< CAST(7 AS BIGINT) THEN 'archived'" in compile_source(compiled, "s", "/input", "/output", since=7).text
    assert "ROW_NUMBER" not in text
    assert transactions.deduplicate
