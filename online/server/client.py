"""Clients of the feature server: the reads of `FeatureReader` over HTTP, from whichever server answers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx
import orjson
import pyarrow as pa

from unskew.online.live.settings import LAST_PORT
from unskew.online.server.attempts import AGAIN, Attempts, refused
from unskew.online.server.wire import ARROW, METADATA
from unskew.pipelines.arrow import python_values
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.timegrid import milliseconds

DEADLINE = 10.0  # seconds
ATTEMPT = 5.0  # seconds
PATH = "/v1/features"
# of both clients: connections at most, of which wait for the next read, and how many seconds
POOL: dict[str, Any] = {"max_connections": 100, "max_keepalive_connections": 20, "keepalive_expiry": 5.0}
NO_REPLY = (
    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectionNotAvailable,
)  # fmt: skip
HEAD = ("fingerprint", "at", "sources", "newest", "flags")  # of a reply, beside its values and the set's name
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ServedReading:
    """The reply to a read.

    Parameters
    ----------
    values
        One column for each feature, one row for each that was asked for.
    at
        The instant, ms, or one for each row.
    sources
        What was read of each source: `batch_end`, `cut`, `generation`, `epoch`.
    newest
        For each row by view the newest open tile: `start` (ms), `sequence`; None where there is none.
    flags
        For each row by view: ``ahead``, ``behind``, ``stale``, ``hidden``.
    """

    values: pa.Table
    set_name: str
    fingerprint: str
    at: int | list[int]
    sources: dict[str, dict[str, Any]]
    newest: list[dict[str, dict[str, int] | None]]
    flags: list[dict[str, list[str]]]

    def table(self) -> pa.Table:
        """Return the values as an Arrow table, one column for each feature."""
        return self.values

    def row(self) -> dict[str, Any]:
        """Return the first row's values as Python objects."""
        first = self.values.slice(0, 1)
        return {name: python_values(first[name])[0] for name in first.column_names}


class Base:
    """What both clients share.

    Parameters
    ----------
    urls
        Of one server or several: ``http://127.0.0.1:8080``.
    set_name
        The feature set; may be left out where the servers have one.
    key
        API key.
    deadline
        Seconds for a read with all its attempts.
    """

    def __init__(
        self, urls: str | Sequence[str], set_name: str | None = None, *, key: str = "", deadline: float = DEADLINE
    ) -> None:
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        if not self.urls:
            message = "no server was given; give its URL, e.g. http://127.0.0.1:8080"
            raise InputError(message)
        self.targets = {each: target(each) for each in self.urls}
        self.set_name = set_name
        self.deadline = deadline
        self.headers = {"content-type": "application/json", "accept": ARROW}
        self.headers |= {"authorization": f"Bearer {key}"} if key else {}
        self.first = 0

    def attempts(self) -> Attempts:
        """Return the attempts of one read; the server that answered last comes first."""
        return Attempts(self.urls, self.first, self.deadline, time.monotonic, random.random)

    def body(self, rows: Rows, at: int | Sequence[int] | None, features: Sequence[str] | None) -> bytes:
        """Return a request's body."""
        asked: dict[str, Any] = {"set": self.set_name, "features": features, "at": at}
        found = {name: value for name, value in asked.items() if value is not None} | {"rows": list(rows)}
        try:
            return orjson.dumps(found, default=written, option=orjson.OPT_PASSTHROUGH_DATETIME)
        except TypeError as error:
            message = f"the rows cannot be sent: {error}; give numbers, texts, booleans, instants or None"
            raise InputError(message) from None

    def request(self, attempts: Attempts, body: bytes) -> dict[str, Any]:
        """Return the next attempt, as both pools of connections take it."""
        seconds = min(attempts.left(), ATTEMPT)
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        url, headers = self.targets[attempts.url], self.headers
        return {"method": "POST", "url": url, "headers": headers, "content": body, "extensions": {"timeout": timeout}}

    def taken(self, attempts: Attempts, reply: httpcore.Response) -> float | None:
        """Return how long to wait before the next attempt; None where this one is final."""
        if reply.status not in AGAIN:
            self.first = attempts.at
            return None
        after = next((value.decode("latin-1") for name, value in reply.headers if name.lower() == b"retry-after"), "")
        return attempts.failed(problem(reply), float(after) if after.isdecimal() else None)


class Client(Base):
    """Reads features from servers; safe to share between threads."""

    def __init__(
        self, urls: str | Sequence[str], set_name: str | None = None, *, key: str = "", deadline: float = DEADLINE
    ) -> None:
        super().__init__(urls, set_name, key=key, deadline=deadline)
        self.http = httpcore.ConnectionPool(**POOL)

    def read(
        self, rows: Rows, at: int | Sequence[int] | None = None, features: Sequence[str] | None = None
    ) -> ServedReading:
        """Read features for rows of keys and request columns.

        Parameters
        ----------
        rows
            As `FeatureReader.read` takes them.
        at
            The instant in ms, or one for each row; None: the server's now.
        features
            Full names; None: all of the set.

        Raises
        ------
        InputError
            If the server refuses a row, a name or the key.
        StoreError
            If it cannot answer: an instant before `batch_end`; `StoreDown` where none answered in time.
        """
        body, attempts = self.body(rows, at, features), self.attempts()
        while True:
            try:
                reply = self.http.request(**self.request(attempts, body))
                wait = self.taken(attempts, reply)
            except NO_REPLY as error:
                wait = attempts.failed(f"{type(error).__name__}: {error}")
            if wait is None:
                return read_reply(attempts.url, reply)
            time.sleep(wait)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()


class AsyncClient(Base):
    """Reads features from servers on an event loop."""

    def __init__(
        self, urls: str | Sequence[str], set_name: str | None = None, *, key: str = "", deadline: float = DEADLINE
    ) -> None:
        super().__init__(urls, set_name, key=key, deadline=deadline)
        self.http = httpcore.AsyncConnectionPool(**POOL)

    async def read(
        self, rows: Rows, at: int | Sequence[int] | None = None, features: Sequence[str] | None = None
    ) -> ServedReading:
        """Read as `Client.read` does."""
        body, attempts = self.body(rows, at, features), self.attempts()
        while True:
            try:
                reply = await self.http.request(**self.request(attempts, body))
                wait = self.taken(attempts, reply)
            except NO_REPLY as error:
                wait = attempts.failed(f"{type(error).__name__}: {error}")
            if wait is None:
                return read_reply(attempts.url, reply)
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()


def written(value: Any) -> Any:
    """Return a value that JSON has no form for in the form that the server reads."""
    if isinstance(value, datetime):
        return milliseconds(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value.is_finite() else None
    if hasattr(value, "__index__"):
        return int(value)
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError


def target(url: str) -> httpcore.URL:
    """Return where a server is asked for features; refuse what is no address of one."""
    try:
        found = httpx.URL(url.rstrip("/") + PATH)
    except (httpx.InvalidURL, TypeError, AttributeError) as error:
        message = f"server `{url}` is no URL: {error}; write e.g. http://127.0.0.1:8080"
        raise InputError(message) from None
    more = found.userinfo or found.query or found.fragment
    if more or found.scheme not in ("http", "https") or not found.host or (found.port or 0) > LAST_PORT:
        shown = found.copy_with(username=None, password=None) if found.userinfo else url
        message = f"server `{shown}` is none that can be asked; write http:// or https://, its host and port, no more than a path"
        raise InputError(message)
    return httpcore.URL(scheme=found.raw_scheme, host=found.raw_host, port=found.port, target=found.raw_path)


def read_reply(url: str, reply: httpcore.Response) -> ServedReading:
    """Return a reading, or raise what the server refused."""
    if not 200 <= reply.status < 300:  # noqa: PLR2004
        raise refused(reply.status, problem(reply))
    try:
        with pa.ipc.open_stream(reply.content) as reader:
            table = reader.read_all()
        head = orjson.loads(table.schema.metadata[METADATA])
        known = {name: head[name] for name in HEAD}  # a newer server may say more
        return ServedReading(table.replace_schema_metadata(None), head["set"], **known)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        message = f"the reply of `{url}` is none of a feature server: {error}; check the URL"
        raise EngineError(message) from error


def problem(reply: httpcore.Response) -> str:
    """Return the line of a refusal."""
    try:
        return str(orjson.loads(reply.content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status}"
