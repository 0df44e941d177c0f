"""Durations, the grid, window bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.timegrid import DAY, HOUR, MINUTE, Window, floor_hop, format_duration, make_window, parse_duration

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
