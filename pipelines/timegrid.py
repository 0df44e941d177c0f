"""Durations, the grid and window bounds: pure integer arithmetic in milliseconds.

All instants are int64 milliseconds since the epoch, UTC. Every function takes a
Python int or a NumPy int64 array: floor division floors in both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.errors import DefinitionError

Instant = TypeVar("Instant", int, NDArray[np.int64])
Accuracy = Literal["exact", "daily"]

MILLISECOND, SECOND, MINUTE = 1, 1_000, 60_000
HOUR, DAY = 3_600_000, 86_400_000
LONGEST = 3_650_000 * DAY  # ms, of a duration: about the years 1 to 9999
LIFETIME = 10**9 * DAY  # ms; the tail of such a window lies before any event
UNITS = {"ms": MILLISECOND, "s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY}
DURATION = re.compile(r"([1-9][0-9]*)(ms|s|min|h|d)")


def parse_duration(text: str) -> int:
    """Read a duration such as ``"1h"``.

    Parameters
    ----------
    text
        A positive integer and a unit: ``ms``, ``s``, ``min``, ``h`` or ``d``.

    Returns
    -------
    int
        Milliseconds.

    Raises
    ------
    DefinitionError
        If the text is not of that form.

    Examples
    --------
    >>> parse_duration("90min")
    5400000
    """
    match = DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        message = f'duration `{text}` is not a positive integer with ms, s, min, h or d; use e.g. "1h"'
        raise DefinitionError(message)
    found = int(match[1]) * UNITS[match[2]]
    if found > LONGEST:
        message = (
            f'duration `{text}` is longer than {LONGEST // DAY}d, longer than any log; use "lifetime" for a window'
        )
        raise DefinitionError(message)
    return found


def parse_instant(text: str | None) -> int | None:
    """Read an ISO instant such as ``"2024-01-01"`` or ``"2024-01-01T00:00:00Z"``; without a zone it is UTC.

    Returns
    -------
    int or None
        Milliseconds since the epoch, floored; None for None.

    Examples
    --------
    >>> parse_instant("1970-01-02")
    86400000
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        message = f'instant `{text}` is no ISO date or time; use e.g. "2024-01-01"'
        raise DefinitionError(message) from None
    return milliseconds(found)


def milliseconds(moment: datetime) -> int:
    """Return a moment as ms since the epoch, floored; without a zone it is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def format_duration(milliseconds: int) -> str:
    """Write a duration in the largest unit that divides it.

    Examples
    --------
    >>> format_duration(86_400_000), format_duration(90_000), format_duration(0)
    ('1d', '90s', '0')
    >>> format_duration(LIFETIME)
    'lifetime'
    """
    if milliseconds in (0, LIFETIME):
        return "lifetime" if milliseconds else "0"
    unit = next(name for name, size in reversed(UNITS.items()) if milliseconds % size == 0)
    return f"{milliseconds // UNITS[unit]}{unit}"


def floor_hop(ts: Instant, hop: int) -> Instant:
    """Return the start of the tile that holds `ts`; tiles are ``[start, start + hop)``.

    Examples
    --------
    >>> floor_hop(299_999, 300_000), floor_hop(300_000, 300_000), floor_hop(-1, 300_000)
    (0, 300000, -300000)
    """
    return ts // hop * hop


def default_hop(size: int) -> int:
    """Return the hop of a window that declares none: 1 d from 12 d on, 1 h from 12 h on, else 5 min."""
    if size >= 12 * DAY:
        return DAY
    return HOUR if size >= 12 * HOUR else 5 * MINUTE


@dataclass(frozen=True)
class Window:
    """A sliding window on a grid, ``tail <= ts < head`` (design section 2).

    Parameters
    ----------
    size
        Declared length, ms.
    hop
        Grid of the tail (and of the head, where there is a delay), ms.
    delay
        How far the head stays behind the instant, ms.
    align
        Grid of the head where it is not the default: a multiple of the hop, ms.
    """

    size: int
    hop: int
    delay: int = 0
    align: int = 0

    def __post_init__(self) -> None:
        """Refuse a window that the grid cannot hold."""
        size, hop, delay = (format_duration(each) for each in (self.size, self.hop, self.delay))
        if self.hop > DAY or DAY % self.hop:
            message = f"hop `{hop}` does not divide a day; use a divisor of 1d such as 5min or 1h"
            raise DefinitionError(message)
        if self.size % self.hop:
            message = f"window `{size}` is no multiple of its hop `{hop}`; declare a hop that divides it"
            raise DefinitionError(message)
        if self.delay % self.hop:
            message = f"delay `{delay}` is no multiple of the hop `{hop}`; use a smaller hop or a longer delay"
            raise DefinitionError(message)

    @property
    def head_grid(self) -> int:
        """Grid of the head, ms; 0 where the head is the instant itself."""
        return self.align or (self.hop if self.delay else 0)

    def tail(self, t: Instant) -> Instant:
        """Return the first instant inside the window at `t` (inclusive)."""
        return floor_hop(self.head(t) - self.size, self.hop)

    def head(self, t: Instant) -> Instant:
        """Return the first instant after the window at `t` (exclusive)."""
        return floor_hop(t - self.delay, self.head_grid) if self.head_grid else t

    @property
    def span(self) -> tuple[int, int]:
        """Shortest and longest length that the window has in truth, ms, both inclusive."""
        if self.head_grid or self.size == LIFETIME:
            return self.size, self.size
        return self.size, self.size + self.hop - 1

    @property
    def finite_size(self) -> int:
        """Length, ms; 0 of a lifetime, whose tail is no edge that an event can meet."""
        return 0 if self.size == LIFETIME else self.size

    def label(self) -> str:
        """Return the suffix of a feature's name, e.g. ``1d``."""
        return format_duration(self.size)


def make_window(
    size: str, hop: str | None = None, delay: str | None = None, accuracy: Accuracy = "exact", least: int = 0
) -> Window:  # fmt: skip
    """Build a window from durations as text; the default hop follows the size.

    Parameters
    ----------
    size
        A duration, or ``"lifetime"``.
    accuracy
        ``exact``: up to the instant; ``daily``: up to the last midnight, UTC, before the delay.
    least
        The finest default hop, ms.

    Examples
    --------
    >>> make_window("30d").hop == DAY
    True
    """
    if accuracy not in ("exact", "daily"):
        message = f'accuracy `{accuracy}` is unknown; use "exact" or "daily"'
        raise DefinitionError(message)
    length = LIFETIME if size == "lifetime" else parse_duration(size)
    grid = parse_duration(hop) if hop else max(default_hop(length), least)
    return Window(length, grid, parse_duration(delay) if delay else 0, DAY if accuracy == "daily" else 0)
