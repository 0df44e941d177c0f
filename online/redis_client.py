"""Speaks to Redis: connections with timeouts, scripts by their names, errors of one line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
from unskew.pipelines.errors import InputError, StoreDown, StoreError

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
    """

    def __init__(
        self, url: str, *, username: str, password: str, ssl_cafile: str, timeout: float, write_timeout: float
    ) -> None:
        given: dict[str, Any] = {"username": username or None, "password": password or None}
        if url.startswith("rediss:"):
            given |= {"ssl_ca_certs": ssl_cafile or None, "ssl_check_hostname": True}
        try:
            self.reads, self.writes = (
                Redis.from_url(url, **given, socket_timeout=each, socket_connect_timeout=each, socket_keepalive=True)
                for each in (timeout, write_timeout)
            )
        except ValueError as error:
            message = f"store `{url.partition('://')[0]}://...` cannot be used: {error}; give redis://HOST:PORT/0"
            raise InputError(message) from error
        known = self.reads.connection_pool.connection_kwargs
        host, port, db = known.get("host", "localhost"), known.get("port", 6379), known.get("db", 0)
        self.address = f"{url.partition('://')[0]}://{host}:{port}/{db}"

    def close(self) -> None:
        """Close all connections."""
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
