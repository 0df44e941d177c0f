"""The quarantine of an archive: what is in it, and what of it the definitions of today accept."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from unskew.online.live.archive_write import disk
from unskew.online.live.held import hold
from unskew.online.live.outbox import Message
from unskew.online.live.replay import Sent, produce
from unskew.online.live.settings import KafkaSettings
from unskew.pipelines.archive import QUARANTINE, read_current
from unskew.pipelines.errors import InputError
from unskew.pipelines.folders import files_below
from unskew.pipelines.json_lines import LineJudge
from unskew.pipelines.plan import SourcePlan

REPLAYED = "_replayed.jsonl"
SYNCED = 1_000  # replayed messages between two waits for the disk
Place = tuple[str, int, int]  # topic, partition, offset


@dataclass(frozen=True)
class Quarantined:
    """A message that was quarantined; `arrival` in ms."""

    place: Place
    arrival: int
    reason: str
    raw: bytes | None
    key: bytes | None

    @property
    def day(self) -> str:
        """The day of its arrival."""
        return datetime.fromtimestamp(self.arrival / 1_000, UTC).date().isoformat()


def quarantined(archive: Path) -> Iterator[Quarantined]:
    """Yield what is in the quarantine, by partition and offset.

    Raises
    ------
    InputError
        If there is no archive.
    """
    require_archive(archive)
    for each in files_below(archive / QUARANTINE):
        with read_current(each, pq.ParquetFile) as file:
            for batch in file.iter_batches(batch_size=1_000):
                yield from (of_row(row) for row in batch.to_pylist())


def require_archive(archive: Path) -> None:
    """Refuse a folder that is not there."""
    if not archive.is_dir():
        message = f"archive `{archive}` does not exist; run `unskew archive`, or give --archive"
        raise InputError(message)


def of_row(row: dict[str, Any]) -> Quarantined:
    """Return a row of the quarantine."""
    arrival = round(row["arrival"].timestamp() * 1_000)
    return Quarantined((row["topic"], row["partition"], row["offset"]), arrival, row["reason"], row["raw"], row["key"])


def replayed(archive: Path) -> set[Place]:
    """Return what has been produced again; a last line that was cut off does not count."""
    path = archive / QUARANTINE / REPLAYED
    found: set[Place] = set()
    for line in path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else ():
        entry = json.loads(line)
        found.add((entry["topic"], entry["partition"], entry["offset"]))
    return found


def summary(archive: Path) -> list[dict[str, Any]]:
    """Return for each day of arrival and reason how many there are, and how many were produced again."""
    done = replayed(archive)
    counts, again = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for each in quarantined(archive):
        counts[each.day, each.reason] += 1
        again[each.day, each.reason] += each.place in done
    return [
        {"day": day, "reason": reason, "messages": count, "replayed": again[day, reason]}
        for (day, reason), count in sorted(counts.items())
    ]


def acceptable(source: SourcePlan, archive: Path) -> Iterator[Quarantined]:
    """Yield what was not produced again yet and is sound by today's definitions, judged by its own arrival."""
    judge, done = LineJudge(source), replayed(archive)
    for each in quarantined(archive):
        if each.place not in done and not isinstance(judge(each.raw, each.arrival), str):
            yield each


def replay(source: SourcePlan, archive: Path, settings: KafkaSettings, *, original: bool = False) -> Sent:
    """Produce what today's definitions accept to its partition again, and record it.

    The new messages arrive now: what was not served is not said to have been known. Cut off, some may be produced
    twice, which is one event by its identity.

    Parameters
    ----------
    original
        Keep the timestamps of the first time. Right where nothing was computed of the log yet: an upload whose cut is
        later does not hold these events, though it says that it does.

    Raises
    ------
    InputError
        If the source has no identity, there is no archive, another replay runs, or the disk cannot be written.
    EngineError
        If the broker refuses one.
    """
    if not (source.event_id and source.deduplicate):
        message = f"source `{source.name}` counts every copy, so a replay that is cut off could count twice; declare an event_id"
        raise InputError(message)
    require_archive(archive)
    folder = archive / QUARANTINE
    with disk(archive), hold(folder / ".replay.lock", f"quarantine `{folder}` is being replayed", "wait for that one"):
        whole_lines(folder / REPLAYED)
        with (folder / REPLAYED).open("a", encoding="utf-8") as log:
            recorder = Recorder(log)
            messages = recorder.sending(acceptable(source, archive))
            sent = produce(settings, source.topic, messages, clock=not original, taken=recorder.taken)
            recorder.sync()
        return sent


def whole_lines(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if path.exists():
        text = path.read_bytes()
        os.truncate(path, text.rfind(b"\n") + 1)


class Recorder:
    """Writes down each message that the broker has taken again."""

    def __init__(self, log: Any) -> None:
        self.log, self.count = log, 0
        self.waiting: deque[Place] = deque()  # of messages that are on their way

    def sending(self, found: Iterable[Quarantined]) -> Iterator[Message]:
        """Yield what is sent, one after the other."""
        for each in found:
            self.waiting.append(each.place)
            yield Message(each.arrival, each.key, each.raw or b"", each.place[1])

    def taken(self, partition: int, offset: int) -> None:
        """Note where the next message is now."""
        topic, old_partition, old = self.waiting.popleft()
        entry = {"topic": topic, "partition": old_partition, "offset": old, "to": [partition, offset]}
        self.log.write(json.dumps(entry) + "\n")
        self.count += 1
        if self.count % SYNCED == 0:
            self.sync()

    def sync(self) -> None:
        """Wait for the disk."""
        self.log.flush()
        os.fsync(self.log.fileno())
