"""The store: flips, the write guard, versions, refusals."""

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.online.stream_rows import stream_rows
from unskew.backfill.upload import upload
from unskew.online.asked import entity_key
from unskew.online.kernels import AHEAD, BEHIND
from unskew.online.materialise import Materialiser
from unskew.online.program import Program
from unskew.online.read import FeatureReader
from unskew.online.store import Flip, Pointer, Store, ViewContent
from unskew.online.store_sqlite import SqliteStore
from unskew.online.upload import load_upload
from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count, plan
from unskew.pipelines.errors import InputError, StoreDown, StoreError
from unskew.pipelines.records import Layout, closed_layout

Fresh = Callable[[], Store]
DAY, HOUR = 86_400_000, 3_600_000
SCHEMA = {"id": Int64, "ts": Timestamp, "seen": Timestamp, "who": Int64, "x": Int64(0, 1000), "s": String}
TX = EventSource("tx", SCHEMA, event_time="ts", event_id="id", arrival="seen")


def cards(**more: Any) -> FeatureSet:
    features = {"n": count().over("2h"), "x": col("x").sum().over("2h"), "s": col("s").last().over("2h"), **more}
    return FeatureSet("cards", [FeatureView("card", Entity("card", "who"), TX, features)])


PLAN = plan(cards())


def row(id: int, ts: int, x: int = 1, who: int = 7, seen: int | None = None) -> dict[str, Any]:
    return {"id": id, "ts": ts, "seen": ts if seen is None else seen, "who": who, "x": x, "s": f"s{id}"}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        rows, pa.schema([(name, pa.string() if name == "s" else pa.int64()) for name in SCHEMA])
    )


def read(store: Store, t: int, who: int | None = 7) -> dict[str, Any]:
    return FeatureReader(PLAN, store).read([{"who": who}], t).row()


def test_writes_are_idempotent_and_an_expired_tile_is_rejected(fresh_store: Fresh) -> None:
    rows = [row(1, 1_000), row(2, 2_000, 10), row(3, 3_000, 100)]
    with fresh_store() as store:
        writer = Materialiser(store, PLAN, "tx", "job")
        whole = stream_rows(PLAN, "tx", rows)
        writer.apply(whole)
        expected = {"card.n_2h": 3, "card.x_2h": 111, "card.s_2h": "s3"}
        assert read(store, 10_000) == expected
        writer.apply({view: [(each, rows.slice(0, 2)) for each, rows in batch] for view, batch in whole.items()})
        assert read(store, 10_000) == expected
        assert store.written("job").rejected == 2
        assert store.written("job").applied == store.written("job", "card").applied == writer.applied.events == 3
        # A tile whose state expired starts anew: more rows than stored, but a later first arrival.
        anew = stream_rows(PLAN, "tx", [row(10 + n, 4_000 + n) for n in range(5)])
        writer.apply(anew)
        assert read(store, 10_000) == expected
        assert store.written("job").rejected == store.written("job", "card").rejected == 2 + 5
        assert store.written("job").applied == 3


def test_a_read_takes_the_version_before_its_instant(fresh_store: Fresh) -> None:
    #   order of arrival:   1000   5000   2000
    #   read at t = 3000:   the version of 1000 alone; the newest holds 2000 too, but also 5000 (behind)
    #   read at t =  500:   no version without later events (ahead)
    rows = [row(1, 1_000, 1, seen=1_000), row(2, 5_000, 10, seen=5_000), row(3, 2_000, 100, seen=6_000)]
    with fresh_store() as store:
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", rows))
        reader = FeatureReader(PLAN, store)
        reading = reader.read([{"who": 7}] * 3, [3_000, 6_000, 500])
        assert reading.table()["card.x_2h"].to_pylist() == [1, 111, 0]
        assert reading.knowledge["card"][:, [AHEAD, BEHIND]].tolist() == [[0, 1], [0, 0], [1, 0]]


def test_versions_older_than_their_life_are_dropped(fresh_store: Fresh) -> None:
    rows = [row(1, 1_000), row(2, 2_000), row(3, 200_000)]
    with fresh_store() as store:
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", rows))
        assert FeatureReader(PLAN, store).read([{"who": 7}], 1_500).knowledge["card"][0, AHEAD] == 1
        assert read(store, 300_000)["card.n_2h"] == 3


def test_unknown_and_null_entities_have_the_empty_values(fresh_store: Fresh) -> None:
    with fresh_store() as store:
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", [row(1, 1_000)]))
        empty = {"card.n_2h": 0, "card.x_2h": 0, "card.s_2h": None}
        assert read(store, 5_000, who=8) == read(store, 5_000, who=None) == empty


def test_an_upload_flips_whole_and_heals_what_came_late(tmp_path: Path, fresh_store: Fresh) -> None:
    early = [row(1, 10 * DAY - 1_000), row(2, 10 * DAY + 1_000)]
    late = [row(3, 10 * DAY - 2_000, 100, seen=12 * DAY)]
    with fresh_store() as store:
        for number, (rows, cut) in enumerate([(early, 11 * DAY + 1), (early + late, 12 * DAY + 1)]):
            upload(PLAN, table(rows), output=tmp_path / str(number), cut=cut)
            load_upload(store, PLAN, tmp_path / str(number), cut + HOUR)
        assert store.pointer("tx") == Pointer(2, "", 12 * DAY + 1, 11 * DAY)
        assert store.flips("tx")[0] == Flip("tx", 1, 11 * DAY + 1, 10 * DAY, 11 * DAY + 1 + HOUR)
        with pytest.raises(StoreError, match="is before batch_end"):
            read(store, 11 * DAY - 1)
        with pytest.raises(StoreError, match="is being read"):
            store.drop_generation(2)
        store.drop_generation(1)
        with pytest.raises(StoreError, match="upload a newer archive"):
            load_upload(store, PLAN, tmp_path / "0", 13 * DAY)


def test_closed_tiles_and_open_ones_meet_at_batch_end(tmp_path: Path, fresh_store: Fresh) -> None:
    #   closed: 10 d - 1 s (and the late one, known by the cut)  |batch_end = 10 d|  open: 10 d, 10 d + 1 s
    rows = [
        row(1, 10 * DAY - 1_000, 1),
        row(3, 10 * DAY - 2_000, 100, seen=11 * DAY + 1),
        row(4, 10 * DAY, 10),
        row(2, 10 * DAY + 1_000, 1000),
    ]
    with fresh_store() as store:
        upload(PLAN, table(rows), output=tmp_path / "up", cut=11 * DAY + 2)
        load_upload(store, PLAN, tmp_path / "up", 11 * DAY)
        assert read(store, 10 * DAY)["card.x_2h"] == 101
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", rows, since=10 * DAY))
        assert read(store, 10 * DAY)["card.x_2h"] == 101
        assert read(store, 10 * DAY + 1)["card.x_2h"] == 111
        assert read(store, 10 * DAY + HOUR)["card.x_2h"] == 1111


def test_other_definitions_are_refused_by_the_feature_that_changed(fresh_store: Fresh) -> None:
    with fresh_store() as store:
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", [row(1, 1_000)]))
        fewer = FeatureSet("cards", [FeatureView("card", Entity("card", "who"), TX, {"n": count().over("2h")})])
        assert FeatureReader(plan(fewer), store).read([{"who": 7}], 5_000).row() == {"card.n_2h": 1}
        changed = plan(cards(x=col("x").max().over("2h")))
        with pytest.raises(StoreError, match=r"another definition of feature `card\.x_2h`"):
            FeatureReader(changed, store).read([{"who": 7}], 5_000)
        more = plan(cards(y=col("x").min().over("2h")))
        with pytest.raises(StoreError, match=r"no feature `card\.y_2h`"):
            FeatureReader(more, store).read([{"who": 7}], 5_000)


def test_a_view_may_have_more_fields_than_a_word_has_bits(tmp_path: Path, fresh_store: Fresh) -> None:
    many = {f"x{n}": (col("x") + n).max().where(col("x") > n).over("2h") for n in range(70)}
    wide = plan(FeatureSet("wide", [FeatureView("card", Entity("card", "who"), TX, many)]))
    rows = [row(1, 10 * DAY - 1_000, 40), row(2, 10 * DAY + 1_000, 65)]
    with fresh_store() as store:
        upload(wide, table(rows), output=tmp_path / "up", cut=11 * DAY)
        load_upload(store, wide, tmp_path / "up", 11 * DAY)
        Materialiser(store, wide, "tx", "job").apply(stream_rows(wide, "tx", rows, since=10 * DAY))
        found = FeatureReader(wide, store).read([{"who": 7}], 10 * DAY + HOUR).row()
    assert found == {f"card.x{n}_2h": 65 + n if n < 65 else None for n in range(70)}


def test_bad_requests_and_files_are_refused(tmp_path: Path, fresh_store: Fresh) -> None:
    with fresh_store() as store:
        with pytest.raises(StoreError, match="holds nothing of source `tx`"):
            read(store, 1)
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", [row(1, 1_000)]))
        reader = FeatureReader(PLAN, store)
        with pytest.raises(InputError, match="column `who` is missing"):
            reader.read([{"card": 7}], 1)
        with pytest.raises(InputError, match="is not of type `Int64`"):
            reader.read([{"who": "7"}], 1)
        with pytest.raises(InputError, match="no rows"):
            reader.read([], 1)
        with pytest.raises(InputError, match="is no upload"):
            load_upload(store, PLAN, tmp_path, 0)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_text("this is no database, and long enough to be seen as none")
    with pytest.raises(StoreError, match="failed"):
        SqliteStore(tmp_path / "x.sqlite")


def uploaded(folder: Path) -> Path:
    upload(PLAN, table([row(n, n * HOUR, who=n % 5) for n in range(1, 400)]), output=folder, cut=10 * DAY)
    return folder


def lose_a_part(folder: Path) -> None:
    next((folder / "card").glob("*.parquet")).unlink()


def lose_the_view(folder: Path) -> None:
    shutil.rmtree(folder / "card")


def empty_a_part(folder: Path) -> None:
    part = next((folder / "card").glob("*.parquet"))
    pq.write_table(pq.read_table(part).slice(0, 0), part)


def add_a_part(folder: Path) -> None:
    part = next((folder / "card").glob("*.parquet"))
    shutil.copy(part, folder / "card" / "part-999999.parquet")


def manifest_with(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "_manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


SPOILT: dict[str, Callable[[Path], None]] = {
    "a part lost": lose_a_part,
    "a view lost": lose_the_view,
    "a part emptied": empty_a_part,
    "a part too much": add_a_part,
    "no sources": manifest_with(sources={}),
    "sources of another kind": manifest_with(sources=[1]),
    "an earlier batch_end": manifest_with(sources={"tx": {"cut": 10 * DAY, "batch_end": 2 * DAY}}),
    "half a batch_end": manifest_with(sources={"tx": {"cut": 10 * DAY, "batch_end": 1.5}}),
    "a cut that is text": manifest_with(sources={"tx": {"cut": "abc", "batch_end": 9 * DAY}}),
    "no views": manifest_with(views=None),
    "no fingerprints": manifest_with(fingerprints=None),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_upload_is_refused_and_leaves_nothing(how: str, tmp_path: Path, fresh_store: Fresh) -> None:
    folder = uploaded(tmp_path / "up")
    SPOILT[how](folder)
    with fresh_store() as store:
        with pytest.raises(InputError, match="upload"):
            load_upload(store, PLAN, folder, 11 * DAY)
        assert (store.generations(), store.pointer("tx"), store.flips("tx")) == ([], None, [])
        assert store.held("card", [entity_key([who]) for who in range(5)]) == {"closed": 0, "open": 0}


def test_what_was_superseded_long_ago_is_dropped(fresh_store: Fresh, tmp_path: Path) -> None:
    #   minute:   0    5          16
    #   reads:    |-1--|----2-----|--3--       at 16, 1 was superseded 11 minutes ago, 2 just now; the grace is 10
    folder = uploaded(tmp_path / "up")
    with fresh_store() as store:
        for minute, held in ((0, [1]), (5, [1, 2]), (16, [2, 3])):
            load_upload(store, PLAN, folder, minute * 60_000)
            assert store.generations() == held
        abandoned = store.new_generation()  # of an uploader that is at work, or was
        store.put_content("closed", str(abandoned), "card", ViewContent(Layout(())))
        load_upload(store, PLAN, folder, 16 * 60_000 + 2, grace=1)
        assert store.generations() == [3, 4, 5]
        load_upload(store, PLAN, folder, 17 * 60_000, grace=0)
        assert store.generations() == [4, 5, 6]
        assert [each.generation for each in store.flips("tx")] == [1, 2, 3, 5, 6]
        assert store.held("card", [entity_key([1])]) == {"closed": 2, "open": 0}


def test_a_reader_keeps_no_programs_of_generations_that_are_not_read_any_more(
    fresh_store: Fresh, tmp_path: Path
) -> None:
    folder = uploaded(tmp_path / "up")
    with fresh_store() as store:
        reader = FeatureReader(PLAN, store)
        for day in range(5):
            load_upload(store, PLAN, folder, day * DAY)
            assert reader.read([{"who": 1}], 10 * DAY).pointers["tx"].generation == day + 1
        gc.collect()
        held = [each for each in gc.get_objects() if type(each) is Program and each.view is PLAN.view("card")]
        assert len(held) == len(PLAN.reads)


def test_a_generation_that_another_source_reads_is_kept(fresh_store: Fresh, tmp_path: Path) -> None:
    with fresh_store() as store:
        load_upload(store, PLAN, uploaded(tmp_path / "up"), 0)
        store.flip(1, {"other": (0, 0)}, 0)
        for minute in (1, 60, 120):
            load_upload(store, PLAN, tmp_path / "up", minute * 60_000)
        assert store.generations() == [1, 3, 4]


def test_what_a_killed_upload_left_is_dropped_in_the_end(fresh_store: Fresh, tmp_path: Path) -> None:
    with fresh_store() as store:
        load_upload(store, PLAN, uploaded(tmp_path / "up"), 0)
        killed = store.new_generation()
        store.put_content("closed", str(killed), "card", ViewContent(closed_layout(PLAN.view("card"))))
        store.put_closed(killed, "card", [(b"killed", b"record")])
        for day in (1, 2):  # the second might be under way still
            load_upload(store, PLAN, tmp_path / "up", day * DAY)
            assert killed in store.generations()
        load_upload(store, PLAN, tmp_path / "up", 3 * DAY)
        assert killed not in store.generations()
        assert store.held("card", [b"killed"])["closed"] == 0


def test_uploaders_at_once_have_generations_of_their_own(fresh_store: Fresh) -> None:
    with fresh_store() as store:
        assert [store.new_generation() for _ in range(3)] == [1, 2, 3]


def test_a_job_may_write_before_it_is_read(fresh_store: Fresh) -> None:
    rows = [row(1, 1_000), row(2, 2_000, 10)]
    with fresh_store() as store:
        Materialiser(store, PLAN, "tx", "old").apply(stream_rows(PLAN, "tx", rows[:1]))
        writer = Materialiser(store, PLAN, "tx", "new", flip=False)
        writer.apply(stream_rows(PLAN, "tx", rows))
        assert read(store, 10_000)["card.n_2h"] == 1
        store.start_epoch("tx", "new")
        assert read(store, 10_000)["card.n_2h"] == 2
        assert (store.written("old").applied, store.written("new").applied, writer.applied.events) == (1, 2, 2)


def test_a_replaced_job_writes_nothing_any_more(fresh_store: Fresh) -> None:
    rows = [row(1, 1_000), row(2, 2_000, 10)]
    with fresh_store() as store:
        zombie = Materialiser(store, PLAN, "tx", "old")
        zombie.apply(stream_rows(PLAN, "tx", rows[:1]))
        Materialiser(store, PLAN, "tx", "new").apply(stream_rows(PLAN, "tx", rows))
        store.drop_epoch("old")
        zombie.apply(stream_rows(PLAN, "tx", rows))
        assert store.open_records("old", "card", [entity_key([row(1, 1_000)["who"]])]) == [b""]
        assert (store.written("old").applied, store.written("new").applied) == (0, 2)
        assert read(store, 10_000)["card.n_2h"] == 2


def test_jobs_are_kept_by_epoch(fresh_store: Fresh) -> None:
    job = {"source": "tx", "set": "cards", "views": {"card": "é"}, "starts": {"0": 17}, "since": -5, "state": "running"}
    with fresh_store() as store:
        assert store.jobs() == {}
        store.put_job("tx-2", job)
        store.put_job("tx-1", job | {"state": "stopped"})
        store.put_job("tx-2", job | {"state": "replaced"})
        assert store.jobs() == {"tx-1": job | {"state": "stopped"}, "tx-2": job | {"state": "replaced"}}


def test_a_flip_is_of_all_sources_or_none(fresh_store: Fresh) -> None:
    with fresh_store() as store:
        store.flip(1, {"a": (5, 3), "b": (5, 4)}, 6)
        with pytest.raises(StoreError, match="batch_end `3` of source `b` is before the store's `4`"):
            store.flip(2, {"a": (9, 8), "b": (4, 3)}, 7)
        assert (store.pointer("a"), store.pointer("b")) == (Pointer(1, "", 5, 3), Pointer(1, "", 5, 4))
        assert store.flips("a") == [Flip("a", 1, 5, 3, 6)]


def test_an_upload_that_comes_too_late_leaves_nothing(tmp_path: Path, fresh_store: Fresh) -> None:
    old = uploaded(tmp_path / "old")
    upload(PLAN, table([row(1, DAY)]), output=tmp_path / "new", cut=20 * DAY)
    with fresh_store() as store:
        load_upload(store, PLAN, tmp_path / "new", 21 * DAY)
        with pytest.raises(StoreError, match="upload a newer archive"):
            load_upload(store, PLAN, old, 22 * DAY)
        assert store.generations() == [1]


DAMAGE = {
    "a closed record": "UPDATE closed SET record = randomblob(length(record))",
    "a closed record cut off": "UPDATE closed SET record = substr(record, 1, length(record) - 9)",
    "a record of text": "UPDATE closed SET record = 'x'",
    "an open record": "UPDATE open SET record = randomblob(length(record))",
    "a layout": "UPDATE content SET layout = '[1'",
    "features": "UPDATE content SET features = '7'",
    "a pointer": "UPDATE pointer SET batch_end = 'abc'",
    "the format": "PRAGMA user_version = 99",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_store_is_an_error_of_one_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with SqliteStore(path) as store:
        load_upload(store, PLAN, uploaded(tmp_path / "up"), 11 * DAY)
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", [row(1000, 9 * DAY + HOUR, who=1)]))
        assert read(store, 9 * DAY + HOUR + 1, 1)["card.n_2h"] > 0
        store.connection.execute(DAMAGE[what])
    with pytest.raises(StoreError, match="build it anew"), SqliteStore(path) as store:
        read(store, 9 * DAY + HOUR + 1, 1)


def test_a_locked_file_may_be_free_later(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "store.sqlite") as one, SqliteStore(tmp_path / "store.sqlite") as other:
        other.connection.execute("PRAGMA busy_timeout = 10")
        with one.batch(), pytest.raises(StoreDown, match="`database is locked`; try again"):
            other.start_epoch("tx", "job")
        other.start_epoch("tx", "job")


def test_a_full_disk_may_have_room_later(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "store.sqlite") as store:
        generation = store.new_generation()
        (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
        store.connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLite then fails as where a disk is full
        records = [(b"%d" % n, b"x" * 1_000) for n in range(100)]
        with pytest.raises(StoreDown, match="`database or disk is full`; try again"):
            store.put_closed(generation, "card", records)
        assert store.held("card", [b"1"])["closed"] == 0
        store.connection.execute(f"PRAGMA max_page_count = {pages + 1_000}")
        store.put_closed(generation, "card", records)
        assert store.held("card", [b"1"])["closed"] == 1


def test_offsets_advance_from_where_they_are(fresh_store: Callable[[], Store]) -> None:
    store = fresh_store()
    assert store.advance("rows", {0: (0, 5), 1: (0, 7)})
    assert store.offsets("rows") == {0: 5, 1: 7}
    assert store.advance("rows", {0: (0, 5)}), "sent again"
    assert store.advance("rows", {0: (5, 9)})
    assert not store.advance("rows", {0: (5, 12), 1: (7, 8)}), "another was there, or the store came back as it was"
    assert store.offsets("rows") == {0: 9, 1: 7}
    store.put_job("one", {"topics": {"v": "rows"}})
    store.drop_epoch("one")
    assert store.offsets("rows") == {}
