"""Reads of many records from Redis by one exchange of bytes: what a client in Python spends on each reply is saved."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple, cast

from redis import exceptions
from redis.connection import Connection, SSLConnection

CHUNK = 1 << 17  # bytes of one recv
MULTI, EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
QUEUED = b"+QUEUED\r\n"


class Reply(NamedTuple):
    """The bytes of a reply, and where its strings stand in them: (start, end), start -1 for none."""

    data: bytes
    spans: list[tuple[int, int]]


def strings(words: Sequence[bytes]) -> bytes:
    """Return words as Redis reads them (RESP's bulk strings)."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in words])


def hmget(key: bytes, fields: bytes, count: int) -> bytes:
    """Return the command that gets so many fields of a hash, which are given as `strings`."""
    return b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n%b" % (count + 2, len(key), key, fields)


class Exchange(Connection):
    """A connection that can run HMGETs as one transaction."""

    def transaction(self, commands: Sequence[bytes], counts: Sequence[int]) -> Reply:
        """Run commands as one, by one round trip.

        Parameters
        ----------
        commands
            As `hmget` returns them.
        counts
            How many fields each gets.

        Raises
        ------
        RedisError
            If it failed; then the connection is closed.
        """
        self.connect()  # type: ignore[no-untyped-call] # does nothing where it is
        try:
            self.wire.sendall(b"".join([MULTI, *commands, EXEC]))
            return self.received(counts)
        except BaseException as error:  # half a reply may be left
            self.disconnect()  # type: ignore[no-untyped-call]
            if isinstance(error, TimeoutError):
                message = "no answer in time"
                raise exceptions.TimeoutError(message) from error
            if isinstance(error, OSError):
                raise exceptions.ConnectionError(str(error)) from error
            raise

    @property
    def wire(self) -> socket.socket:
        """The socket."""
        return cast("socket.socket", self._sock)

    def received(self, counts: Sequence[int]) -> Reply:
        """Receive the reply to a transaction."""
        data = bytearray(self.chunk())
        head = b"+OK\r\n" + QUEUED * len(counts) + b"*%d\r\n" % len(counts)
        while len(data) < len(head) and head.startswith(data):
            data += self.chunk()
        if not data.startswith(head):
            self.refuse(data, 0)
        spans: list[tuple[int, int]] = []
        at = len(head)
        for count in counts:
            at = self.expect(data, at, b"*%d\r\n" % count)
            for _ in range(count):
                while (end := data.find(b"\r\n", at)) < 0:
                    data += self.chunk()
                size = int(data[at + 1 : end])
                at = end + 2
                spans.append((at, at + size) if size >= 0 else (-1, -1))
                at += size + 2 if size >= 0 else 0
        while len(data) < at:
            data += self.chunk()
        return Reply(bytes(data), spans)

    def expect(self, data: bytearray, at: int, head: bytes) -> int:
        """Return where a reply's content begins, after its head."""
        while len(data) < at + len(head):
            if data[at : at + 1] == b"-":
                break
            data += self.chunk()
        if not data.startswith(head, at):
            self.refuse(data, at)
        return at + len(head)

    def refuse(self, data: bytearray, at: int) -> None:
        """Raise the first error that a reply has from a place on."""
        while (lines := data[at:].split(b"\r\n"))[-1].startswith(b"-"):  # half a line
            data += self.chunk()
        for line in lines:
            if line.startswith(b"-"):
                raise self._parser.parse_error(line[1:].decode("utf-8", "replace"))
        message = f"unexpected reply {bytes(data[at : at + 40])!r}"
        raise exceptions.InvalidResponse(message)

    def chunk(self) -> bytes:
        """Receive what there is, at least a byte."""
        found = self.wire.recv(CHUNK)
        if not found:
            message = "connection closed by the server"
            raise exceptions.ConnectionError(message)
        return found


class SecureExchange(Exchange, SSLConnection):
    """The same over TLS."""
