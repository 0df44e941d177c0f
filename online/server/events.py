"""`POST /v1/events/{source}`: events onto Kafka, judged as the stream judges them, acknowledged before the reply."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from unskew.online.server.metrics import Metrics
from unskew.online.server.producer import LARGEST_EVENT, Message, Producer
from unskew.online.server.refusal import RETRY_SECONDS, Refusal, Reply
from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.json_lines import OUT_OF_RANGE, OUTSIDE, WRONG, WRONG_TYPE, LineJudge, first_given
from unskew.pipelines.json_objects import parsed
from unskew.pipelines.plan import SetPlan, SourcePlan

ONE, MANY = "application/json", "application/x-ndjson"
WHY = {
    "malformed": "it is no single JSON object in UTF-8",
    "null_event_time": "its event time is missing or null",
    "wrong_type": "a column is not of its type",
    "out_of_range": "a column is out of its range",
    "null_event_id": "its event id is missing or null",
    "future": "its event time lies further ahead of the clock than the source allows",
}


class Judged(NamedTuple):
    """A source that takes events: what judges them, and where its event ids stand."""

    source: SourcePlan
    judge: LineJudge


class Events:
    """Takes events of the sources of some sets.

    Parameters
    ----------
    plans
        The sets. A source that two of them define otherwise takes none, nor does one without a topic.
    producer
        Puts messages on Kafka.
    max_waiting
        Events that may wait for the broker at a time.
    """

    def __init__(
        self,
        plans: Iterable[SetPlan],
        producer: Producer,
        metrics: Metrics,
        *,
        max_waiting: int,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.sources = judged_sources(plans)
        self.producer = producer
        self.metrics = metrics
        self.max_waiting = max_waiting
        self.clock = clock

    async def take(self, name: str, body: bytes, media: str) -> Reply:
        """Return 202 with partition and offset of each event, once the broker has all of them.

        Raises
        ------
        Refusal
            404 for a source that takes no events, 422 where one of them would be quarantined, 413 where one is too large
            (none is written), 503 where the broker is down or too many wait.
        """
        of = self.source(name)
        lines = events_of(body, media)
        messages = self.messages(of, lines)
        waiting = self.producer.waiting
        if waiting and waiting + len(messages) > self.max_waiting:
            message = f"`{waiting}` events wait for the broker already; send them again later"
            raise Refusal(503, "overloaded", message, retry_after=RETRY_SECONDS)
        places = await self.producer.put(of.source.topic, messages)
        self.metrics.events.labels(name, "written").inc(len(places))
        found = [{"partition": partition, "offset": offset} for partition, offset in places]
        return Reply(202, orjson.dumps({"source": name, "topic": of.source.topic, "events": found}))

    def source(self, name: str) -> Judged:
        """Return the source of that name."""
        if name not in self.sources:
            hint = nearest(name, self.sources)
            message = f"source `{name}` takes no events: it is unknown, or declares no topic; {hint}"
            raise Refusal(404, "unknown_source", message)
        return self.sources[name]

    def messages(self, of: Judged, lines: Sequence[bytes]) -> list[Message]:
        """Return events as messages; copies of one event have the same key, so they meet in one partition."""
        found = []
        now = self.clock()
        for number, line in enumerate(lines):
            cells = of.judge(line, now)
            where = f"line {number + 1}: " if len(lines) > 1 else ""
            if isinstance(cells, str):
                self.metrics.events.labels(of.source.name, "refused").inc()
                raise Refusal(422, cells, where + reason(of, line, cells))
            key = orjson.dumps([cells[each] for each in of.judge.ids]) if of.judge.ids else None
            if len(line) + len(key or b"") > LARGEST_EVENT:
                self.metrics.events.labels(of.source.name, "refused").inc()
                message = (
                    f"{where}the event has `{len(line)}` bytes; send at most {LARGEST_EVENT}, its id counted twice"
                )
                raise Refusal(413, "event_too_large", message)
            found.append(Message(key, line))
        return found

    async def stop(self) -> None:
        """Let go of the broker."""
        await self.producer.stop()


def judged_sources(plans: Iterable[SetPlan]) -> dict[str, Judged]:
    """Return the sources that take events, by name."""
    found: dict[str, SourcePlan] = {}
    unclear = set()
    for each in (source for plan in plans for source in plan.sources):
        if found.setdefault(each.name, each) != each:
            unclear.add(each.name)
    judged = {}
    for name, each in found.items():
        if each.topic and name not in unclear:
            try:
                judged[name] = Judged(each, LineJudge(each))
            except DefinitionError:  # Flink cannot read it either
                continue
    return judged


def events_of(body: bytes, media: str) -> list[bytes]:
    """Return the events of a body: one object, or one a line."""
    if media not in (ONE, MANY, ""):
        message = f"content type `{media}` is not taken; send {ONE} for one event, {MANY} for one a line"
        raise Refusal(415, "unknown_media", message)
    lines = [each for each in body.split(b"\n") if each.strip()] if media == MANY else [body.strip()]
    if not lines:
        message = "the body holds no events; send one JSON object a line"
        raise Refusal(422, "no_events", message)
    return lines


def reason(of: Judged, line: bytes, code: str) -> str:
    """Return why the stream would quarantine an event, with the column where it is one."""
    column = blamed(of.judge, line, code)
    shown = line[:60].decode("utf-8", "replace")
    kind = of.source.column(column).type if column else None
    where = f"; column `{column}` is `{kind}`" if column else ""
    where += ", in ms since 1970" if kind is not None and kind.kind == "timestamp" else ""
    return f"event `{shown}` would be quarantined as `{code}`: {WHY.get(code, code)}{where}"


def blamed(judge: LineJudge, line: bytes, code: str) -> str | None:
    """Return the first column that is refused for its form, or for its range."""
    wanted = {WRONG_TYPE: WRONG, OUT_OF_RANGE: OUTSIDE}.get(code)
    values: Any = parsed(line)
    if wanted is None or values is None:
        return None
    for name, paths, encode in judge.readers:
        value = values.get(name) if paths is None else first_given(values, paths)
        if value is not None and encode(value) is wanted:
            return name
    return None
