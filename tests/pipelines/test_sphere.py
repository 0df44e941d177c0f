"""Sines, arc sines and distances on the globe: accurate, and the same bits in the oracle."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unskew.pipelines.backends import oracle_derived
from unskew.pipelines.derived import Derived, evaluate
from unskew.pipelines.portable import asin, cos, sin
from unskew.pipelines.sphere import EARTH_RADIUS, distance, sin_degrees
from unskew.pipelines.states import Values

Floats = NDArray[np.float64]
Point = tuple[float, float]
EXACT = mpmath.mp.clone()
EXACT.prec = 250
VECTORS = [
    "0x1.bcc7c31cdc7acp+6",
    "0x1.b6bb75fa86512p+9",
    "0x1.f3a63881f87c6p+13",
    "0x1.5e4ea18fe3cc4p-10",
    "0x1.38bc75304b065p+14",
    "0x1.dd8d206ab825ep-10",
]
HALF_WAY = EARTH_RADIUS * math.pi
latitudes = st.floats(-90, 90) | st.sampled_from((-90.0, -45.0, -0.0, 0.0, 45.0, 90.0))
longitudes = st.floats(-180, 180) | st.sampled_from((-180.0, -90.0, -0.0, 0.0, 90.0, 180.0))
points = st.tuples(latitudes, longitudes)
draw = np.random.default_rng(7)
ANGLES = (
    np.concatenate([draw.uniform(-1, 1, 4_000), 2.0 ** draw.uniform(-400, 0, 1_000), [1.0, -1.0, 0.0]]) * math.pi / 4
)
PARTS = np.concatenate([
    draw.uniform(0, 1, 4_000), 2.0 ** draw.uniform(-400, 0, 500), 1 - 2.0 ** draw.uniform(-53, 0, 1_000),
    [0.0, 1.0, 0.5, np.nextafter(0.5, 0), np.nextafter(1, 0)],
])  # fmt: skip


def far(a: Point, b: Point) -> float:
    found, defined = distance(*(np.array([each]) for each in (*a, *b)))
    assert defined.tolist() == [True]
    return float(found[0])


def exact(a: Point, b: Point) -> Any:
    (up, east), (high, west) = ([each * EXACT.pi / 180 for each in map(EXACT.mpf, point)] for point in (a, b))
    h = EXACT.sin((up - high) / 2) ** 2 + EXACT.cos(up) * EXACT.cos(high) * EXACT.sin((east - west) / 2) ** 2
    return 2 * EXACT.mpf("6371.0088") * EXACT.asin(EXACT.sqrt(min(h, 1)))


@pytest.mark.parametrize(
    ("ours", "true", "x"), [(sin, EXACT.sin, ANGLES), (cos, EXACT.cos, ANGLES), (asin, EXACT.asin, PARTS)]
)
def test_functions_are_within_one_ulp(ours: Callable[[Floats], Floats], true: Callable[[Any], Any], x: Floats) -> None:
    for each, found in zip(x.tolist(), ours(x).tolist(), strict=True):
        expected = true(EXACT.mpf(each))
        assert abs(found - expected) <= math.ulp(expected), each


def test_sines_of_right_angles_are_whole() -> None:
    assert sin_degrees(np.array([0.0, 90.0])).tolist() == [0.0, 1.0]
    assert asin(np.array([0.0, 1.0])).tolist() == [0.0, math.pi / 2]


def neighbours(how_near: float, count: int = 300) -> list[tuple[Point, Point]]:
    """Return points up to so many degrees apart, some across the antimeridian and some around a pole."""
    found: list[tuple[Point, Point]] = []
    for _ in range(count):
        lat, lon, high, west = draw.uniform(-90, 90), draw.uniform(-180, 180), *draw.uniform(0, how_near, 2)
        found.append(((lat, lon), (lat + high * (-1 if lat > 0 else 1), lon + west * (-1 if lon > 0 else 1))))
        found.append(((lat, 180 - high), (lat, -180 + west)))
        found.append(((90 - high, lon), (90 - west, draw.uniform(-180, 180))))
    return found


def opposite(point: Point) -> Point:
    lat, lon = point
    return -lat, lon - 180 if lon > 0 else lon + 180


ANYWHERE = [
    ((lat, lon), (high, west))
    for lat, lon, high, west in zip(
        *(draw.uniform(-each, each, 1_000).tolist() for each in (90, 180, 90, 180)), strict=True
    )
]


@pytest.mark.parametrize(
    "pairs",
    [
        ANYWHERE,
        neighbours(1e-4),  # ten metres
        neighbours(1e-9),
        [(a, opposite(a)) for a, _ in ANYWHERE],
        [(a, opposite(b)) for a, b in (*neighbours(1e-4), *neighbours(1.0))],
    ],
    ids=["anywhere", "metres", "micrometres", "antipodes", "near antipodes"],
)
def test_distances_are_those_of_250_bits(pairs: list[tuple[Point, Point]]) -> None:
    for a, b in pairs:
        expected = exact(a, b)
        assert abs(far(a, b) - expected) <= 1e-15 * expected, (a, b)


def test_distances_by_hand() -> None:
    assert far((0.0, 0.0), (0.0, 90.0)) == pytest.approx(HALF_WAY / 2, rel=1e-15)
    assert far((90.0, 5.0), (-90.0, 77.0)) == far((0.0, 0.0), (0.0, 180.0)) == HALF_WAY
    assert far((10.0, 180.0), (10.0, -180.0)) == far((90.0, 3.0), (90.0, -170.0)) == 0.0
    assert far((52.52, 13.405), (48.8566, 2.3522)) == pytest.approx(877.46, abs=0.01)  # Berlin to Paris


@settings(deadline=None)
@given(points, points)
def test_distance_is_symmetric_and_at_most_half_way_around(a: Point, b: Point) -> None:
    assert far(a, b).hex() == far(b, a).hex()
    assert 0.0 <= far(a, b) <= HALF_WAY
    assert far(a, a) == 0.0


@settings(deadline=None)
@given(points, points)
def test_distance_gives_the_bits_of_the_oracles(a: Point, b: Point) -> None:
    ours = oracle_derived.distance(*a, *b)
    assert ours is not None
    assert ours.hex() == far(a, b).hex()


@pytest.mark.parametrize("pairs", [ANYWHERE, neighbours(1e-4), [(a, opposite(b)) for a, b in neighbours(1e-4)]])
def test_many_distances_give_the_bits_of_the_oracles(pairs: list[tuple[Point, Point]]) -> None:
    found, _ = distance(*np.array([(*a, *b) for a, b in pairs]).T)
    ours = [oracle_derived.distance(*a, *b) for a, b in pairs]
    assert [each.hex() for each in found.tolist()] == [None if each is None else each.hex() for each in ours]


def test_distance_gives_these_bits() -> None:
    pairs = [
        ((0.0, 0.0), (0.0, 1.0)), ((52.52, 13.405), (48.8566, 2.3522)), ((-33.8688, 151.2093), (40.7128, -74.006)),
        ((48.2, 16.4), (48.20001, 16.40001)), ((0.5, -179.5), (-0.5, 0.5)), ((89.99999, 10.0), (89.99999, -100.0)),
    ]  # fmt: skip
    assert [far(a, b).hex() for a, b in pairs] == VECTORS


@pytest.mark.parametrize("place", range(4))
def test_distance_is_null_outside_of_the_globe_and_for_null(place: int) -> None:
    edge = 90.0 if place % 2 == 0 else 180.0
    cells = [None, edge, -edge, math.nextafter(edge, 999), -math.nextafter(edge, 999), math.inf, -math.inf, math.nan]
    valid = np.array([each is not None for each in cells])
    x = Values(np.array([each or 0.0 for each in cells]), valid)
    args: list[Derived] = [("literal", 1.0)] * 4
    args[place] = ("feature", "x", 1)
    found = evaluate(("distance", *args), {"x": x}, len(cells))
    assert found.valid.tolist() == [False, True, True, False, False, False, False, False]
    ours = [oracle_derived.derived_value(("distance", *args), {"x": each}, {}) for each in cells]
    assert ours == [each if ok else None for each, ok in zip(found.data.tolist(), found.valid, strict=True)]
