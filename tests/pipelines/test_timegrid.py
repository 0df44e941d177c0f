"""Durations, the grid, window bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.timegrid import (
    DAY,
    HOUR,
    MINUTE,
    Window,
    floor_hop,
    format_duration,
    make_window,
    parse_duration,
    parse_instant,
)

instants = st.integers(-(2**45), 2**45)


def test_a_window_without_delay() -> None:
    #   ts:   0    5   10   15   20
    #   t=17               . [head, strict: an event at 17 is outside
    #   W=10, hop=5
    #        tail = floor(17 - 10) = 5 [-----------)
    window = Window(10, 5)
    assert (window.tail(17), window.head(17)) == (5, 17)


def test_a_window_with_delay() -> None:
    #   ts:   0    5   10   15   20   25
    #   t=27, delay=10: head = floor(17) = 15, tail = floor(7) = 5, both on the grid
    window = Window(10, 5, 10)
    assert (window.tail(27), window.head(27)) == (5, 15)


def test_the_grid_floors_before_1970() -> None:
    assert floor_hop(-1, 1000) == -1000
    assert Window(2000, 1000).tail(-1) == -3000


@given(instants, st.sampled_from([("1h", None), ("1d", None), ("30d", None), ("10s", "1s"), ("1d", "1ms")]))
def test_a_window_spans_what_its_bound_says(t: int, declared: tuple[str, str | None]) -> None:
    window = make_window(*declared)
    shortest, longest = window.span
    assert shortest <= window.head(t) - window.tail(t) <= longest
    assert window.tail(t) % window.hop == 0


@given(st.integers(1, 10**12))
def test_durations_round_trip(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@pytest.mark.parametrize(("size", "hop"), [("11h", 5 * MINUTE), ("12h", HOUR), ("11d", HOUR), ("12d", DAY)])
def test_default_hops(size: str, hop: int) -> None:
    assert make_window(size).hop == hop


@pytest.mark.parametrize("text", ["", "0d", "-1h", "1.5h", "1 h", "d", "1week", "\uff11h"])
def test_bad_durations_are_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="is not a positive integer with"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "hop", "delay", "message"),
    [
        ("36h", "1d", None, "window `36h` is no multiple of its hop `1d`"),
        ("14d", "2d", None, "hop `2d` does not divide a day"),
        ("7h", "7h", None, "hop `7h` does not divide a day"),
        ("1h", "5min", "7min", "delay `7min` is no multiple of the hop `5min`"),
    ],
)
def test_windows_off_the_grid_are_refused(size: str, hop: str, delay: str | None, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make_window(size, hop, delay)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1969-12-31T23:59:59.9999Z", -1),  # 0.1 ms before the epoch: floored
        ("2024-01-01", 1_704_067_200_000),  # 19,723 days
        ("2024-01-01T01:00:00+01:00", 1_704_067_200_000),
    ],
)
def test_instants_are_floored_milliseconds_utc(text: str, instant: int) -> None:
    assert parse_instant(text) == instant


def test_the_longest_duration() -> None:
    assert parse_duration("3650000d") == 3_650_000 * DAY
    with pytest.raises(DefinitionError, match="longer than any log"):
        parse_duration("3650001d")


def test_a_lifetime_reaches_from_the_year_9999_back_to_the_year_1() -> None:
    last, first = parse_instant("9999-12-31"), parse_instant("0001-01-01")
    assert last is not None
    assert first is not None
    assert make_window("lifetime").tail(last) < first


def test_a_daily_window_ends_at_midnight_before_its_delay() -> None:
    #   day:      0          1          2   . 2d + 30min
    #   daily, no delay                 )   head = 2d
    #   daily, delay 1h      )          .   head = floor(2d - 30min) = 1d
    t = 2 * DAY + 30 * MINUTE
    window = make_window("2h", "1h", accuracy="daily")
    assert (window.tail(t), window.head(t)) == (2 * DAY - 2 * HOUR, 2 * DAY)
    delayed = make_window("2h", "1h", "1h", "daily")
    assert (delayed.tail(t), delayed.head(t)) == (DAY - 2 * HOUR, DAY)
    exact = make_window("2h", "1h")
    assert (exact.tail(t), exact.head(t)) == (2 * DAY - 2 * HOUR, t)


def test_spans_and_finite_sizes() -> None:
    assert Window(10, 5).span == (10, 14)  # from a tail on the grid to one 4 ms after it
    assert Window(10, 5, 10).span == (10, 10)
    assert Window(10, 5, align=20).span == (10, 10)
    lifetime = make_window("lifetime")
    assert lifetime.span == (lifetime.size, lifetime.size)
    assert (Window(10, 5).finite_size, lifetime.finite_size) == (10, 0)
