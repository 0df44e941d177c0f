"""HTTP on the wire: uvicorn's protocol with bounds on the time and the size of what is not yet a request."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from unskew.online.server.refusal import error_body

REQUEST_SECONDS = 20.0  # for a request to arrive whole, from its first byte on
MAX_HEAD = 64 * 2**10  # bytes of a request line and headers
NEVER = math.inf


class Protocol(HttpToolsProtocol):
    """One connection; `sweep` closes those whose request does not arrive."""

    since = NEVER  # monotonic seconds since when a request has been awaited or is incomplete
    head = 0  # bytes of the head so far
    in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head of the request has no end."""
        self.head += len(data)
        super().data_received(data)
        if self.in_head and self.head > MAX_HEAD:
            self.refuse(431, b"Request Header Fields Too Large", "head_too_large", f"headers pass {MAX_HEAD} bytes")

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request."""
        super().on_message_begin()
        self.since, self.head, self.in_head = time.monotonic(), 0, True

    def on_headers_complete(self) -> None:
        """Note that the head has an end."""
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait no longer."""
        self.since = NEVER
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Refuse what is no HTTP."""
        self.refuse(400, b"Bad Request", "bad_http", "the request is no HTTP/1.1; check the client")

    def refuse(self, status: int, phrase: bytes, code: str, message: str) -> None:
        """Reply in the form of all errors and close; where a reply has begun already, close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = error_body(code, message)
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, phrase, len(body), body)
            )
        self.transport.close()


def sweep(state: ServerState) -> None:
    """Close the connections whose request did not arrive in time."""
    late = time.monotonic() - REQUEST_SECONDS
    for each in list[Any](state.connections):
        if each.since < late:
            each.refuse(
                408,
                b"Request Timeout",
                "too_slow",
                f"no request arrived within {REQUEST_SECONDS:g} seconds; send it at once",
            )
