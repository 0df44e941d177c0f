"""Replies of Redis in pieces of any size, sound and with errors."""

from typing import Any

import pytest
from redis.exceptions import BusyLoadingError, ConnectionError, InvalidResponse, ResponseError

from unskew.online.redis_wire import Exchange, hmget, strings
from unskew.online.store_redis import AT_ONCE, BYTES, script_sizes

HEAD = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n"


class Wire:
    """A socket that hands out a reply in pieces."""

    def __init__(self, reply: bytes, size: int) -> None:
        self.rest, self.size = reply, size

    def recv(self, _: int) -> bytes:
        found, self.rest = self.rest[: self.size], self.rest[self.size :]
        return found


def received(reply: bytes, counts: list[int], size: int) -> list[bytes | None]:
    connection: Any = Exchange()  # type: ignore[no-untyped-call]
    connection._sock = Wire(reply, size)
    try:
        data, spans = connection.received(counts)
    finally:
        connection._sock = None
    return [None if start < 0 else data[start:end] for start, end in spans]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_reply_may_come_in_pieces(size: int) -> None:
    held = [b"", b"\r\n$-1\r\n", None, bytes(30), None]
    body = b"*2\r\n" + strings([b"", b"\r\n$-1\r\n"]) + b"*3\r\n$-1\r\n" + strings([bytes(30)]) + b"$-1\r\n"
    assert received(HEAD + body, [2, 3], size) == held


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_errors_are_raised_as_what_they_are(size: int) -> None:
    loading = b"+OK\r\n-LOADING Redis is loading the dataset in memory\r\n-LOADING x\r\n-EXECABORT y\r\n"
    with pytest.raises(BusyLoadingError, match="loading the dataset"):
        received(loading, [1, 1], size)
    wrong = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    for body in (wrong + b"*1\r\n$-1\r\n", b"*1\r\n$-1\r\n" + wrong):
        with pytest.raises(ResponseError, match=r"^WRONGTYPE Operation .* kind of value$"):
            received(HEAD + body, [1, 1], size)
    with pytest.raises(InvalidResponse, match="unexpected reply"):
        received(HEAD + b"*2\r\n$-1\r\n$-1\r\n", [1, 1], size)
    with pytest.raises(ConnectionError, match="closed by the server"):
        received(HEAD + b"*1\r\n$10\r\nabc", [1, 1], size)


def test_a_command_is_written_as_redis_reads_it() -> None:
    connection: Any = Exchange()  # type: ignore[no-untyped-call]
    fields = [b"a", b"\r\n", b""]
    assert hmget(b"key", strings(fields), 3) == b"".join(connection.pack_command("HMGET", b"key", *fields))


def test_scripts_are_small() -> None:
    assert list(script_sizes([])) == []
    assert list(script_sizes([0] * (AT_ONCE + 1))) == [AT_ONCE, 1]
    assert list(script_sizes([BYTES + 1, 1, BYTES - 1, 1, BYTES])) == [1, 2, 1, 1]
