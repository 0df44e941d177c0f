"""Replies that are not what was asked for: one form for all errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from unskew.pipelines.errors import EngineError, InputError, OtherDefinitions, StoreDown, UnskewError

JSON = b"application/json"
RETRY_SECONDS = 1
Headers = Sequence[tuple[bytes, bytes]]
STATUS: tuple[tuple[type[UnskewError], int, str], ...] = (  # of the library's errors, first match
    (InputError, 422, "invalid_row"),
    (StoreDown, 503, "store_down"),
    (OtherDefinitions, 503, "other_definitions"),
    (EngineError, 500, "engine_failed"),
    (UnskewError, 503, "store_cannot_answer"),
)


class Reply(NamedTuple):
    """A whole reply."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = ()


class Refusal(Exception):
    """A request that is not answered.

    Parameters
    ----------
    status
        Of HTTP.
    code
        One word for programs.
    message
        One line for people: what is wrong, what was given, what to do.
    retry_after
        Seconds after which the same request may succeed.
    close
        Whether the connection is of no further use: the request's body was not read.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.close = close

    def reply(self) -> Reply:
        """Return it as a reply."""
        headers = [] if self.retry_after is None else [(b"retry-after", str(self.retry_after).encode())]
        headers += [(b"www-authenticate", b"Bearer")] if self.status == 401 else []  # noqa: PLR2004
        return Reply(self.status, error_body(self.code, self.message), JSON, headers)


def error_body(code: str, message: str) -> bytes:
    """Return an error as JSON; what UTF-8 cannot write of the given value is escaped."""
    text = message.encode("utf-8", "backslashreplace").decode()
    return orjson.dumps({"error": {"code": code, "message": text}})


def of_error(error: UnskewError) -> Refusal:
    """Return the refusal for an error of the library."""
    status, code = next((status, code) for kind, status, code in STATUS if isinstance(error, kind))
    return Refusal(status, code, str(error), retry_after=RETRY_SECONDS if status == 503 else None)  # noqa: PLR2004
