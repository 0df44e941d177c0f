"""A log produced to a source's topic, as its producers once did: in order of arrival, each entity in one partition."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from unskew.online.live.outbox import Message, Outbox
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import administration, make_topics

KEPT = {
    "retention.ms": "-1",
    "message.timestamp.type": "CreateTime",
}  # a log of years ago would be deleted within minutes
AHEAD = 1_000  # messages that are made at once, which costs less than each when it is due
COPY_BY = 10_000  # ms within which a copy comes
TICK = 0.01  # s: what is due within it is sent together


@dataclass(frozen=True)
class Disturbance:
    """What a network does to a log.

    Parameters
    ----------
    disorder
        Up to how many ms a message is sent later than its place; its arrival stays.
    duplicates
        Share of messages that come twice, the copy within 10 s.
    seed
        The same seed disturbs the same messages.
    """

    disorder: int = 0
    duplicates: float = 0.0
    seed: int = 7


@dataclass
class Sent:
    """What was sent: messages, in how many seconds."""

    messages: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds else 0.0


def disturbed(messages: Iterable[Message], how: Disturbance) -> Iterator[Message]:
    """Yield messages in the order in which they are sent: by arrival, but for disorder."""
    rng = np.random.default_rng(how.seed)
    held: list[tuple[int, int, Message]] = []  # a heap: when it is sent, its number
    numbers = itertools.count()
    messages = iter(messages)
    while block := list(itertools.islice(messages, AHEAD)):
        for each in block:
            sent = each.arrival + (int(rng.integers(how.disorder + 1)) if how.disorder else 0)
            heappush(held, (sent, next(numbers), each))
            if how.duplicates and rng.random() < how.duplicates:
                copy = each._replace(arrival=each.arrival + int(rng.integers(1, COPY_BY)))
                heappush(held, (copy.arrival, next(numbers), copy))
        while held and held[0][0] <= block[-1].arrival:
            yield heappop(held)[2]
    while held:
        yield heappop(held)[2]


@dataclass(frozen=True)
class Tempo:
    """How fast a log is sent: `speed` times as it went, at most `rate` messages a second; None: no bound."""

    speed: float | None = None
    rate: float | None = None

    def due(self, since: int, number: int) -> float:
        """Return when a message is sent at the earliest, in s from the start.

        Parameters
        ----------
        since
            From the first arrival of the log to its own, ms.
        number
            Of messages before it.
        """
        return max(since / 1_000 / self.speed if self.speed else 0.0, number / self.rate if self.rate else 0.0)


def paced(messages: Iterable[Message], tempo: Tempo, *, moved: bool = False) -> Iterator[Message]:
    """Hand out messages when they are due.

    Parameters
    ----------
    moved
        Whether their arrivals are those of now already.
    """
    start, first, newest = time.monotonic(), None, 0
    for number, each in enumerate(messages):
        first = each.arrival if first is None else first
        newest = max(newest, each.arrival - first)
        due = newest / 1_000 if moved and tempo.speed else tempo.due(newest, number)
        wait = start + due - time.monotonic()
        if wait > 0:
            time.sleep(max(wait, TICK))
        yield each


def arriving(tempo: Tempo, start: int) -> Callable[[int, int], int]:
    """Return when a message of the log arrives now, ms, by its original arrival and number, from a start on."""
    first: int | None = None

    def arrives(arrival: int, number: int) -> int:
        nonlocal first
        first = arrival if first is None else first
        if tempo.speed is None and tempo.rate is None:
            return time.time_ns() // 1_000_000
        return start + int(1_000 * tempo.due(max(0, arrival - first), number))

    return arrives


def ensure_topic(settings: KafkaSettings, topic: str) -> bool:
    """Make the topic if it is missing; return whether it was."""
    with administration(settings) as client:
        missing = bool(client.describe_topics([topic])[0]["error_code"])
    if missing:
        make_topics(settings, {topic: settings.partitions}, KEPT)
    return missing


def produce(
    settings: KafkaSettings,
    topic: str,
    messages: Iterable[Message],
    *,
    clock: bool = False,
    taken: Callable[[int, int], None] = lambda *_: None,
) -> Sent:
    """Send messages, and wait until the broker has all of them.

    Parameters
    ----------
    clock
        Whether a message's timestamp is the producer's clock, not its arrival.
    taken
        Is called for each message in turn once the broker has it, with its partition and offset.

    Raises
    ------
    EngineError
        If the broker refuses one, or does not answer.
    """
    done, begun = Sent(), time.monotonic()
    with Outbox(settings, topic, taken) as outbox:
        for each in messages:
            outbox.send(each, time.time_ns() // 1_000_000 if clock else each.arrival)
            done.messages += 1
    done.seconds = time.monotonic() - begun
    return done
