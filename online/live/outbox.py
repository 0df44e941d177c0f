"""Messages on their way to a topic. They go by librdkafka: a message costs a producer a quarter of what it does in Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import broker_failure
from unskew.pipelines.errors import EngineError

IN_FLIGHT, BYTES = 20_000, 64 << 20  # messages that wait for the broker's word, and their size
LARGEST = 16 << 20  # bytes of a message
REACH, PATIENCE, CLOSING = 10.0, 120.0, 5.0  # s for the broker to answer at all, to take a message, after an error
TICK = 0.1  # s that one poll waits
BY_KEY = -1  # in place of a partition
OPTIONS = {
    "acks": "all",
    "enable.idempotence": True,  # a request that is sent again changes neither order nor number
    "linger.ms": 50,  # for others to the same partition: of single ones, most of the work is not theirs
    "batch.size": 1 << 18,
    "message.max.bytes": LARGEST,
    "message.timeout.ms": int(PATIENCE * 1_000),
    "queue.buffering.max.kbytes": BYTES >> 10,
    "partitioner": "murmur2_random",  # where Kafka's own client and kafka-python put a key
    "reconnect.backoff.max.ms": 1_000,
    "log_level": 2,  # what fails is told by errors
}


class Message(NamedTuple):
    """One line of a log: its arrival in ms, its key, its JSON; the partition where the key does not say it."""

    arrival: int
    key: bytes | None
    value: bytes
    partition: int | None = None


class Outbox:
    """Sends messages to one topic, so many at a time; ``with`` waits until the broker has all of them.

    Parameters
    ----------
    taken
        Is called for each message, in the order in which they were sent, once the broker has it, with its partition
        and offset.

    Raises
    ------
    EngineError
        If the broker cannot be reached, refuses a message, or has not taken one within two minutes.
    """

    def __init__(self, settings: KafkaSettings, topic: str, taken: Callable[[int, int], None]) -> None:
        self.settings, self.topic, self.taken = settings, topic, taken
        self.said = ""  # the newest complaint about a connection
        self.waiting: deque[Slot] = deque()
        self.producer = Producer({**settings.librdkafka(), **OPTIONS, "error_cb": self.complain})

    def complain(self, error: KafkaError) -> None:
        """Keep what a connection failed of: it is tried again until the time is over."""
        self.said = error.str()

    def failure(self, error: KafkaError) -> EngineError:
        """Return an error in one line."""
        return broker_failure(self.settings, error.str() + (f" ({self.said})" if self.said else ""))

    def send(self, message: Message, stamp: int) -> None:
        """Put a message to those that wait, with its timestamp in ms; wait where there are too many."""
        slot = Slot()
        while not self.put(message, stamp, slot):
            self.tell(TICK)
        self.waiting.append(slot)
        self.tell(0.0)
        while len(self.waiting) > IN_FLIGHT:
            self.tell(TICK)

    def put(self, message: Message, stamp: int, slot: Slot) -> bool:
        """Give a message to the client, unless it holds too many."""
        place = BY_KEY if message.partition is None else message.partition
        try:
            self.producer.produce(self.topic, message.value, message.key, place, slot, timestamp=stamp)
        except BufferError:
            return False
        except KafkaException as error:
            raise self.failure(error.args[0]) from error
        return True

    def tell(self, patience: float) -> None:
        """Wait for the broker's word; pass it on."""
        self.producer.poll(patience)
        while self.waiting and self.waiting[0].known:
            slot = self.waiting.popleft()
            if slot.error is not None:
                raise self.failure(slot.error)
            self.taken(*slot.place)

    def __enter__(self) -> Self:
        """See whether the broker can be reached."""
        try:
            self.producer.list_topics(self.topic, timeout=REACH)
        except KafkaException as error:
            raise self.failure(error.args[0]) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Wait for what is on its way, but for a moment where something failed."""
        try:
            while kind is None and self.waiting:
                self.tell(TICK)
        finally:
            self.producer.flush(CLOSING)


class Slot:
    """A message's place in the order, and what the broker said of it."""

    __slots__ = ("error", "known", "place")

    def __init__(self) -> None:
        self.known = False
        self.error: KafkaError | None = None
        self.place = (-1, -1)  # partition and offset

    def __call__(self, error: KafkaError | None, message: Delivered[bytes, bytes]) -> None:
        """Take the broker's word."""
        self.known, self.error = True, error
        if error is None:
            self.place = message.partition(), message.offset()  # type: ignore[assignment]
