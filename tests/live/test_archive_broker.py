"""Archiver, producer and quarantine with a real broker, as processes of their own that are killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import uuid
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from tests.live.archive_world import DAY, NOW, definitions, places, planned, quarantine_of, rows_of, source_of, value
from unskew.online.live.archiver import Archiver
from unskew.online.live.broker import Broker
from unskew.online.live.fates import ApartCounts, take_account
from unskew.online.live.jobs import FATES, Job
from unskew.online.live.outbox import OPTIONS, Message
from unskew.online.live.quarantine import Quarantined, replay, replayed, summary
from unskew.online.live.replay import KEPT, Disturbance, Tempo, arriving, disturbed, paced, produce
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topic_reader import TopicReader
from unskew.online.live.topics import make_topics, sequence
from unskew.online.store import Changed
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines.archive import belied, cut_of, last_commits
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.plan import SourcePlan

PARTITIONS = 2


@pytest.fixture(scope="module")
def settings(broker: Broker) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=broker.address, partitions=PARTITIONS)


@pytest.fixture
def topic(settings: KafkaSettings) -> str:
    name = f"archive-{uuid.uuid4().hex[:8]}"
    make_topics(settings, {name: PARTITIONS}, {**KEPT, "max.message.bytes": str(8 << 20)})
    return name


@pytest.fixture
def admin(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(**settings.client())
    yield client
    client.close()


def send(settings: KafkaSettings, topic: str, values: list[bytes], first: int = 0) -> None:
    found = (Message(NOW + n, str(n % 50).encode(), each) for n, each in enumerate(values, first))
    assert produce(settings, topic, found).messages == len(values)


def once(settings: KafkaSettings, source: SourcePlan, archive: Path) -> list[str]:
    said: list[str] = []
    reader = TopicReader(settings, source.topic)
    try:
        running = Archiver(source, reader, archive, report=said.append)
        try:
            running.run(Event(), once=True)
        finally:
            running.close()
    finally:
        reader.close()
    return said


def all_of(settings: KafkaSettings, topic: str, partitions: int = PARTITIONS) -> list[tuple[int, int]]:
    reader = TopicReader(settings, topic)
    bounds = reader.bounds(range(partitions))
    reader.close()
    return [(each, offset) for each, (first, end) in bounds.items() for offset in range(first, end)]


@pytest.fixture
def command(tmp_path: Path, settings: KafkaSettings, topic: str) -> Callable[..., subprocess.Popen[str]]:
    """Return what starts `unskew` on the topic's source."""
    (tmp_path / "defs.py").write_text(definitions(topic, tmp_path / "archive"))
    environment = {
        **os.environ,
        "UNSKEW_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "UNSKEW_KAFKA_PARTITIONS": "3",
    }

    def start(name: str, *more: str) -> subprocess.Popen[str]:
        words = [
            sys.executable,
            "-m",
            "unskew.pipelines.cli",
            *name.split(),
            "--defs",
            str(tmp_path / "defs.py"),
            *more,
        ]
        return subprocess.Popen(
            words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
        )

    return start


def test_kills_at_any_moment_lose_and_repeat_nothing(
    tmp_path: Path, settings: KafkaSettings, topic: str, command: Callable[..., subprocess.Popen[str]]
) -> None:
    rng, archive = np.random.default_rng(5), tmp_path / "archive"
    for turn in range(6):
        send(
            settings,
            topic,
            [value(n) if n % 20 else b"bad" for n in range(turn * 3_000, turn * 3_000 + 3_000)],
            turn * 3_000,
        )
        process = command("archive", "--rows", "150", "--every", "200ms")
        before = len(list(archive.rglob("*.parquet")))
        while len(list(archive.rglob("*.parquet"))) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.random() / 2)
        process.kill()
        process.communicate()
        found = places(archive)
        assert len(found) == len(set(found)), turn
    done = command("archive", "--once")
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors
    assert places(archive) == all_of(settings, topic)
    assert Counter(each["reason"] for each in quarantine_of(archive)) == {"malformed": 900}
    assert command("archive", "--compact").wait(60) == 0
    assert places(archive) == all_of(settings, topic)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_writes_what_it_has(
    sign: signal.Signals,
    tmp_path: Path,
    settings: KafkaSettings,
    topic: str,
    command: Callable[..., subprocess.Popen[str]],
) -> None:
    send(settings, topic, [value(n) for n in range(500)])
    process = command("archive", "--every", "1h")
    seen = tmp_path / "archive" / "_commits"
    while len(list(seen.glob(".*.lock"))) < PARTITIONS:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(3)
    assert not list(tmp_path.rglob("*.parquet"))
    process.send_signal(sign)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "accepted" in out
    assert places(tmp_path / "archive") == all_of(settings, topic)


def test_what_happens_to_a_topic(tmp_path: Path, settings: KafkaSettings, topic: str, admin: KafkaAdminClient) -> None:
    source = source_of(topic)
    send(settings, topic, [value(n) for n in range(200)])
    assert not once(settings, source, tmp_path)
    cut = cut_of(tmp_path)
    assert abs(cut + 60_000 - time.time() * 1_000) < 60_000  # both ends were seen just now
    send(settings, topic, [value(n) for n in range(200, 400)], 200)
    ends = {each: last_commits(tmp_path)[topic, each].last for each in range(PARTITIONS)}
    admin.delete_records({TopicPartition(topic, each): last + 11 for each, last in ends.items()})
    said = once(settings, source, tmp_path)
    gaps, alarms = said[:PARTITIONS], said[PARTITIONS:]
    assert len(alarms) == PARTITIONS  # for the messages are older than when the ends were seen
    assert all(each.endswith("run `unskew upload` again") for each in alarms)
    assert NOW <= (belied(tmp_path, cut) or 0) < cut
    assert [each.split(": ", 1)[1] for each in gaps] == [
        f"offsets {last + 1} to {last + 10} are not there: deleted by the broker" for last in ends.values()
    ]
    assert len(places(tmp_path)) == 400 - 10 * PARTITIONS
    admin.create_partitions({topic: 3})
    time.sleep(1)
    send(settings, topic, [value(n) for n in range(400, 700)], 400)
    assert not [each for each in once(settings, source, tmp_path) if "offsets" in each]
    assert {partition for partition, _ in places(tmp_path)} == {0, 1, 2}
    admin.delete_topics([topic])
    with pytest.raises(InputError, match=f"topic `{topic}` is not on"):
        once(settings, source, tmp_path)
    make_topics(settings, {topic: 3}, KEPT)
    with pytest.raises(InputError, match="it was made again, or this is another broker"):
        once(settings, source, tmp_path)


def test_a_message_of_megabytes(tmp_path: Path, settings: KafkaSettings, topic: str) -> None:
    send(settings, topic, [value(0, shop="x" * 5_000_000), b"{" + b"x" * 5_000_000, *[value(n) for n in range(1, 50)]])
    once(settings, source_of(topic), tmp_path)
    assert max(len(each) for each in rows_of(tmp_path)["shop"].to_pylist()) == 5_000_000
    assert [len(each["raw"]) for each in quarantine_of(tmp_path)] == [5_000_001]
    assert places(tmp_path) == all_of(settings, topic)


def test_a_log_is_replayed_as_it_was(
    tmp_path: Path, settings: KafkaSettings, command: Callable[..., subprocess.Popen[str]]
) -> None:
    new = f"replay-{uuid.uuid4().hex[:8]}"
    (tmp_path / "defs.py").write_text(definitions(new, tmp_path / "archive"))
    arrivals = [NOW + (n * 7) % 500 for n in range(500)]
    instant = pa.timestamp("ms", "UTC")
    pq.write_table(pa.table({
        "id": list(range(500)), "ts": pa.array([each - 1 for each in arrivals], instant), "at": pa.array(arrivals, instant),
        "card": [n % 11 for n in range(500)], "amount": pa.array([n / 4 for n in range(500)]).cast(pa.decimal128(12, 2)),
        "score": [0.5 if n % 3 else None for n in range(500)], "shop": ["é"] * 500,
    }), tmp_path / "log.parquet")  # fmt: skip
    process = command("replay", str(tmp_path / "log.parquet"), "--json")
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(out)["made"] and json.loads(out)["messages"] == 500
    consumer = KafkaConsumer(**settings.client(), auto_offset_reset="earliest", consumer_timeout_ms=3_000)
    consumer.assign([TopicPartition(new, each) for each in range(3)])
    found = list(consumer)
    consumer.close()
    assert sorted(each.timestamp for each in found) == sorted(arrivals)
    of_card = defaultdict(set)
    for each in found:
        of_card[each.key].add(each.partition)
        assert each.key.decode() == str(json.loads(each.value)["card"])
    assert len(of_card) == 11 and all(len(each) == 1 for each in of_card.values())
    once(settings, source_of(new), tmp_path / "archive")
    rows = sorted(rows_of(tmp_path / "archive").to_pylist(), key=lambda row: row["id"])
    assert [{name: row[name] for name in row if not name.startswith("_")} for row in rows] == pq.read_table(
        tmp_path / "log.parquet"
    ).to_pylist()


def test_lines_are_replayed_now(
    tmp_path: Path, settings: KafkaSettings, topic: str, command: Callable[..., subprocess.Popen[str]]
) -> None:
    lines = [value(n, ts=NOW + n * 10, at=NOW + n * 10 + 5) for n in range(300)]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([*lines, b"not json"]) + b"\n")
    begun = time.time() * 1_000
    process = command(
        "replay",
        str(tmp_path / "log.jsonl"),
        "--now",
        "--duplicates",
        "0.1",
        "--late",
        "0.1",
        "--speed",
        "2",
        "--disorder",
        "50ms",
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert time.time() * 1_000 - begun > 1_500
    once(settings, source_of(topic), tmp_path / "archive")
    rows = rows_of(tmp_path / "archive").to_pylist()
    copies = Counter((each["id"], each["ts"]) for each in rows)
    assert len(copies) == 300 and len(rows) > 310
    lags = [(each["at"] - each["ts"]).total_seconds() for each in rows]
    assert 10 < sum(each > 86_400 for each in lags) < 60
    assert all(begun - 5 * DAY < each["ts"].timestamp() * 1_000 < time.time() * 1_000 for each in rows)
    assert [each["raw"] for each in quarantine_of(tmp_path / "archive")] == [b"not json"]


def test_the_quarantine_is_replayed_once(
    tmp_path: Path, settings: KafkaSettings, topic: str, command: Callable[..., subprocess.Popen[str]]
) -> None:
    archive = tmp_path / "archive"
    send(settings, topic, [value(0), value(1, shop=5), value(2, shop=None, amount="1.234"), b"bad"])
    once(settings, source_of(topic), archive)
    assert [(each["reason"], each["messages"]) for each in summary(archive)] == [("malformed", 1), ("wrong_type", 2)]
    (tmp_path / "defs.py").write_text(definitions(topic, archive).replace("Decimal(12, 2)", "Decimal(12, 3)"))
    for expected in ("would be produced again: 1 wrong_type", "1 messages are in the topic again", "0 messages"):
        more = ["--dry-run"] if "would" in expected else []
        out, errors = command("quarantine replay", *more).communicate(timeout=60)
        assert expected in out, errors
    assert len(replayed(archive)) == 1
    assert [each["replayed"] for each in summary(archive)] == [0, 1]
    out, _ = command("quarantine list").communicate(timeout=60)
    assert out == "2025-11-26  malformed  1\n2025-11-26  wrong_type  2, 1 of them replayed\n"
    out, _ = command("quarantine show", "--reason", "malformed", "--json").communicate(timeout=60)
    assert json.loads(out)["raw"] == "bad"
    (archive / "_quarantine" / "_replayed.jsonl").write_text('{"topic": "cut o')
    assert not replayed(archive)
    with pytest.raises(InputError, match="counts every copy"):
        replay(source_without_id(topic), archive, settings)


def test_a_replay_holds_only_what_is_on_its_way(
    tmp_path: Path, settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Quarantined]] = []
    most = 0

    def found(*_: object) -> Iterator[Quarantined]:
        nonlocal most
        for n in range(300):
            each = Quarantined((topic, n % 2, n), NOW, "malformed", value(n), None)
            alive.append(weakref.ref(each))
            most = max(most, sum(one() is not None for one in alive))
            yield each

    monkeypatch.setattr("unskew.online.live.quarantine.acceptable", found)
    monkeypatch.setitem(OPTIONS, "queue.buffering.max.kbytes", 5)
    (tmp_path / "_quarantine").mkdir()
    assert replay(source_of(topic), tmp_path, settings).messages == 300
    assert replayed(tmp_path) == {(topic, n % 2, n) for n in range(300)}
    assert most < 5


def source_without_id(topic: str) -> SourcePlan:
    return dataclasses.replace(source_of(topic), event_id=())


def test_a_broker_that_is_not_there_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unskew.online.live.topic_reader.PATIENCE", 1_000)
    with pytest.raises(EngineError, match=r"kafka at `127\.0\.0\.1:1` failed"):
        once(KafkaSettings(bootstrap_servers="127.0.0.1:1"), source_of(), tmp_path)


def test_disorder_keeps_all_messages_and_bounds_their_delay() -> None:
    log = [Message(each * 100, None, b"%d" % each) for each in range(30_000)]
    found = list(disturbed(log, Disturbance(disorder=5_000)))
    assert sorted(found) == log and found != log
    newest = 0
    for each in found:
        assert each.arrival > newest - 5_100
        newest = max(newest, each.arrival)
    twice = list(disturbed(log, Disturbance(duplicates=0.1, seed=1)))
    assert twice == list(disturbed(log, Disturbance(duplicates=0.1, seed=1)))
    assert 2_500 < len(twice) - len(log) < 3_500


def test_tempo() -> None:
    assert (Tempo().due(5_000, 9), Tempo(speed=2).due(5_000, 9), Tempo(rate=3).due(5_000, 9)) == (0, 2.5, 3)
    arrives = arriving(Tempo(speed=2), 1_000)
    assert [arrives(each, 0) for each in (500, 700, 600)] == [1_000, 1_100, 1_050]
    begun = time.monotonic()
    assert len(list(paced([Message(0, None, b"")] * 20, Tempo(rate=100)))) == 20
    assert 0.15 < time.monotonic() - begun < 5


def test_an_account_whose_fates_have_expired_says_so(
    settings: KafkaSettings, topic: str, admin: KafkaAdminClient, tmp_path: Path
) -> None:
    send(settings, topic, [b"0,late,*,*,1"] * 10)
    admin.delete_records({TopicPartition(topic, 0): 1})
    job = Job(
        "one", "tx", "live", {"card": "x"}, {"card": topic, FATES: topic}, {0: 0}, 0, "", (), "", "", "running", 0
    )
    with SqliteStore(tmp_path / "store.sqlite") as store, pytest.raises(EngineError, match="gone by its retention"):
        take_account(planned(), job, store, settings, 10)


def test_fates_are_counted_once_and_read_once(settings: KafkaSettings, topic: str, admin: KafkaAdminClient) -> None:
    counts = ApartCounts(planned(), of_fates(topic), settings)
    late = [b"0,late,*,*,%d" % sequence(n % 2, n) for n in range(0, 200_000, 100)]
    wrong = [b"0,quarantined,malformed,*,7", b"0,skipped,*,card,7", b"0,skipped,*,shop,7"]
    send(settings, topic, [*late, *wrong, *late])
    expected = {"late": 2_000, "quarantined": 1, "skipped": 2}, {"malformed": 1}, {"card": 1, "shop": 1}
    assert counts.read() == expected
    admin.delete_records({TopicPartition(topic, each): -1 for each in range(PARTITIONS)})  # all that was read
    send(settings, topic, [*late, *wrong, b"0,late,*,*,%d" % sequence(2, 0)])
    assert counts.read() == ({**expected[0], "late": 2_001}, *expected[1:])
    with pytest.raises(EngineError, match="gone by its retention"):
        ApartCounts(planned(), of_fates(topic), settings).read()


def test_fates_that_do_not_come_are_not_waited_for(
    settings: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unskew.online.live.fates.PATIENCE", 1.0)
    monkeypatch.setattr(KafkaConsumer, "end_offsets", lambda _, asked: dict.fromkeys(asked, 5))  # then the broker dies
    send(settings, topic, [b"0,late,*,*,1"])
    with pytest.raises(EngineError, match=r"has not sent what .* holds for 1 s; check that it runs"):
        ApartCounts(planned(), of_fates(topic), settings).read()


def of_fates(topic: str) -> Job:
    return Job("one", "tx", "live", {"card": "x"}, {FATES: topic}, {0: 0}, 0, "", (), "", "", "running", 0)


def test_an_account_names_what_an_upload_has_overtaken(settings: KafkaSettings, topic: str, tmp_path: Path) -> None:
    send(settings, topic, [b"0,late,*,*,1"])
    views = {"card": "x", "shop": "y"}
    job = Job("one", "tx", "live", views, {FATES: topic}, {0: 0}, 0, "", (), "", "", "running", 0)
    with SqliteStore(tmp_path / "store.sqlite") as store:
        store.update_open("one", "card", [b"1"], lambda *_: Changed([b""], [0], [7], [0]))
        store.update_open("one", "shop", [b"1"], lambda *_: Changed([b""], [0], [5], [2]))
        found = take_account(planned(), job, store, settings, 10)
        assert (found.applied, found.late, found.duplicates, found.overtaken) == (7, 1, 2, 2)
