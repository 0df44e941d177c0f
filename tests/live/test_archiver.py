"""The archiver over a topic in memory: what it writes, where it goes on, what it refuses."""

import errno
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.live.archive_world import (
    DAY,
    NOW,
    FakeTopic,
    Record,
    places,
    quarantine_of,
    record,
    rows_of,
    source_of,
    value,
)
from unskew.online.live import archive_write, archiver
from unskew.online.live.archive_metrics import Metrics
from unskew.online.live.archiver import Archiver, Pace
from unskew.pipelines.archive import COMMITS, Commit, all_seen, belied, cut_of, hidden, last_commits
from unskew.pipelines.errors import EngineError, InputError

SOURCE = source_of()


def log(count: int, first: int = 0) -> list[Record]:
    return [record(first + each) for each in range(count)]


def once(topic: FakeTopic, archive: Path, **options: Any) -> list[str]:
    """Archive all there is; return what was reported."""
    said: list[str] = []
    found = Archiver(SOURCE, topic, archive, report=said.append, **options)  # type: ignore[arg-type]
    try:
        found.run(Event(), once=True)
    finally:
        found.close()
    return said


def all_of(topic: FakeTopic) -> list[tuple[int, int]]:
    return sorted((partition, each.offset) for partition, log in topic.logs.items() for each in log)


def test_each_message_is_in_the_archive_as_it_was_judged(tmp_path: Path) -> None:
    odd = [Record(10, NOW, None, None), Record(11, NOW, b"q", b"\xff{"), Record(12, NOW, None, value(12, amount=0.125))]
    topic = FakeTopic({0: [*log(10), *odd, record(13, shop=None, score=1)], 1: log(3)})
    once(topic, tmp_path)
    assert places(tmp_path) == all_of(topic)
    rows = {(each["_partition"], each["_offset"]): each for each in rows_of(tmp_path).to_pylist()}
    assert rows[0, 13]["score"] == 1.0 and rows[0, 13]["shop"] is None
    assert str(rows[1, 2]["amount"]) == "1.25"
    assert rows[1, 2]["at"].timestamp() * 1_000 == NOW + 1_002
    assert [(each["reason"], each["raw"], each["key"]) for each in quarantine_of(tmp_path)] == [
        ("malformed", None, None), ("malformed", b"\xff{", b"q"), ("wrong_type", odd[2].value, None),
    ]  # fmt: skip
    assert {each.parent.name for each in tmp_path.glob("date=*/*")} == {"date=2025-11-25", "date=2025-11-26"}
    assert rows_of(tmp_path).schema.field("amount").type == pa.decimal128(18, 2)
    assert rows_of(tmp_path).schema.field("ts").type == pa.timestamp("ms", "UTC")
    assert not once(topic, tmp_path) and places(tmp_path) == all_of(topic)


def test_it_goes_on_where_the_archive_ends(tmp_path: Path) -> None:
    topic = FakeTopic({0: log(250), 1: []})
    once(topic, tmp_path, pace=Pace(rows=100))
    assert [
        each.rsplit("-", 2)[1:] for each in sorted(each.stem for each in (tmp_path / "date=2025-11-26").iterdir())
    ] == [[f"{first:020d}", f"{last:020d}"] for first, last in ((0, 99), (100, 199), (200, 249))]
    topic.logs[0] += log(5, 250)
    topic.logs[1] = log(2)
    once(topic, tmp_path)
    assert places(tmp_path) == all_of(topic)
    assert {key: each.last for key, each in last_commits(tmp_path).items()} == {("tx", 0): 254, ("tx", 1): 1}


@pytest.mark.parametrize("crash", range(1, 9))
def test_a_crash_after_any_step_loses_and_repeats_nothing(
    crash: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = archive_write.steps
    topic = FakeTopic({0: [*log(50), Record(50, NOW, None, b"bad")]})
    once(topic, tmp_path)
    topic.logs[0] += [*log(50, 51), Record(101, NOW, None, b"bad")]

    class Crash(BaseException):
        """What no handler catches."""

    def cut_off(*given: Any) -> Iterator[str]:
        for number, step in enumerate(whole(*given), 1):
            yield step
            if number == crash:
                raise Crash

    monkeypatch.setattr(archive_write, "steps", cut_off)
    with pytest.raises(Crash):
        once(topic, tmp_path)
    monkeypatch.setattr(archive_write, "steps", whole)
    before = places(tmp_path)
    assert len(set(before)) == len(before)
    once(topic, tmp_path)
    assert places(tmp_path) == all_of(topic)
    assert not [each for each in tmp_path.rglob("*.part")]


def test_a_full_disk_is_one_error_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = FakeTopic({0: log(10), 1: log(10)})
    whole = pq.write_table

    def full(table: pa.Table, where: Path, **options: Any) -> None:
        if "p00001" in where.name:
            where.write_bytes(b"PAR1")
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(table, where, **options)

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device; nothing is lost"):
        once(topic, tmp_path)
    monkeypatch.setattr(pq, "write_table", whole)
    once(topic, tmp_path)
    assert places(tmp_path) == all_of(topic)


def test_missing_offsets_are_reported_and_recorded(tmp_path: Path) -> None:
    topic = FakeTopic({0: [record(each) for each in (0, 1, 4, 5, 9)]})
    said = once(topic, tmp_path)
    assert [each.split(": ", 1)[1] for each in said] == [
        "offsets 2 to 3 are not there: compacted away, or marks of transactions",
        "offsets 6 to 8 are not there: compacted away, or marks of transactions",
    ]
    topic.logs[0], topic.first = [record(each) for each in range(20, 25)], {0: 20}
    assert "offsets 10 to 19 are not there: deleted by the broker" in once(topic, tmp_path)[0]
    commit = last_commits(tmp_path)["tx", 0]
    assert (commit.first, commit.gaps) == (20, [[10, 19, "deleted by the broker"]])
    topic.logs[0] = [record(25 + each * 2) for each in range(100)]
    assert "99 of them, in 99 places" in once(topic, tmp_path)[0]
    assert len(last_commits(tmp_path)["tx", 0].gaps) == 1


def test_messages_deleted_under_a_running_archiver(tmp_path: Path) -> None:
    topic = FakeTopic({0: log(10)})
    said: list[str] = []
    running = Archiver(SOURCE, topic, tmp_path, report=said.append)  # type: ignore[arg-type]
    topic.first, topic.logs[0] = {0: 5}, log(5, 5)
    running.run(Event(), once=True)
    running.close()
    assert "offsets 0 to 4" in said[0]
    assert places(tmp_path) == [(0, each) for each in range(5, 10)]


def test_another_topic_is_refused(tmp_path: Path) -> None:
    topic = FakeTopic({0: log(10)})
    once(topic, tmp_path)
    topic.id = "two"
    with pytest.raises(InputError, match="its id is `two`, the archive's is `one`; it was made again"):
        once(topic, tmp_path)
    topic.id, topic.logs[0] = "one", log(4)
    with pytest.raises(InputError, match="partition 0 ends at offset 4, the archive at 10"):
        once(topic, tmp_path)
    topic.logs[0] = log(12)
    with pytest.raises(InputError, match="partition `3` is not one of topic `tx`; it has 0 to 0"):
        once(topic, tmp_path, partitions=[0, 3])


def test_partitions_that_are_added_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "LOOK_MS", 0)
    topic, stop = FakeTopic({0: log(3)}), Event()
    running = Archiver(SOURCE, topic, tmp_path)  # type: ignore[arg-type]
    polls = iter(range(9))

    def poll(wait: int, most: int) -> dict[int, list[Record]]:
        number = next(polls)
        if number == 2:
            topic.logs[1] = log(4)
        if number == 6:
            stop.set()
        return FakeTopic.poll(topic, wait, most)

    monkeypatch.setattr(topic, "poll", poll)
    running.run(stop)
    running.close()
    assert places(tmp_path) == all_of(topic)


def test_what_was_read_is_committed_when_the_topic_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "LOOK_MS", 0)
    topic = FakeTopic({0: log(3)})
    running = Archiver(SOURCE, topic, tmp_path)  # type: ignore[arg-type]

    def poll(wait: int, most: int) -> dict[int, list[Record]]:
        topic.id = "two"
        return FakeTopic.poll(topic, wait, most)

    monkeypatch.setattr(topic, "poll", poll)
    with pytest.raises(InputError, match="its id is `two` now"):
        running.run(Event())
    running.close()
    assert len(places(tmp_path)) == 3


def test_a_broker_that_is_down_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "LOOK_MS", 0)
    topic, stop, said = FakeTopic({0: log(3)}), Event(), list[str]()
    running = Archiver(SOURCE, topic, tmp_path, report=said.append)  # type: ignore[arg-type]
    topic.down = True
    polls = iter(range(5))
    monkeypatch.setattr(topic, "poll", lambda *_: stop.set() if next(polls) == 3 else {})
    monkeypatch.setattr(running, "take", lambda _: None)
    running.run(stop)
    assert said == ["kafka failed; what it has will be read once it does"]
    with pytest.raises(EngineError, match="kafka failed"):
        running.run(Event(), once=True)
    running.close()


def test_two_archivers_share_a_topic_but_no_partition(tmp_path: Path) -> None:
    topic = FakeTopic({0: log(3), 1: log(4)})
    running = Archiver(SOURCE, topic, tmp_path, partitions=[0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"partition 0 of archive .* is being written by process `\d+`"):
        once(topic, tmp_path)
    once(FakeTopic(topic.logs), tmp_path, partitions=[1])
    running.run(Event(), once=True)
    running.close()
    assert places(tmp_path) == all_of(topic)


def test_batches_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "MOST_BYTES", 1_000_000)
    topic = FakeTopic({each: [record(n, shop="x" * 5_000) for n in range(300)] for each in range(3)})
    once(topic, tmp_path)
    assert places(tmp_path) == all_of(topic)
    assert len(list((tmp_path / COMMITS).glob("*[0-9].json"))) > 3


def test_metrics(tmp_path: Path) -> None:
    topic = FakeTopic({0: [*log(3), Record(3, NOW, None, b"x"), Record(4, NOW + 3 * DAY, None, value(4))]})
    found = Archiver(SOURCE, topic, tmp_path, metrics=Metrics("tx", "tx", port=0))  # type: ignore[arg-type]
    found.run(Event(), once=True)
    assert found.metrics.server is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{found.metrics.server.server_port}/metrics") as answer:
        text = answer.read().decode()
    with pytest.raises(InputError, match=r"metrics cannot be served at .* choose another --metrics-port"):
        Metrics("tx", "tx", port=found.metrics.server.server_port)
    found.close()
    assert 'unskew_events_total{fate="accepted",reason="",source="tx"} 2.0' in text
    assert 'unskew_events_total{fate="late",reason="",source="tx"} 2.0' in text
    assert 'unskew_events_total{fate="quarantined",reason="malformed",source="tx"} 1.0' in text
    assert 'unskew_consumer_lag{partition="0",topic="tx"} 0.0' in text


def test_the_cut_is_the_smallest_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="has no commits"):
        cut_of(tmp_path)
    monkeypatch.setattr(archiver, "wall", lambda: NOW + 60_000)
    topic = FakeTopic({0: log(10), 1: log(3), 2: []})
    once(topic, tmp_path, partitions=[0, 1])
    with pytest.raises(InputError, match="has nothing of partition 2 of `tx`"):
        cut_of(tmp_path)
    once(topic, tmp_path)
    assert cut_of(tmp_path) == NOW  # all ends were seen a minute after `NOW`, less the slack of a minute
    for each in (tmp_path / COMMITS).glob("*p0000[01].seen.json"):
        each.unlink()
    assert cut_of(tmp_path) == NOW + 1_002 - 60_000
    commit = last_commits(tmp_path)["tx", 1]
    name = next(iter(commit.files))
    (tmp_path / name).rename(hidden(tmp_path / name))
    assert cut_of(tmp_path) == -60_000  # nothing of partition 1 can be read yet


def test_a_wild_timestamp_does_not_move_the_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "wall", lambda: NOW + 5_000)
    once(FakeTopic({0: [Record(0, NOW + 400 * DAY, None, value(0))]}), tmp_path)
    next((tmp_path / COMMITS).glob("*.seen.json")).unlink()
    assert cut_of(tmp_path) == NOW + 5_000 - 60_000


def test_seen_counts_only_for_what_came_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = FakeTopic({0: log(3)})
    monkeypatch.setattr(archiver, "wall", lambda: NOW + 600_000)
    once(topic, tmp_path)
    assert all_seen(tmp_path)["tx", 0].end == 3
    topic.logs[0] += log(1, 3)
    monkeypatch.setattr(Archiver, "see", lambda *_: None)
    once(topic, tmp_path)
    assert cut_of(tmp_path) == NOW + 1_003 - 60_000


def test_a_message_that_an_upload_may_lack_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "wall", lambda: NOW + 700_000)
    monkeypatch.setattr(Archiver, "see", lambda *_: None)
    topic = FakeTopic({0: [*log(3), Record(3, NOW + 641_000, None, value(3))]})
    assert once(topic, tmp_path, partitions=[0]) == []
    published = cut_of(tmp_path)
    assert published == NOW + 641_000 - 60_000
    topic.logs[0] += [Record(4, published, None, value(4)), Record(5, NOW, None, b"malformed")]
    assert once(topic, tmp_path) == []  # no event is older than the cut
    topic.logs[0] += [Record(6, published - 1, None, value(6)), Record(7, NOW + 699_000, None, value(7))]
    (said,) = once(topic, tmp_path)
    assert f"has a message that arrived at {published - 1}" in said and said.endswith("run `unskew upload` again")
    assert belied(tmp_path, published) == published - 1
    assert belied(tmp_path, published - 1) is None  # that upload leaves it to the next one
    topic.logs[0] += [Record(8, NOW + 699_500, None, value(8))]
    assert once(topic, tmp_path) == []
    assert cut_of(tmp_path) > published and belied(tmp_path, cut_of(tmp_path)) is None  # an upload has it now


def test_commits_of_older_archivers_are_read(tmp_path: Path) -> None:
    once(FakeTopic({0: log(3)}), tmp_path)
    commit = last_commits(tmp_path)["tx", 0]
    path = tmp_path / commit.path
    older = json.loads(path.read_text())
    del older["early"]
    path.write_text(json.dumps(older))
    assert last_commits(tmp_path)["tx", 0] == commit


def test_a_commit_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    once(FakeTopic({0: log(3)}), tmp_path)
    path = tmp_path / last_commits(tmp_path)["tx", 0].path
    path.write_text("{}")
    with pytest.raises(InputError, match="cannot be read; restore it from a backup"):
        cut_of(tmp_path)


def test_a_file_of_the_last_commit_that_is_gone_is_named(tmp_path: Path) -> None:
    topic = FakeTopic({0: log(3)})
    once(topic, tmp_path)
    commit: Commit = last_commits(tmp_path)["tx", 0]
    (tmp_path / next(iter(commit.files))).unlink()
    with pytest.raises(InputError, match=r"has lost `date=.*` of its last commit"):
        once(topic, tmp_path)
