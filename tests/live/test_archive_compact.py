"""Compaction: the same rows in the same order in fewer files, whatever cuts it off; and what readers see meanwhile."""

from collections.abc import Iterator
from itertools import count as numbers
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.live.archive_world import (
    NOW,
    FakeTopic,
    Record,
    feature_set,
    places,
    quarantine_of,
    record,
    rows_of,
    source_of,
    value,
)
from unskew.backfill.erase_messages import QuarantinePlace, quarantines
from unskew.backfill.erasure import ParquetPlace, archives
from unskew.backfill.events import open_events
from unskew.backfill.frames import parquet_files
from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.online.live import archive_compact
from unskew.online.live.archive_compact import compact_archive
from unskew.online.live.archiver import Archiver, Pace
from unskew.pipelines import folders
from unskew.pipelines.archive import Span, commits_of, cut_of, last_commits, read_commit, uncovered
from unskew.pipelines.commands.online import parse_cell
from unskew.pipelines.durable import leftovers
from unskew.pipelines.erasure import subject
from unskew.pipelines.folders import read_files
from unskew.pipelines.planner import plan

SOURCE = source_of()


def filled(archive: Path, count: int = 1_000) -> FakeTopic:
    log = [record(each) if each % 50 else Record(each, NOW, None, b"bad") for each in range(count)]
    topic = FakeTopic({0: log, 1: [record(each) for each in range(250)]})
    once(topic, archive)
    return topic


def once(topic: FakeTopic, archive: Path) -> None:
    found = Archiver(SOURCE, topic, archive, pace=Pace(rows=100))  # type: ignore[arg-type]
    found.run(Event(), once=True)
    found.close()


def test_rows_and_their_order_stay(tmp_path: Path) -> None:
    topic = filled(tmp_path)
    before, files = rows_of(tmp_path), len(parquet_files(tmp_path))
    assert [each["_offset"] for each in before.to_pylist()] != sorted(before["_offset"].to_pylist())  # two days
    assert compact_archive(tmp_path, "tx") > 0
    assert rows_of(tmp_path).equals(before)
    assert len(parquet_files(tmp_path)) == 4 < files
    assert len(commits_of(tmp_path, "tx", 0)) == 2
    assert compact_archive(tmp_path, "tx") == 0
    topic.logs[0] += [record(each) for each in range(1_000, 1_100)]
    once(topic, tmp_path)
    assert len(places(tmp_path)) == 1_350
    folded, _, _ = (read_commit(each) for each in commits_of(tmp_path, "tx", 0))
    assert (folded.first, folded.last) == (0, 899)


@pytest.mark.parametrize("crash", range(1, 26, 3))
def test_a_crash_after_any_step_hides_and_repeats_nothing(
    crash: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = filled(tmp_path, 400)
    before, whole, number = rows_of(tmp_path), archive_compact.steps, 0

    class Crash(BaseException):
        """What no handler catches."""

    def cut_off(group: Any) -> Iterator[str]:
        nonlocal number
        for step in whole(group):
            yield step
            number += 1
            if number == crash:
                raise Crash

    monkeypatch.setattr(archive_compact, "steps", cut_off)
    try:
        compact_archive(tmp_path, "tx")
        pytest.skip("it has fewer steps")
    except Crash:
        pass
    assert rows_of(tmp_path).equals(before)
    monkeypatch.setattr(archive_compact, "steps", whole)
    once(topic, tmp_path)
    assert rows_of(tmp_path).equals(before)
    compact_archive(tmp_path, "tx")
    assert rows_of(tmp_path).equals(before)
    assert not list(tmp_path.rglob("*.part"))


def test_a_reader_that_has_listed_the_files_reads_on(tmp_path: Path) -> None:
    filled(tmp_path)
    pieces = open_events(SOURCE, tmp_path)
    before = pa.concat_tables([each.read(["id"]) for each in pieces])
    compact_archive(tmp_path, "tx")
    assert pa.concat_tables([each.read(["id"]) for each in pieces]).equals(before)
    assert sum(each.rows() for each in pieces) == before.num_rows
    assert list(leftovers(tmp_path))  # which erasure deletes


@pytest.mark.parametrize("overlooked", [0, 1])
def test_a_listing_that_overlooks_a_file_in_the_middle_of_a_compaction_loses_nothing(
    overlooked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    before = read_files(tmp_path).sort_by("id")
    listings = numbers()
    sound = folders.visible

    def listed(folder: Path) -> list[Path]:
        number = next(listings)
        if number == 1:
            compact_archive(tmp_path, "tx")
        return [] if number == overlooked else sound(folder)

    monkeypatch.setattr(folders, "visible", listed)
    assert read_files(tmp_path).sort_by("id").equals(before)
    assert next(listings) == 2


def test_old_leftovers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = filled(tmp_path)
    compact_archive(tmp_path, "tx")
    monkeypatch.setattr(archive_compact, "KEPT", -1)
    topic.logs[0] += [record(each) for each in range(1_000, 1_010)]
    once(topic, tmp_path)
    compact_archive(tmp_path, "tx")
    assert not [each for each in leftovers(tmp_path) if "p00000" in each.name and "_quarantine" not in str(each)]


def test_files_of_other_columns_stay_apart(tmp_path: Path) -> None:
    filled(tmp_path, 300)
    odd = sorted((tmp_path / "date=2025-11-26").glob("*p00000*"))[1]
    pq.write_table(
        pq.read_table(odd, partitioning=None).append_column("more", pa.array([1] * pq.read_metadata(odd).num_rows)), odd
    )
    compact_archive(tmp_path, "tx")
    assert len(list((tmp_path / "date=2025-11-26").glob("*p00000*"))) == 3


def test_a_running_archiver_compacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_compact, "MANY", 4)
    topic = filled(tmp_path, 3_000)
    assert len(places(tmp_path)) == sum(map(len, topic.logs.values()))
    assert len(parquet_files(tmp_path)) < 20


def test_what_covers_another_is_read_instead() -> None:
    def path(first: int, last: int, partition: int = 0, folder: str = "d") -> Path:
        return Path(folder) / Span("t-p00001-x", partition, first, last).name

    files = [
        path(0, 9),
        path(0, 99),
        path(10, 19),
        path(20, 99),
        path(100, 120),
        path(0, 9, 1),
        path(0, 9, 0, "e"),
        Path("d/x.parquet"),
    ]
    assert list(uncovered(files)) == [
        path(0, 99),
        path(100, 120),
        path(0, 9, 1),
        path(0, 9, 0, "e"),
        Path("d/x.parquet"),
    ]


def test_the_first_copy_is_by_arrival_partition_offset(tmp_path: Path) -> None:
    """Two copies of one identity with one arrival: the partition decides, then the offset."""

    def copy(offset: int, arrival: int, amount: str) -> Record:
        return Record(
            offset, NOW + arrival, None, value(0, id=offset if offset > 90 else 1, ts=NOW, card=7, amount=amount)
        )

    topic = FakeTopic({
        0: [copy(0, 2_000, "5"), copy(1, 1_000, "1"), copy(2, 1_000, "6")],
        1: [copy(0, 1_000, "7"), copy(91, 90_000, "0")],
    })  # fmt: skip
    once(topic, tmp_path)
    for _ in range(2):
        found = backfill(feature_set(), tmp_path, pa.table({"card": [7], "t": [NOW + 60_000]}))
        assert found.to_pylist() == [{"card": 7, "t": NOW + 60_000, "card.n_1h": 2, "card.sum_1h": 1.0}]
        compact_archive(tmp_path, "tx")


def test_an_entity_is_erased_from_rows_quarantine_and_leftovers(tmp_path: Path) -> None:
    bad = [b'{"card": 3', b'{"card": 33', b"card=3", value(5, card=3, amount=0.001), value(6, card=4, amount=0.001)]
    topic = FakeTopic(
        {0: [*(record(each) for each in range(300)), *(Record(300 + n, NOW, None, each) for n, each in enumerate(bad))]}
    )
    topic.logs[0].append(Record(305, NOW, b"3", b"?"))
    once(topic, tmp_path)
    compact_archive(tmp_path, "tx")
    who = subject(plan(feature_set()), {"card": "3"}, parse_cell)
    places_of: list[ParquetPlace | QuarantinePlace] = [*archives(who, tmp_path), *quarantines(who, tmp_path)]
    assert [sum(each.find().values()) for each in places_of] == [43, 4]
    for each in places_of:
        each.erase()
    assert [sum(each.find().values()) for each in places_of] == [0, 0]
    assert not list(leftovers(tmp_path))
    assert [each["raw"] for each in quarantine_of(tmp_path)] == [bad[1], bad[4]]
    once(topic, tmp_path)
    assert len(places(tmp_path)) == 306 - 47


def test_an_upload_takes_its_cut_from_the_commits(tmp_path: Path) -> None:
    filled(tmp_path / "archive")
    found = upload(feature_set(), tmp_path / "archive", output=tmp_path / "upload")
    assert found["sources"]["tx"]["cut"] == cut_of(tmp_path / "archive")
    assert last_commits(tmp_path / "archive")
