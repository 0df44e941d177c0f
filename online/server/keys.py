"""API keys: who may read which sets and post which events, and how often."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from unskew.online.live.settings import KeySettings
from unskew.online.server.refusal import Refusal

PREFIX = "unskew_"
SCHEME = b"bearer "
ALL = "*"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def new_key() -> tuple[str, str]:
    """Return a new key of 256 random bits, and its hash for the settings."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, hash_of(key.encode())


def hash_of(key: bytes) -> str:
    """Return the sha256 of a key in hex; its 256 random bits need no salt."""
    return hashlib.sha256(key).hexdigest()


@dataclass
class Bucket:
    """A token bucket that holds one second's requests.

    Parameters
    ----------
    rate
        Requests a second.
    """

    rate: int
    tokens: float = 0.0
    filled: float = -math.inf  # monotonic seconds

    def take(self, now: float) -> float:
        """Take a token and return 0, or return after how many seconds there will be one."""
        self.tokens = min(float(self.rate), self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


class Caller:
    """Who asks, and what for is allowed.

    Parameters
    ----------
    key
        None where the server knows no keys: everything is allowed.
    """

    def __init__(self, key: KeySettings | None) -> None:
        self.key = key
        self.bucket = Bucket(key.rate) if key is not None and key.rate else None

    def admit(self) -> None:
        """Refuse a request that comes too soon after the others."""
        wait = self.bucket.take(time.monotonic()) if self.bucket is not None else 0.0
        if wait and self.key is not None:
            message = f"key `{self.key.name}` passes its rate of {self.key.rate} requests a second; slow down"
            raise Refusal(429, "too_many_requests", message, retry_after=math.ceil(wait))

    def check(self, what: str, name: str) -> None:
        """Refuse a set, or a source's events, that the key is not for."""
        if not self.may(what, name) and self.key is not None:
            message = f"key `{self.key.name}` is not for {what} `{name}`; add it to the key's settings"
            raise Refusal(403, "forbidden", message)

    def may(self, what: str, name: str) -> bool:
        """Return whether the key is for a ``set``, or for the ``events`` of a source."""
        if self.key is None:
            return True
        granted: Collection[str] = self.key.sets if what == "set" else self.key.events
        return ALL in granted or name in granted


class KeyRing:
    """The keys of a server.

    Parameters
    ----------
    keys
        Of the settings.
    local
        Without keys: whether requests must be addressed to this machine by its loopback names. A page in a
        browser could otherwise have its own name point here and read the replies.
    """

    def __init__(self, keys: Sequence[KeySettings], *, local: bool) -> None:
        self.callers = [(each.sha256.encode(), Caller(each)) for each in keys]
        self.anyone = Caller(None)
        self.local = local and not keys

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return who asks.

        Raises
        ------
        Refusal
            401 without a known key, 403 for a page of a browser where no keys protect the server.
        """
        if not self.callers:
            self.check_local(headers)
            return self.anyone
        given = headers.get(b"authorization", b"")
        key = given[len(SCHEME) :].strip() if given[: len(SCHEME)].lower() == SCHEME else b""
        found, own = None, hash_of(key).encode()
        for each, caller in self.callers:  # all of them, so that the time tells nothing
            if hmac.compare_digest(each, own):
                found = caller
        if found is None or not key:
            message = "no known key was given; send `Authorization: Bearer KEY`"
            raise Refusal(401, "unauthorized", message)
        return found

    def check_local(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse what a page in a browser sends: no key keeps it out."""
        if b"origin" in headers:
            message = "requests of web pages need a key; give the server keys in [[server.keys]]"
            raise Refusal(403, "forbidden", message)
        if self.local:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
            if name not in LOOPBACK:
                message = f"host `{host}` is no loopback name, and the server has no keys; ask 127.0.0.1"
                raise Refusal(403, "forbidden", message)
