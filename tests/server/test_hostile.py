"""What others send by mistake or on purpose keeps nobody else waiting."""

import asyncio
import http.client
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.server.processes import Served
from tests.server.test_features import AT, ROW
from tests.server.world import END
from unskew.online.server import protocol
from unskew.online.server.call import Call, Message
from unskew.online.server.refusal import Refusal

BODY = json.dumps({"set": "cards", "row": ROW, "at": AT}).encode()


@contextmanager
def connected(server: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=40) as found:
        yield found


def received(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_large_body_is_refused_before_it_is_read(server: Served) -> None:
    with connected(server) as connection:
        connection.sendall(b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n{")
        began = time.monotonic()
        reply = received(connection)
    assert reply.startswith(b"HTTP/1.1 413 ") and b"99999999999" in reply and b"too_large" in reply
    assert time.monotonic() - began < 10


def test_who_sends_a_large_body_before_reading_has_the_refusal(server: Served) -> None:
    assert "passes the 8388608 that are taken" in server.refused(413, b" " * (40 * 2**20))


def test_a_large_body_without_a_length_is_refused_on_the_way(server: Served) -> None:
    sent = 0
    with connected(server) as connection:
        connection.sendall(b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        try:
            while sent < 2**28:
                connection.sendall(chunk)
                sent += 65_536
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 2**28
    assert server.read(set="cards", row=ROW, at=AT)


@pytest.mark.parametrize("parts", [[b"x" * 101], [b"x" * 50, b"x" * 51], [b"x" * 101, b""]])
def test_a_body_is_measured_however_it_comes(parts: list[bytes]) -> None:
    with pytest.raises(Refusal, match="body of `101` bytes passes the 100 that are taken"):
        asyncio.run(arrived(parts).body(100))


def test_a_body_may_be_as_large_as_the_limit() -> None:
    assert asyncio.run(arrived([b"x" * 50, b"y" * 50]).body(100)) == b"x" * 50 + b"y" * 50
    assert asyncio.run(arrived([b"x" * 100]).body(100)) == b"x" * 100


def arrived(parts: list[bytes]) -> Call:
    """Return a request without Content-Length whose body comes in parts."""
    last = len(parts) - 1
    left = iter([{"type": "http.request", "body": each, "more_body": at < last} for at, each in enumerate(parts)])

    async def receive() -> Message:
        return next(left)

    async def send(_: Message) -> None:
        raise AssertionError

    return Call({"path": "/", "method": "POST", "headers": []}, receive, send)


def test_garbage_is_refused_in_the_form_of_all_errors(server: Served) -> None:
    rng = random.Random(1)  # noqa: S311
    for number in range(200):
        with connected(server) as connection:
            connection.settimeout(5)
            junk = rng.randbytes(rng.randrange(1, 300))
            if number % 2:
                junk = (
                    b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
                    % len(junk)
                    + junk
                )
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            reply = received(connection)
            if reply:
                assert reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 422", b"HTTP/1.1 404"))
                assert set(json.loads(reply.partition(b"\r\n\r\n")[2])) == {"error"}
    assert server.read(set="cards", row=ROW, at=AT)


def test_endless_headers_are_cut_off(server: Served) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        try:
            for number in range(4_000):
                connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 1_000))
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            pytest.fail("four megabytes of headers were taken")


def test_slow_senders_are_cut_off_and_keep_nobody_waiting(server: Served) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(100)]
        for number, each in enumerate(slow):
            each.sendall(
                b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\n"
                + (b"content-length: 50\r\n\r\n{" if number % 2 else b"")
            )
        for _ in range(20):
            assert server.read(set="cards", row=ROW, at=AT)
        while time.monotonic() - began < protocol.REQUEST_SECONDS - 2:
            time.sleep(1)
            for each in slow[:50:2]:
                each.sendall(b"x: y\r\n")  # a byte now and then changes nothing
        replies = [received(each) for each in slow]
    assert all(each.startswith(b"HTTP/1.1 408 ") for each in replies)
    assert time.monotonic() - began < protocol.REQUEST_SECONDS + 15


def test_one_wrong_row_does_not_fail_those_that_wait_with_it(server: Served) -> None:
    good = http.client.HTTPConnection("127.0.0.1", server.port)
    with ExitStack() as stack:
        others = [stack.enter_context(connected(server)) for _ in range(40)]
        for number, each in enumerate(others):
            at = END - 1 if number % 2 else AT
            body = json.dumps({"set": "cards", "row": ROW, "at": at}).encode()
            each.sendall(
                b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                % len(body)
                + body
            )
        good.request("POST", "/v1/features", BODY, {"content-type": "application/json"})
        assert good.getresponse().status == 200
        statuses = [received(each)[9:12] for each in others]
    assert statuses == [b"200", b"409"] * 20
    good.close()


def test_requests_in_one_packet_are_answered_in_order(server: Served) -> None:
    one = b"POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    last = one.replace(b"host: localhost\r\n", b"host: localhost\r\nconnection: close\r\n")
    with connected(server) as connection:
        connection.sendall(one * 20 + last)
        assert received(connection).count(b"HTTP/1.1 200 OK") == 21


def test_a_page_of_a_browser_reads_nothing(server: Served) -> None:
    assert "requests of web pages need a key" in server.refused(403, BODY, origin="http://evil.example")
    assert "is no loopback name" in server.refused(403, BODY, host="evil.example:80")
