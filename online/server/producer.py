"""Puts messages on Kafka from a thread of its own, and waits for all replicas."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from unskew.online.live.settings import KafkaSettings
from unskew.online.server.refusal import RETRY_SECONDS, Refusal

# bytes of key and value: what Kafka's client, and its topics by default, take in one message, less its frame
LARGEST_EVENT = (1 << 20) - 512
LOG = logging.getLogger("unskew.server")
Place = tuple[int, int]  # partition, offset


class Message(NamedTuple):
    """A message's key and value."""

    key: bytes | None
    value: bytes


class Puts:
    """Messages on their way, until all are acknowledged or one has failed.

    Parameters
    ----------
    done
        Future of their places, in their order.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[list[Place]], count: int) -> None:
        self.loop = loop
        self.done = done
        self.left = count
        self.places: list[Place] = [(-1, -1)] * count

    def acknowledged(self, number: int, metadata: Any) -> None:
        """Note where a message went; called in the producer's thread."""
        self.loop.call_soon_threadsafe(self.note, number, (metadata.partition, metadata.offset))

    def failed(self, error: BaseException) -> None:
        """Note that a message was not acknowledged; called in any thread."""
        self.loop.call_soon_threadsafe(self.fail, error)

    def note(self, number: int, place: Place) -> None:
        """Take a place, on the event loop."""
        self.places[number] = place
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(self.places)

    def fail(self, error: BaseException) -> None:
        """Give up, on the event loop."""
        if not self.done.done():
            self.done.set_exception(error)


class Producer:
    """A Kafka producer that connects when it is first asked, and again after it could not.

    Parameters
    ----------
    settings
        Of the broker.
    timeout
        Seconds that messages may wait for it.

    Attributes
    ----------
    waiting
        Messages that are held here: until they are acknowledged or given up, and the thread has let go of them.
    """

    def __init__(self, settings: KafkaSettings, timeout: float) -> None:
        self.settings = settings
        self.timeout = timeout
        self.threads = ThreadPoolExecutor(1, "unskew-events")
        self.client: Any = None
        self.waiting = 0
        self.lock = threading.Lock()

    async def put(self, topic: str, messages: Sequence[Message]) -> list[Place]:
        """Return partition and offset of each message, once the broker has all.

        Raises
        ------
        Refusal
            503 where it has not, within the timeout, 413 where the topic takes no message as large as one of them. Some may
            have been written all the same.
        """
        loop = asyncio.get_running_loop()
        puts = Puts(loop, loop.create_future(), len(messages))
        self.hold(len(messages))
        task = self.threads.submit(self.send, topic, messages, puts)
        try:
            async with asyncio.timeout(self.timeout):
                return await puts.done
        except Exception as error:
            from kafka.errors import MessageSizeTooLargeError  # noqa: PLC0415 - a server may never need Kafka's client

            if isinstance(error, MessageSizeTooLargeError):
                message = f"topic `{topic}` takes no message as large as one of the events; send smaller ones, or raise its max.message.bytes"
                raise Refusal(413, "event_too_large", message) from None
            LOG.warning("kafka did not acknowledge %d events: %s", len(messages), type(error).__name__)
            message = f"the broker has not acknowledged the events ({type(error).__name__}); send them again later"
            raise Refusal(503, "broker_down", message, retry_after=RETRY_SECONDS) from None
        finally:
            task.add_done_callback(lambda _: self.hold(-len(messages)))

    def hold(self, count: int) -> None:
        """Count messages that are held, or let go of; in any thread."""
        with self.lock:
            self.waiting += count

    def send(self, topic: str, messages: Sequence[Message], puts: Puts) -> None:
        """Hand messages to the client, in its thread."""
        if puts.done.done():  # nobody waits for them: do not connect, either
            return
        try:
            client = self.connected()
            for number, each in enumerate(messages):
                if puts.done.done():  # nobody waits for the rest
                    return
                future = client.send(topic, key=each.key, value=each.value)
                future.add_callback(partial(puts.acknowledged, number))
                future.add_errback(puts.failed)
        except Exception as error:
            puts.failed(error)

    def connected(self) -> Any:
        """Return the client, connected."""
        if self.client is None:
            from kafka import KafkaProducer  # noqa: PLC0415 - a server that takes no events needs none

            milliseconds = int(self.timeout * 1_000)
            self.client = KafkaProducer(
                **self.settings.client(),
                acks="all",
                enable_idempotence=False,  # after a message that was given up, an idempotent client takes no more
                allow_auto_create_topics=False,
                linger_ms=2,
                reconnect_backoff_max_ms=1_000,
                max_block_ms=milliseconds,
                bootstrap_timeout_ms=milliseconds,
                request_timeout_ms=max(milliseconds // 2, 1),
                delivery_timeout_ms=milliseconds,
            )
        return self.client

    async def stop(self) -> None:
        """Write what is on its way, and disconnect."""
        if self.client is not None:
            await asyncio.get_running_loop().run_in_executor(
                self.threads, partial(self.client.close, timeout=self.timeout)
            )
        self.threads.shutdown(wait=False, cancel_futures=True)
