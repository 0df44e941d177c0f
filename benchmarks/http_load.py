"""A load of HTTP requests over connections that are kept, each with one request at a time; it costs a client little."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from itertools import cycle

import psutil  # type: ignore[import-untyped]
import uvloop
from timing import latencies

SECONDS, WARM_UP = 5.0, 1.0
END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Connection(asyncio.Protocol):
    """Sends one request after another and notes when each reply is complete."""

    def __init__(self, requests: Iterator[bytes], took: list[float]) -> None:
        self.requests = requests
        self.took = took
        self.received = bytearray()
        self.failed = 0
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send the next request."""
        self.began = time.perf_counter()
        self.transport.write(next(self.requests))  # type: ignore[attr-defined]

    def connection_lost(self, _: Exception | None) -> None:
        """Count it, unless the load is over."""
        self.failed += not self.over

    def data_received(self, data: bytes) -> None:
        """Take a part of a reply."""
        self.received += data
        head = self.received.find(END)
        if head < 0:
            return
        at = self.received.index(LENGTH) + len(LENGTH)
        size = head + len(END) + int(self.received[at : self.received.index(b"\r", at)])
        if len(self.received) < size:
            return
        self.took.append(time.perf_counter() - self.began)
        self.failed += not self.received.startswith(b"HTTP/1.1 200")
        self.received.clear()
        self.send()


def post(path: str, body: object) -> bytes:
    """Return a request with JSON as it is sent."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def load(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> list[float]:
    """Keep so many requests running; return the seconds that each took.

    Raises
    ------
    RuntimeError
        If a reply is no 200.
    """
    loop, took = asyncio.get_running_loop(), list[float]()
    opened = [
        await loop.create_connection(
            lambda first=number: Connection(cycle([*requests[first:], *requests[:first]]), took), "127.0.0.1", port
        )  # type: ignore[misc]
        for number in range(connections)
    ]
    await asyncio.sleep(seconds)
    found = list(took)
    for transport, connection in opened:
        connection.over = True
        transport.close()
        if connection.failed:
            message = f"{connection.failed} requests failed"
            raise RuntimeError(message)
    return found


def measured(port: int, process: psutil.Process, requests: Sequence[bytes], connections: int) -> dict[str, float]:
    """Load a server after a while of warming up.

    Returns
    -------
    dict
        Requests a second, the same for each second that the server had a processor (which others on the machine do
        not change), the latencies, and the server's memory.
    """
    uvloop.run(load(port, requests, connections, WARM_UP))
    before = sum(process.cpu_times()[:2])
    took = uvloop.run(load(port, requests, connections, SECONDS))
    busy = sum(process.cpu_times()[:2]) - before
    return {
        "requests_per_second": round(len(took) / SECONDS),
        "requests_per_second_of_processor": round(len(took) / busy),
        **latencies(took),
        "peak_mib": round(process.memory_info().rss / 2**20),
    }
