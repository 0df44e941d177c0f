"""Speaks to Redis: connections with timeouts, scripts by their names, errors of one line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from unskew.online.redis_scripts import Script
from unskew.online.redis_wire import Exchange, Reply, SecureExchange
from unskew.pipelines.errors import InputError, StoreDown, StoreError

PORT = 6379
Word = str | bytes | int
SENDS, PAUSE = 3, 0.1  # of a write whose outcome is unknown; seconds between them
PASSING = ("BUSY ", "MISCONF ", "CLUSTERDOWN ", "TRYAGAIN ")
# the first that fits
MEANINGS: tuple[tuple[type[RedisError], type[StoreError], str], ...] = (
    (AuthenticationError, StoreError, "refuses the user or the password; set UNSKEW_STORE_USERNAME and UNSKEW_STORE_PASSWORD"),
    (NoPermissionError, StoreError, "does not let this user do that; grant it all commands on the keys unskew:*"),
    (ReadOnlyError, StoreError, "is a read-only replica; name the primary"),
    (OutOfMemoryError, StoreDown, "is out of memory; raise its maxmemory"),
    (BusyLoadingError, StoreDown, "is loading its data; try again in a moment"),
    (TimeoutError, StoreDown, "does not answer in time; try again, and look at what keeps the server"),
    (ConnectionError, StoreDown, "cannot be reached; check the address and that the server runs"),
)  # fmt: skip


class RedisClient:
    """Two pools of connections to one server: reads wait for a short time, writes for a longer one.

    Parameters
    ----------
    url
        ``redis://host:port/db``, or ``rediss://`` for TLS, with the host's name checked.
    username, password
        Those of the URL come first.
    ssl_cafile
        PEM file of who signs the server's certificate; empty for the system's.
    timeout, write_timeout
        Seconds that a read and a write wait for an answer.

    Attributes
    ----------
    address
        The URL without user and password.
    remembered
        Seconds within which a write may be sent again.
    """

    def __init__(
        self, url: str, *, username: str, password: str, ssl_cafile: str, timeout: float, write_timeout: float
    ) -> None:
        scheme, host, port, db = parts(url)
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/{db}"
        given: dict[str, Any] = {"username": username or None, "password": password or None}
        if scheme == "rediss":
            given |= {"ssl_ca_certs": ssl_cafile or None, "ssl_check_hostname": True}
        self.remembered = round(2 * SENDS * (write_timeout + PAUSE)) + 1
        self.idle: list[Exchange] = []  # a pool of redis-py costs a read as much as Redis does
        self.owner = os.getpid()
        kind = SecureExchange if scheme == "rediss" else Exchange
        self.reads, self.writes = (
            Redis.from_url(
                url, **given, connection_class=kind, socket_timeout=each, socket_connect_timeout=each, socket_keepalive=True
            )
            for each in (timeout, write_timeout)
        )  # fmt: skip

    def close(self) -> None:
        """Close all connections."""
        while self.idle:
            self.idle.pop().disconnect()  # type: ignore[no-untyped-call]
        self.reads.close()
        self.writes.close()

    def error(self, error: RedisError) -> StoreError:
        """Return Redis' error as one line."""
        for kind, ours, what in MEANINGS:
            if isinstance(error, kind):
                return ours(f"store `{self.address}` {what}")
        text = str(error).partition("\n")[0]
        ours = StoreDown if text.startswith(PASSING) else StoreError
        return ours(f"store `{self.address}` failed: `{text}`; look at the server's log")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn Redis' errors into one line."""
        try:
            yield
        except RedisError as error:
            raise self.error(error) from error

    def transaction(self, commands: Sequence[bytes], counts: Sequence[int]) -> Reply:
        """Run HMGETs as one transaction by one round trip (`Exchange.transaction`)."""
        connection, fresh = self.connection()
        try:
            try:
                reply = connection.transaction(commands, counts)
            except ConnectionError:
                if fresh:
                    raise
                reply = connection.transaction(
                    commands, counts
                )  # it was closed while it was idle, by a restart perhaps
        except RedisError as error:
            raise self.error(error) from error
        self.idle.append(connection)
        return reply

    def connection(self) -> tuple[Exchange, bool]:
        """Return a connection for a read, and whether it is new; those of a process before a fork are left to it."""
        if self.owner != os.getpid():
            self.idle, self.owner = [], os.getpid()
        try:
            return self.idle.pop(), False
        except IndexError:
            return cast("Exchange", self.reads.connection_pool.make_connection()), True

    def command(self, *words: Word) -> Any:
        """Send one command as a write; errors are Redis' own."""
        return self.writes.execute_command(*words)  # type: ignore[no-untyped-call]

    def run(self, script: Script, words: Sequence[Word], of: Redis | None = None) -> Any:
        """Run a script, by its name where Redis knows it; as a read, or by the given connections."""
        client = self.reads if of is None else of
        with self.errors():
            try:
                return client.evalsha(script.sha, 0, *words)  # type: ignore[arg-type] # takes bytes and int as well
            except NoScriptError:  # the server is new or was restarted
                return client.eval(script.text, 0, *words)  # type: ignore[arg-type]

    def run_write(self, script: Script, words: Sequence[Word]) -> Any:
        """Run a script that may be sent again where nobody knows whether it was run: then it answers the same."""
        for _ in range(SENDS - 1):
            try:
                return self.run(script, words, self.writes)
            except StoreDown:
                time.sleep(PAUSE)
        return self.run(script, words, self.writes)


def parts(url: str) -> tuple[str, str, int, int]:
    """Return scheme, host, port and number of the database.

    Raises
    ------
    InputError
        If the URL has something else, or lacks the host; it is not shown, as a password may stand anywhere in it.
    """
    try:
        found = urlsplit(url)
        port, db = found.port or PORT, int(found.path.removeprefix("/") or 0)
    except ValueError:
        found, port, db = urlsplit("redis:"), 0, 0
    if not found.hostname or found.query or found.fragment:
        scheme = url.partition("://")[0]
        message = f"store `{scheme}://***` is no address; give {scheme}://HOST:PORT/0, no more"
        raise InputError(message)
    return found.scheme, found.hostname, port, db
