"""One HTTP request: its headers, its body within bounds, its reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from unskew.online.server.refusal import Refusal, Reply

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
LINGER_BYTES = 2**26
LINGER_SECONDS = 5.0  # that a refused body is read on and thrown away: a client that writes reads no reply


class Call:
    """One request.

    Parameters
    ----------
    scope, receive, send
        As ASGI gives them.
    """

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        self.send = send
        self.began = time.perf_counter()

    def media(self, header: bytes) -> str:
        """Return a header's media type without parameters; empty where it is not there."""
        return self.headers.get(header, b"").partition(b";")[0].strip().lower().decode("latin-1")

    async def body(self, most: int) -> bytes:
        """Return the body.

        Raises
        ------
        Refusal
            413 above `most` bytes, without reading on.
        ConnectionResetError
            If the client has gone.
        """
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > most:
            raise too_large(length.decode(), most)
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self.receive()
            parts.append(self.part(message))
            size += len(parts[-1])
            if size > most:
                raise too_large(str(size), most)
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def part(self, message: Message) -> bytes:
        """Return a part's bytes."""
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        body: bytes = message.get("body", b"")
        return body

    async def reply(self, reply: Reply, *, close: bool = False, linger: bool = False) -> None:
        """Send the reply.

        Parameters
        ----------
        close
            Close the connection after it.
        linger
            Read on for a moment before that.
        """
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", str(len(reply.body)).encode()),
            *reply.headers,
        ]
        if close:
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if linger:
            await self.send({"type": "http.response.body", "body": reply.body, "more_body": True})
            await self.drop_rest()
            await self.send({"type": "http.response.body", "body": b""})
            return
        await self.send({"type": "http.response.body", "body": reply.body})

    async def drop_rest(self) -> None:
        """Read what is left of the body for a moment, and throw it away."""
        dropped = 0
        with suppress(TimeoutError, ConnectionResetError):
            async with asyncio.timeout(LINGER_SECONDS):
                while dropped < LINGER_BYTES and (message := await self.receive()).get("more_body"):
                    dropped += len(self.part(message))


def too_large(given: str, most: int) -> Refusal:
    """Refuse a body that is too large."""
    message = f"body of `{given}` bytes passes the {most} that are taken; send fewer rows at a time"
    return Refusal(413, "too_large", message, close=True)
