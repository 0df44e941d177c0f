"""Distances on the globe, of the operations of `portable` alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.portable import asin, cos, sin

Floats = NDArray[np.float64]
EARTH_RADIUS = 6371.0088  # km, the mean radius of the International Union of Geodesy and Geophysics
RADIANS = 1.74532925199432954744e-02  # in a degree
PI = 3.14159265358979311600e00
FARTHEST_LAT, FARTHEST_LON = 90.0, 180.0


def distance(lat_a: Floats, lon_a: Floats, lat_b: Floats, lon_b: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the great-circle distance on a sphere, by the haversine formula.

    ``2 R asin(sqrt(h))``, ``h = sin(dlat / 2)**2 + cos(lat_a) * cos(lat_b) * sin(dlon / 2)**2`` (R. W. Sinnott, "Virtues
    of the Haversine", Sky and Telescope 68, 1984). Past a quarter of the way around it loses half its digits, so there
    it is pi R less the distance of `a` from the antipode of `b`. Angles are subtracted in degrees, where that is exact
    for points that are near each other, the antimeridian or a pole.

    Parameters
    ----------
    lat_a, lon_a, lat_b, lon_b
        (n,) degrees.

    Returns
    -------
    tuple of numpy.ndarray
        (n,) km from 0 to pi R, the same for (a, b) and (b, a), 0 for equal points; and (n,) where it is defined: latitudes
        from -90 to 90 and longitudes from -180 to 180, all inclusive.
    """
    defined = within(lat_a, FARTHEST_LAT) & within(lat_b, FARTHEST_LAT)
    defined &= within(lon_a, FARTHEST_LON) & within(lon_b, FARTHEST_LON)
    lat_a, lon_a, lat_b, lon_b = (np.where(defined, each, 0.0) for each in (lat_a, lon_a, lat_b, lon_b))
    apart = angle_between(lon_a, lon_b)
    scale = sin_degrees(90.0 - np.abs(lat_a)) * sin_degrees(90.0 - np.abs(lat_b))
    near = haversine(np.abs(lat_a - lat_b), apart, scale)
    far = haversine(np.abs(lat_a + lat_b), 180.0 - apart, scale)
    angle = 2.0 * asin(np.sqrt(np.where(near < far, near, far)))
    return EARTH_RADIUS * np.where(near < far, angle, PI - angle), defined


def within(x: Floats, farthest: float) -> NDArray[np.bool_]:
    """Return where -farthest <= x <= farthest; not where x is NaN."""
    found: NDArray[np.bool_] = np.abs(x) <= farthest
    return found


def angle_between(a: Floats, b: Floats) -> Floats:
    """Return the smaller angle between two meridians, 0 to 180 degrees."""
    direct, across = np.abs(a - b), (180.0 - np.abs(a)) + (180.0 - np.abs(b))
    return np.where(direct < across, direct, across)


def haversine(lat: Floats, lon: Floats, scale: Floats) -> Floats:
    """Return ``sin(lat / 2)**2 + scale * sin(lon / 2)**2``; degrees from 0 to 180."""
    up, along = sin_degrees(0.5 * lat), sin_degrees(0.5 * lon)
    return up * up + scale * (along * along)


def sin_degrees(x: Floats) -> Floats:
    """Return the sine of 0 to 90 degrees; 0 and 1 at the ends."""
    small = x < 45.0  # noqa: PLR2004 - degrees; from there on 90 - x is exact
    angle = np.where(small, x, 90.0 - x) * RADIANS
    return np.where(small, sin(angle), cos(angle))
