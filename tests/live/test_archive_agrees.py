"""What the archiver quarantines, calls late and keeps is what the Flink job leaves out, calls late and keeps, message by message."""

import uuid
from pathlib import Path
from threading import Event

from kafka import KafkaProducer

from tests.live.archive_world import DAY, NOW, planned, quarantine_of, rows_of, value
from tests.odd_lines import ODD_LINES, ODD_VALUES
from unskew.online.changelog import read_messages
from unskew.online.flink_process import execute
from unskew.online.live.archiver import Archiver
from unskew.online.live.broker import Broker
from unskew.online.live.fates import new_values
from unskew.online.live.jars import connector_jar
from unskew.online.live.jobs import FATES
from unskew.online.live.outbox import Message
from unskew.online.live.replay import KEPT, produce
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topic_reader import TopicReader
from unskew.online.live.topics import make_topics, position
from unskew.pipelines.backends.flink import compile_job, job_streams
from unskew.pipelines.backends.flink_ends import Topics


def log() -> list[Message]:
    odd = [
        *ODD_LINES,
        b'\n{"ts":1,"id":1}',
        b'{\n"ts": 1,\r\n"id": 1}\n',
        b"\n",
        b"\r",
        b'{"ts":1,"id":1}\r',
        b"[" * 2_000,
    ]
    found = [Message(NOW, b"k", each) for each in odd]
    found += [
        Message(
            NOW + number,
            b"k",
            value(number).replace(b'"' + name + b'": ', b'"' + name + b'": ' + each.encode() + b', "old": '),
        )
        for number, (name, each) in enumerate(
            (name, each) for name in (b"ts", b"amount", b"card", b"shop") for each in ODD_VALUES
        )
    ]
    lags = (-DAY, -60_001, -60_000, 0, DAY, DAY + 1)
    return found + [Message(NOW + lag, None, value(5_000 + lag, ts=NOW, at="x")) for lag in lags]


def test_the_archiver_and_the_job_agree(broker: Broker, jars: Path, tmp_path: Path) -> None:
    assert jars.is_dir()
    settings, topic = KafkaSettings(bootstrap_servers=broker.address), f"agree-{uuid.uuid4().hex[:8]}"
    plan = planned(topic)
    outputs = {each: f"{topic}.{each}" for each in ("card", FATES)}
    make_topics(settings, {topic: 2} | dict.fromkeys(outputs.values(), 1), KEPT)
    produce(settings, topic, log())
    tombstones(settings, topic)
    reader = TopicReader(settings, topic)
    archiver = Archiver(plan.source("tx"), reader, tmp_path / "archive")
    totals = archiver.run(Event(), once=True)
    archiver.close()
    reader.close()
    streams = job_streams(plan, "tx", topics=True)
    write = {each.name: outputs[each.view or FATES] for each in streams}
    numbers = {each.name: number for number, each in enumerate(streams)}
    ends = Topics(topic, topic, (), write, numbers, settings.flink(), until_now=True)
    (tmp_path / "job").mkdir()
    jar = {"pipeline.jars": connector_jar().as_uri()}
    execute(compile_job(plan, "tx", ends), jar, tmp_path / "job", tmp_path / "savepoints", None)
    apart = next(each for each in streams if each.kind == "apart")
    values = [each for part in new_values(settings, outputs[FATES], {}) for each in part]
    fates = read_messages(values, apart).to_pylist()
    reasons = {position(each["seq"]): each["reason"] for each in fates if each["fate"] == "quarantined"}
    assert {
        (each["partition"], each["offset"]): each["reason"] for each in quarantine_of(tmp_path / "archive")
    } == reasons
    assert len(reasons) > 150
    late = {position(each["seq"]) for each in fates if each["fate"] == "late"}
    rows = rows_of(tmp_path / "archive").to_pylist()
    kept = {
        (each["_partition"], each["_offset"])
        for each in rows
        if (each["at"] - each["ts"]).total_seconds() > DAY / 1_000
    }
    assert kept == late and late
    assert totals.fates["late"] == len(late)
    skipped = {position(each["seq"]) for each in fates if each["view"] == "card" or each["fate"] == "filtered"}
    assert {(each["_partition"], each["_offset"]) for each in rows if each["card"] is None} - late <= skipped


def tombstones(settings: KafkaSettings, topic: str) -> None:
    producer = KafkaProducer(**settings.client())
    for key in (b"a", b"b", b"c"):
        producer.send(topic, None, key, timestamp_ms=NOW).get(timeout=30)
    producer.close()
