"""Finishes: the value of each aggregate from its states. Integers first, then one stated sequence of float64 operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import comb

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.moments import BITS, POWER_BITS, TIME_BITS, TIME_DIGITS, exactly, numerator, power_weights
from unskew.pipelines.states import Finish, Values, counted, prefix_sums

MILLION = 1_000_000  # parts of a quantile's parameter
SECOND = 1000.0  # ms
Finisher = Callable[[Sequence[Values], Finish], Values]


def finish_value(states: Sequence[Values], context: Finish) -> Values:
    """Return the state itself; scaled integers as ``float64(x) / float64(units)``."""
    return in_units(states[0], (context.units or (1,))[0])


def in_units(state: Values, units: int) -> Values:
    """Return encoded integers as they are where they have no digits after the point, else as ``float64(x) / float64(units)``."""
    if units == 1:
        return state
    return Values(state.data.astype(np.float64) / np.float64(units), state.valid, state.offsets)


def finish_count(states: Sequence[Values], _: Finish) -> Values:
    """Return the count itself, whatever the unit of what was counted."""
    return states[0]


def quotient(top: NDArray[np.generic], bottom: NDArray[np.float64]) -> Values:
    """Divide in float64; null where the divisor is 0."""
    valid = bottom != 0
    return Values(top.astype(np.float64) / np.where(valid, bottom, 1.0), valid)


def finish_mean(states: Sequence[Values], context: Finish) -> Values:
    """Return ``float64(sum) / float64(n * units)``."""
    total, n = states
    return quotient(total.data, (n.data.astype(np.int64) * context.units[0]).astype(np.float64))


def finish_variance(states: Sequence[Values], context: Finish) -> Values:
    """Return ``f64(n * sum(xx) - sum(x)**2) / (f64(n) * f64(n)) / (f64(units) * f64(units))``, of the population."""
    x, n, *parts = (each.data.astype(np.int64) for each in states)
    return moment(numerator(n, x, x, parts), n, context.units[0], context.units[0])


def finish_stddev(states: Sequence[Values], context: Finish) -> Values:
    """Return the square root of the variance."""
    found = finish_variance(states, context)
    return Values(root(found.data), found.valid)


def finish_covariance(states: Sequence[Values], context: Finish) -> Values:
    """Return ``f64(n * sum(xy) - sum(x) * sum(y)) / (f64(n) * f64(n)) / (f64(u) * f64(v))``, of the population."""
    x, y, n, *parts = (each.data.astype(np.int64) for each in states)
    return moment(numerator(n, x, y, parts), n, *context.units)


def finish_correlation(states: Sequence[Values], _: Finish) -> Values:
    """Return ``f64(Nxy) / (sqrt(f64(Nxx)) * sqrt(f64(Nyy)))`` of the numerators; null where a side does not vary."""
    x, y, n, *parts = (each.data.astype(np.int64) for each in states)
    both, own, other = parts[:4], parts[4:7], parts[7:]
    spread = root(numerator(n, x, x, own)) * root(numerator(n, y, y, other))
    valid = spread != 0
    return Values(numerator(n, x, y, both) / np.where(valid, spread, 1.0), valid)


def root(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return square roots; NaN for a negative number, which sums of the same events cannot give."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.sqrt(values.astype(np.float64))
    return found


def moment(top: NDArray[np.float64], n: NDArray[np.int64], left: int, right: int) -> Values:
    """Return a second moment in the inputs' units; null for n = 0."""
    valid = n > 0
    rows = np.where(valid, n, 1).astype(np.float64)
    return Values(top / (rows * rows) / (np.float64(left) * np.float64(right)), valid)


def finish_ratio(states: Sequence[Values], context: Finish) -> Values:
    """Return ``(float64(top) / float64(units)) / (float64(bottom) / float64(units))``."""
    top, bottom = (
        Values(each.data.astype(np.float64) / np.float64(units), each.valid)
        for each, units in zip(states, context.units, strict=True)
    )
    return quotient(top.data, bottom.data.astype(np.float64))


def finish_since(states: Sequence[Values], context: Finish) -> Values:
    """Return ``t - ts`` in milliseconds."""
    state = states[0]
    return Values(context.at - np.where(state.valid, state.data.astype(np.int64), context.at), state.valid)


def power_sums(states: Sequence[Values], degree: int) -> list[NDArray[np.object_]]:
    """Return n and the exact sums of the powers 1 to `degree`, (r,) of Python integers each."""
    x, n, *parts = (each.data.astype(np.int64) for each in states)
    digits = 1
    while sum(comb(digits + power - 1, power) for power in range(2, degree + 1)) < len(parts):
        digits += 1
    sizes = [comb(digits + power - 1, power) for power in range(2, degree + 1)]
    found = [n.astype(object), x.astype(object)]
    for power, end in enumerate(accumulate(sizes), 2):
        own = parts[end - sizes[power - 2] : end]
        found.append(exactly(own, power_weights(digits, POWER_BITS, power)))
    return found


def floats(exact: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return exact integers, each rounded once."""
    return exact.astype(np.float64)


def finish_skewness(states: Sequence[Values], _: Finish) -> Values:
    """Return ``f64(N3) / (f64(N2) * sqrt(f64(N2)))``, of the population; null where the value does not vary.

    ``N2 = n*S2 - S1**2`` and ``N3 = n**2*S3 - 3*n*S1*S2 + 2*S1**3``, exact, S the sums of powers.
    """
    n, s1, s2, s3 = power_sums(states, 3)
    spread = floats(n * s2 - s1**2)
    return quotient(floats(n**2 * s3 - 3 * n * s1 * s2 + 2 * s1**3), spread * root(spread))


def finish_kurtosis(states: Sequence[Values], _: Finish) -> Values:
    """Return ``f64(N4) / (f64(N2) * f64(N2)) - 3``, the excess of the population; null where the value does not vary.

    ``N2 = n*S2 - S1**2`` and ``N4 = n**3*S4 - 4*n**2*S1*S3 + 6*n*S1**2*S2 - 3*S1**4``, exact.
    """
    n, s1, s2, s3, s4 = power_sums(states, 4)
    spread = floats(n * s2 - s1**2)
    top = floats(n**3 * s4 - 4 * n**2 * s1 * s3 + 6 * n * s1**2 * s2 - 3 * s1**4)
    found = quotient(top, spread * spread)
    return Values(found.data.astype(np.float64) - 3.0, found.valid)


def finish_slope(states: Sequence[Values], context: Finish) -> Values:
    """Return ``f64(n*sum(tx) - sum(t)*sum(x)) / f64(n*sum(tt) - sum(t)**2) * 1000 / f64(units)``, per second.

    Null where all event times are equal.
    """
    x, n, *parts = (each.data.astype(np.int64) for each in states)
    squares = comb(TIME_DIGITS + 1, 2)
    times = [1 << TIME_BITS * place for place in range(TIME_DIGITS)]
    t = exactly(parts[:TIME_DIGITS], times)
    tt = exactly(parts[TIME_DIGITS : TIME_DIGITS + squares], power_weights(TIME_DIGITS, TIME_BITS, 2))
    tx = exactly(parts[TIME_DIGITS + squares :], [time << bits for time in times for bits in (BITS, 0)])
    rows = n.astype(object)
    found = quotient(floats(rows * tx - t * x.astype(object)), floats(rows * tt - t**2))
    return Values(found.data.astype(np.float64) * SECOND / np.float64(context.units[0]), found.valid)


def finish_histogram(states: Sequence[Values], context: Finish) -> Values:
    """Return the counts by value; scaled integers as ``float64(x) / float64(units)``."""
    _, counts = counted(states[0])
    keys = finish_value(states, context)
    return Values(keys.data, keys.valid, keys.offsets, None, (Values(counts, np.ones(len(counts), np.bool_)),))


def most_frequent(state: Values, k: int) -> Values:
    """Return at most k values of each row by descending count, equal ones ascending."""
    offsets, counts = counted(state)
    lengths = np.diff(offsets)
    row = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((-counts, row))  # stable: values ascend
    kept = np.arange(len(order)) - offsets[row] < k
    return state.entries(order[kept], prefix_sums(np.minimum(lengths, k)))


def finish_top_k_frequent(states: Sequence[Values], context: Finish) -> Values:
    """Return the k most frequent values, the smaller of equally frequent ones first."""
    found = most_frequent(states[0], context.parameters[0])
    return finish_value([Values(found.data, found.valid, found.offsets)], context)


def finish_mode(states: Sequence[Values], context: Finish) -> Values:
    """Return the most frequent value, the smallest of equally frequent ones."""
    found = most_frequent(states[0], 1)
    return finish_value([one_each(found)], context)


def one_each(values: Values) -> Values:
    """Return rows of at most one entry as scalars."""
    data = np.zeros(len(values.valid), values.data.dtype)
    data[values.valid] = values.data
    return Values(data, values.valid)


def finish_quantile(states: Sequence[Values], context: Finish) -> Values:
    """Return the value of rank ``ceil(q * n)``, counted from 1."""
    state = states[0]
    offsets, counts = counted(state)
    below = prefix_sums(counts)
    rank = -(-np.diff(below[offsets]) * context.parameters[0] // MILLION)
    at = np.searchsorted(below, (below[offsets[:-1]] + rank)[state.valid]) - 1
    return finish_value([one_each(Values(state.data[at], state.valid))], context)


def by_category(finish: Finisher, state: Values, key_units: int, context: Finish) -> Values:
    """Apply a finish to each category's states; a category whose value is null is left out."""
    offsets, _ = counted(state)
    lengths = np.diff(offsets)
    value = finish(state.inner, Finish(np.repeat(context.at, lengths), context.units, context.parameters))
    offsets = prefix_sums(value.valid)[offsets]
    keys = in_units(Values(state.data[value.valid], np.diff(offsets) > 0, offsets), key_units)
    found = value.data[value.valid]
    return Values(keys.data, keys.valid, offsets, None, (Values(found, np.ones(len(found), np.bool_)),))
