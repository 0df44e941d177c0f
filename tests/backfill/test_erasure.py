"""Erasure from Parquet: what goes, what stays as it was, and what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal as Exact
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.erasure_world import (
    CARD,
    CARDS,
    END,
    GONE,
    MARK,
    NOTED,
    PLAN,
    SET,
    archive,
    contents,
    holding,
    packed,
    place_at,
    rows,
    table,
)
from unskew.backfill.erase_upload import DECIDED, UploadPlace
from unskew.backfill.erasure import archives, training_set
from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.pipelines import (
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int64,
    String,
    Timestamp,
    count,
    plan,
)
from unskew.pipelines.erasure import subject
from unskew.pipelines.errors import InputError
from unskew.pipelines.manifest import check_files, read_manifest
from unskew.pipelines.types import DataType

ROOT = Path(__file__).parents[2]
OTHERS = CARDS[1:]


def erase(events: Path, given: Mapping[str, Any], set_plan: Any = PLAN) -> int:
    (place,) = archives(subject(set_plan, given), events)
    found = place.find()["rows"]
    place.erase()
    assert place.find() == {"rows": 0}
    return found


def test_the_archive_is_as_if_the_card_had_never_been_seen(tmp_path: Path) -> None:
    folder = archive(tmp_path / "tx", rows())
    pq.write_table(table(rows(("a",))), folder / ".hidden.parquet")
    before = contents(folder)
    assert holding(folder)
    assert erase(folder, {"card": GONE}) == 100
    assert not holding(folder)
    after = contents(folder)
    assert {name for name in before if before[name] == after.get(name)} == {"zzz.parquet", ".hidden.parquet"}
    assert erase(folder, {"card": GONE}) == 0
    assert contents(folder) == after
    spine = pa.table(
        {"card": [*CARDS] * 2, "payee": ["a"] * 8, "shop": [0, 1, 2, 0] * 2, "t": [END] * 4 + [11 * 86_400_000] * 4}
    )
    never = archive(tmp_path / "never" / "tx", rows(OTHERS))
    assert backfill(SET, folder, spine).equals(backfill(SET, never, spine))


def test_files_keep_their_layout(tmp_path: Path) -> None:
    n = 90
    found = pa.table(
        {
            "id": range(n),
            "ts": pa.array(range(n), pa.timestamp("us")),
            "seen": pa.array(range(n), pa.timestamp("ns", "UTC")),
            "card": pa.array([CARDS[each // 30] for each in range(n)]).dictionary_encode(),
            "shop": pa.array([1] * n, pa.uint32()),
            "amount": pa.array([Exact("1.50")] * n, pa.decimal128(8, 2)),
            "more": pa.array([{"words": [GONE if each < 30 else "w"], "x": each} for each in range(n)]),
        }
    ).replace_schema_metadata({"written": "by hand"})
    codecs = {"id": "snappy", "ts": "none", "card": "none", "amount": "zstd", "more.x": "gzip"}
    path = tmp_path / "tx.parquet"
    pq.write_table(
        found, path, compression=codecs, row_group_size=20, use_dictionary=["card"], write_statistics=["id", "card"],
        write_page_index=True,
    )  # fmt: skip
    path.chmod(0o640)
    old, mode, before = pq.read_metadata(path), path.stat().st_mode, pq.read_table(path)
    assert erase(path, {"card": GONE}) == 30
    new = pq.read_metadata(path)
    after = pq.read_table(path)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.to_pylist() == before.slice(30).to_pylist()
    assert (new.schema, new.metadata[b"written"], path.stat().st_mode) == (old.schema, b"by hand", mode)
    assert [new.row_group(each).num_rows for each in range(new.num_row_groups)] == [10, 20, 20, 10]
    for one, other in zip(columns(old), columns(new), strict=True):
        assert (one.path_in_schema, one.compression) == (other.path_in_schema, other.compression)
        assert (one.is_stats_set, one.has_offset_index) == (other.is_stats_set, other.has_offset_index)
        assert one.has_dictionary_page == other.has_dictionary_page
    assert MARK.encode() not in path.read_bytes()


def columns(metadata: pq.FileMetaData) -> list[Any]:
    group = metadata.row_group(metadata.num_row_groups - 1)
    return [group.column(each) for each in range(group.num_columns)]


def test_a_file_without_a_row_left_stays(tmp_path: Path) -> None:
    path = tmp_path / "tx.parquet"
    pq.write_table(table(rows((GONE,))), path, row_group_size=7)
    assert erase(path, {"card": GONE}) == 100
    assert (pq.read_metadata(path).num_row_groups, pq.read_table(path).num_rows) == (1, 0)
    spine = pa.table({"card": [GONE], "payee": ["a"], "shop": [0], "t": [END]})
    assert backfill(SET, path, spine)["card.n_lifetime"].to_pylist() == [0]


def test_other_writers_files_keep_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tx.parquet"
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT i AS id, make_timestamp_ns(i * 1001) AS ts, i AS seen, "
                           "CASE WHEN i < 3 THEN 'a' ELSE 'b' END AS card, i AS shop, "
                           "CAST(i AS DECIMAL(8, 2)) AS amount, [{'w': i}] AS more FROM range(5) r(i)")  # fmt: skip
        connection.execute(f"COPY t TO '{path}'")
    before = pq.read_table(path)
    assert erase(path, {"card": "a"}) == 3
    assert pq.read_table(path).equals(before.slice(3))


def test_aliases_and_links(tmp_path: Path) -> None:
    kept = {"id": 9, "ts": 9, "seen": 9, "shop": 1, "amount": 1.0}
    flat = [
        kept | {"card": "x", "card_no": GONE},
        kept | {"card": None, "card_no": GONE},
        kept | {"card": "x", "card_no": None},
    ]
    deep = [kept | {"payload": {"card": GONE}}, kept | {"payload": None}, kept | {"payload": {"card": "x"}}]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "in" / "1.parquet")
    pq.write_table(pa.Table.from_pylist(deep), tmp_path / "elsewhere.pq")
    (tmp_path / "in" / "2.parquet").symlink_to(tmp_path / "elsewhere.pq")
    assert erase(tmp_path / "in", {"card": GONE}) == 2
    assert pq.read_table(tmp_path / "in" / "1.parquet").to_pylist() == [flat[0], flat[2]]
    assert pq.read_table(tmp_path / "elsewhere.pq").to_pylist() == deep[1:]
    assert (tmp_path / "in" / "2.parquet").is_symlink()


@pytest.mark.parametrize(
    ("kind", "given", "found", "left"),
    [
        (Int64, 42, pa.array([42, 43, None], pa.int16()), [43, None]),
        (Int64, 42, pa.array([42, 2**63], pa.uint64()), [2**63]),
        (Int64, 1, pa.nulls(2), [None, None]),
        (String, "é", pa.array(["é", "e\u0301", "E", None], pa.large_string()), ["e\u0301", "E", None]),
        (String, "a", pa.array(["a", "b", None]).dictionary_encode(), ["b", None]),
        (String, "", pa.array(["", " ", None]), [" ", None]),
        (String, "a\0b", pa.array(["a\0b", "a"]), ["a"]),
    ],
)  # fmt: skip
def test_keys_of_every_type(tmp_path: Path, kind: DataType, given: Any, found: pa.Array, left: list[Any]) -> None:
    source = EventSource("s", {"at": Timestamp, "key": kind}, event_time="at", event_id=None)
    keyed = plan(FeatureSet("keyed", [FeatureView("v", Entity("e", "key"), source, {"n": count().over("1h")})]))
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"at": [1] * len(found), "key": found}), path)
    erase(path, {"key": given}, keyed)
    assert pq.read_table(path)["key"].to_pylist() == left


def test_keys_name_entities_as_views_and_joins_do() -> None:
    assert subject(PLAN, {"payee": "x"}).sources == subject(PLAN, {"card": "x"}).sources == {"tx": ({"card": "x"},)}
    assert subject(PLAN, {"card": "x"}).of_spine() == [{"card": "x"}, {"payee": "x"}]
    assert [bool(subject(PLAN, {"card": "x"}).of_view(each)) for each in PLAN.views] == [True, True, False]
    pair = subject(PLAN, {"card": "x", "shop": 1})
    assert [bool(pair.of_view(each)) for each in PLAN.views] == [False, True, False]
    copies, trace = subject(PLAN, {"card": "x"}).traces()
    assert copies.startswith("copies of the same events in `tx` that name another entity")
    assert trace.startswith("tiles of view `shop`, of other entities, keep what they counted")
    assert "and values made of the key in `card.shops_7d`" in subject(PLAN, {"shop": 1}).traces()[1]
    noted = plan(FeatureSet("noted", [CARD, NOTED]))  # a card in a source that no view keys by it
    assert subject(noted, {"card": "x"}).sources == {"tx": ({"card": "x"},), "notes": ({"card": "x"},)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"crd": "x"}, "key column `crd` is of no view of set `world`; did you mean `card`"),
        ({"payee": "x", "shop": 1}, "no view of set `world` has the keys `payee`, `shop`; give all keys of one: `card`; or "),
        ({}, "has the keys nothing"),
        ({"card": None}, "key `card` is null"),
        ({"shop": "x"}, "value `'x'` of column `shop` is not of type `Int64`"),
    ],
)  # fmt: skip
def test_wrong_keys(given: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        subject(PLAN, given)


def test_composite_keys_leave_the_rest(tmp_path: Path) -> None:
    folder = archive(tmp_path / "tx", rows())
    assert erase(folder, {"shop": 1, "card": "a"}) == 34
    left = pq.read_table(folder).to_pylist()
    assert sum(each["card"] == "a" for each in left) == 66
    assert sum(each["shop"] == 1 for each in left) == 133 - 34 + 1


def test_an_upload_loses_the_entity_and_still_verifies(tmp_path: Path) -> None:
    folder = tmp_path / "up"
    upload(PLAN, table(rows()), output=folder, cut=END + 86_400_000)
    before = packed(folder)
    place = UploadPlace(subject(PLAN, {"card": GONE}), folder)
    assert place.find() == {"records of card": 1, "records of pair": 3}
    place.erase()
    check_files(folder, read_manifest(folder))
    assert packed(folder) == {key: record for key, record in before.items() if GONE not in key}
    assert len(before) - len(packed(folder)) == 4
    assert not holding(folder)
    after = contents(folder)
    assert set(place.find().values()) == {0}
    place.erase()
    assert contents(folder) == after


def test_uploads_of_other_definitions_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "up"
    upload(PLAN, table(rows()), output=folder, cut=END + 86_400_000)
    other = plan(FeatureSet("other", [CARD]))
    with pytest.raises(InputError, match="holds view `pair`, which set `other` has not"):
        UploadPlace(subject(other, {"card": GONE}), folder).find()
    next((folder / "shop").glob("*.parquet")).unlink()
    with pytest.raises(InputError, match="is not as it was written"):
        UploadPlace(subject(PLAN, {"card": GONE}), folder).find()
    with pytest.raises(InputError, match="is no upload"):
        UploadPlace(subject(PLAN, {"card": GONE}), tmp_path / "no").find()


def test_training_sets_lose_every_row_about_the_entity(tmp_path: Path) -> None:
    cards = [*CARDS, "a", "a"]
    spine = pa.table({"card": cards, "payee": ["a"] * 5 + [GONE], "shop": [0] * 6, "t": [END] * 6})
    backfill(SET, table(rows()), spine, output=tmp_path / "set")
    before = pq.read_table(tmp_path / "set").to_pylist()
    place = training_set(subject(PLAN, {"card": GONE}), tmp_path / "set")
    assert place.find() == {"rows": 2}
    place.erase()
    assert pq.read_table(tmp_path / "set").to_pylist() == before[1:5]
    assert json.loads((tmp_path / "set" / "_manifest.json").read_text())["rows"] == 4
    assert not holding(tmp_path / "set")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests import erasure_world as own
from unskew.pipelines import durable
from unskew.backfill import erase_upload, erasure
from unskew.pipelines import manifest
left, sync = int(sys.argv[2]), durable.sync
def counted(path):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(path)
durable.sync = erase_upload.sync = counted
own.place_at(Path(sys.argv[1])).erase()
"""


@pytest.mark.parametrize("kind", ["archive", "upload"])
def test_killed_anywhere_it_leaves_whole_files_and_a_rerun_completes(tmp_path: Path, kind: str) -> None:
    made = tmp_path / "made"
    if kind == "archive":
        archive(made, rows())
    else:
        upload(PLAN, table(rows()), output=made, cut=END + 86_400_000)
    done = 1
    for steps in range(0, 40, 3):
        folder = tmp_path / str(steps)
        subprocess.run(["cp", "-r", made, folder], check=True)
        whole = sum(pq.read_table(each).num_rows for each in folder.rglob("*.parquet"))
        command = [sys.executable, "-c", KILLED.format(root=str(ROOT)), str(folder), str(steps)]
        done = subprocess.run(command, timeout=120, check=False, capture_output=True).returncode
        assert done in (0, -signal.SIGKILL)
        assert sum(pq.read_table(each).num_rows for each in folder.rglob("*.parquet")) <= whole
        place = place_at(folder)
        place.find()
        place.erase()
        assert not holding(folder)
        assert not [each for each in os.listdir(folder) if each.startswith(".") or each == DECIDED]
        if kind == "upload":
            check_files(folder, read_manifest(folder))
            assert len(packed(folder)) == len(packed(made)) - 4
        else:
            assert pq.read_table(folder).num_rows == 301
        if not done:
            break
    assert not done
