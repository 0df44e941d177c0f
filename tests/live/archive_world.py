"""A source, messages of it, a topic that is a list, and what an archive holds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.online.live.topic_reader import OutOfReachError, Topic
from unskew.pipelines import (
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Float,
    Int64,
    String,
    Timestamp,
    col,
    count,
)
from unskew.pipelines.archive import QUARANTINE
from unskew.pipelines.errors import EngineError
from unskew.pipelines.folders import read_files
from unskew.pipelines.plan import SetPlan, SourcePlan
from unskew.pipelines.planner import plan

NOW, DAY = 1_764_150_000_000, 86_400_000
SCHEMA = {
    "id": Int64, "ts": Timestamp, "at": Timestamp, "card": Int64, "amount": Decimal(12, 2), "score": Float(0, 1), "shop": String,
}  # fmt: skip


def feature_set(topic: str = "tx", archive: str = "archive") -> FeatureSet:
    source = EventSource("tx", SCHEMA, event_time="ts", event_id="id", arrival="at", topic=topic, archive=archive)
    view = FeatureView(
        "card", Entity("card", "card"), source, {"n": count().over("1h"), "sum": col("amount").sum().over("1h")}
    )
    return FeatureSet("live", [view])


def planned(topic: str = "tx") -> SetPlan:
    return plan(feature_set(topic))


def source_of(topic: str = "tx") -> SourcePlan:
    return planned(topic).source("tx")


def definitions(topic: str, archive: Path) -> str:
    """Return a file of definitions of the same set."""
    return (
        "from unskew.pipelines import *\n"
        'tx = EventSource("tx", {"id": Int64, "ts": Timestamp, "at": Timestamp, "card": Int64, "amount": Decimal(12, 2), '
        '"score": Float(0, 1), "shop": String}, event_time="ts", event_id="id", arrival="at", '
        f'topic="{topic}", archive="{archive}")\n'
        'card = FeatureView("card", Entity("card", "card"), tx, '
        '{"n": count().over("1h"), "sum": col("amount").sum().over("1h")})\n'
        'live = FeatureSet("live", [card])\n'
    )


class Record(NamedTuple):
    """A message as Kafka's client has it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def value(number: int, **more: Any) -> bytes:
    """Return a sound message, of one of two days."""
    row = {
        "id": number,
        "ts": NOW + number - DAY * (number % 2),
        "card": number % 7,
        "amount": "1.25",
        "score": 0.5,
        "shop": "a",
    }
    return json.dumps(row | more).encode()


def record(offset: int, **more: Any) -> Record:
    """Return a sound message that arrived a second after its event."""
    return Record(offset, NOW + offset + 1_000, b"k", value(offset, **more))


@dataclass
class FakeTopic:
    """A topic in memory, read as `TopicReader` reads one."""

    logs: dict[int, list[Record]]
    name: str = "tx"
    id: str = "one"
    first: dict[int, int] = field(default_factory=dict)
    down: bool = False
    at: dict[int, int] = field(default_factory=dict)

    def describe(self) -> Topic:
        if self.down:
            message = "kafka failed"
            raise EngineError(message)
        return Topic(self.name, self.id, len(self.logs))

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        return {each: (self.begin(each), self.end(each)) for each in partitions}

    def begin(self, partition: int) -> int:
        return self.first.get(partition, 0)

    def end(self, partition: int) -> int:
        log = self.logs[partition]
        return log[-1].offset + 1 if log else self.begin(partition)

    def start(self, offsets: Mapping[int, int]) -> None:
        self.at = dict(offsets)

    def poll(self, wait: int, most: int) -> dict[int, list[Record]]:
        assert wait
        if any(offset < self.begin(each) for each, offset in self.at.items()):
            raise OutOfReachError
        found = {}
        for each, offset in self.at.items():
            log = [one for one in self.logs[each] if one.offset >= offset][: max(1, most // 100)]
            if log:
                found[each], self.at[each] = log, log[-1].offset + 1
        return found

    def position(self, partition: int) -> int:
        return self.at[partition]

    def close(self) -> None:
        """Do nothing."""


def rows_of(archive: Path) -> pa.Table:
    """Return the rows of an archive as readers list them, files in their order."""
    return read_files(archive)


def quarantine_of(archive: Path) -> list[dict[str, Any]]:
    folder = archive / QUARANTINE
    return (
        [row for each in sorted(folder.glob("*.parquet")) for row in pq.read_table(each).to_pylist()]
        if folder.is_dir()
        else []
    )


def places(archive: Path) -> list[tuple[int, int]]:
    """Return partition and offset of all messages in an archive, the quarantined ones too, ascending."""
    found = (
        []
        if not list(archive.glob("date=*/*.parquet"))
        else rows_of(archive).select(["_partition", "_offset"]).to_pylist()
    )
    sound = [(each["_partition"], each["_offset"]) for each in found]
    return sorted([*sound, *((each["partition"], each["offset"]) for each in quarantine_of(archive))])
