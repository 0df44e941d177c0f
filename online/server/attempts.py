"""When and where a client tries again: no clock, no network, no randomness of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unskew.pipelines.errors import EngineError, InputError, StoreDown, StoreError, UnskewError

FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0  # seconds
AGAIN = (429, 502, 503, 504)
ERRORS: dict[int, type[UnskewError]] = {409: StoreError, 429: StoreDown, 500: EngineError}


class Attempts:
    """The attempts of one read: each server at once, then all of them again after a pause that doubles.

    Parameters
    ----------
    urls
        Of the servers.
    first
        The place among them that is tried first.
    deadline
        Seconds for all attempts together.
    now
        Monotonic seconds.
    jitter
        Gives a number from 0 to 1: the share of a pause that is taken.
    """

    def __init__(
        self,
        urls: Sequence[str],
        first: int,
        deadline: float,
        now: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.urls = urls
        self.at = first
        self.deadline = deadline
        self.now = now
        self.jitter = jitter
        self.end = now() + deadline
        self.failures = 0
        self.asked_to_wait: list[float] = []

    @property
    def url(self) -> str:
        """The server to try now."""
        return self.urls[self.at]

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(self.end - self.now(), 0.001)

    def failed(self, why: str, retry_after: float | None = None) -> float:
        """Go to the next server; return how many seconds to wait before it is tried.

        Parameters
        ----------
        retry_after
            Seconds that the server asked for.

        Raises
        ------
        StoreDown
            If the deadline comes first.
        """
        self.failures += 1
        self.at = (self.at + 1) % len(self.urls)
        self.asked_to_wait.append(retry_after or 0.0)
        wait = 0.0
        if self.failures % len(self.urls) == 0:  # none of them answered
            longest = min(FIRST_WAIT * 2.0 ** (self.failures // len(self.urls) - 1), LONGEST_WAIT)
            wait = max(longest * self.jitter(), min(self.asked_to_wait))
            self.asked_to_wait.clear()
        if self.now() + wait >= self.end:
            message = f"no server answered within {self.deadline:g} seconds, after {self.failures} attempts; the last one: {why}"
            raise StoreDown(message)
        return wait


def refused(status: int, message: str) -> UnskewError:
    """Return the error of the library for a reply that is final."""
    return ERRORS.get(status, InputError if status < 500 else StoreError)(message)  # noqa: PLR2004
