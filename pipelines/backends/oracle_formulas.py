"""The oracle's aggregates: the value of each over the lifted values of one window."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from unskew.pipelines.backends.oracle_rows import INT64, Cell, comparable
from unskew.pipelines.errors import EngineError

Value = int | float | bool | str | None
Result = Value | list[Value] | dict[Value, Value]


@dataclass(frozen=True)
class Sample:
    """What a formula sees.

    Parameters
    ----------
    fields
        For each state field its lifted values without nulls, oldest first.
    t
        Instant of the read, ms.
    units
        Encoded units of each input.
    scaled
        Whether the value is a float64 of scaled integers.
    """

    fields: Sequence[Sequence[Cell]]
    t: int
    units: tuple[int, ...]
    scaled: bool

    def number(self, cell: Any) -> Any:
        """Return an encoded value in its own unit."""
        return float(cell) / float(self.units[0]) if self.scaled else cell


def total(cells: Sequence[Any]) -> int:
    """Return the exact sum, which must fit int64."""
    found = sum(cells)
    if not INT64[0] <= found <= INT64[1]:
        message = f"sum `{found}` passes int64; declare a tighter range or a shorter window"
        raise EngineError(message)
    return int(found)


def mean(sample: Sample) -> Value:
    """Return ``float64(sum) / float64(n * units)``."""
    values = sample.fields[0]
    return float(total(values)) / float(len(values) * sample.units[0]) if values else None


def ratio(sample: Sample) -> Value:
    """Return ``(float64(a) / float64(u)) / (float64(b) / float64(v))``; null where the divisor is 0."""
    top, bottom = (float(total(each)) / float(unit) for each, unit in zip(sample.fields, sample.units, strict=True))
    return top / bottom if bottom else None


def spread(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Return ``n * sum(xy) - sum(x) * sum(y)``."""
    products = sum(int(x) * int(y) for x, y in zip(left, right, strict=True))
    return len(left) * products - int(sum(left)) * int(sum(right))


def variance(sample: Sample) -> float | None:
    """Return ``f64(n * sum(xx) - sum(x)**2) / (f64(n) * f64(n)) / (f64(units) * f64(units))``."""
    values, units = sample.fields[0], float(sample.units[0])
    n = float(len(values))
    return float(spread(values, values)) / (n * n) / (units * units) if values else None


def stddev(sample: Sample) -> Value:
    """Return the square root of the variance."""
    found = variance(sample)
    return None if found is None else math.sqrt(found)


def covariance(sample: Sample) -> Value:
    """Return ``f64(n * sum(xy) - sum(x) * sum(y)) / (f64(n) * f64(n)) / (f64(u) * f64(v))``."""
    left, right = sample.fields[:2]
    n, units = float(len(left)), float(sample.units[0]) * float(sample.units[1])
    return float(spread(left, right)) / (n * n) / units if left else None


def correlation(sample: Sample) -> Value:
    """Return ``f64(Nxy) / (sqrt(f64(Nxx)) * sqrt(f64(Nyy)))``; null where a side does not vary."""
    left, right = sample.fields[:2]
    below = math.sqrt(float(spread(left, left))) * math.sqrt(float(spread(right, right)))
    return float(spread(left, right)) / below if below else None


def first_of(order: Callable[[Sequence[Any]], Sequence[Any]]) -> Callable[[Sample, int], Result]:
    """Return a formula for the first k values in an order; null where there is none."""
    return lambda sample, k: [sample.number(each) for each in order(sample.fields[0])[:k]] or None


def by_frequency(values: Sequence[Any]) -> list[Any]:
    """Return the different values by descending count, equally frequent ones ascending."""
    return sorted(sorted(set(values), key=comparable), key=values.count, reverse=True)


def histogram(sample: Sample) -> Result:
    """Return the count of each value, by ascending value; null where there is none."""
    values = sample.fields[0]
    return {unit(each, sample.units[0]): values.count(each) for each in sorted(set(values), key=comparable)} or None


def unit(cell: Any, units: int) -> Any:
    """Return an encoded value as a number, where it is scaled."""
    return cell if units == 1 else float(cell) / float(units)


def quantile(sample: Sample, millionths: int) -> Value:
    """Return the value of rank ``ceil(q * n)``, counted from 1."""
    values = sorted(sample.fields[0])  # type: ignore[type-var]
    rank = math.ceil(Fraction(millionths * len(values), 1_000_000))
    return sample.number(values[rank - 1]) if values else None


def powers(sample: Sample) -> tuple[list[int], int]:
    """Return the values of a sum's field that could be divided by nothing, and ``n * S2 - S1**2``."""
    values = [int(each) for each in sample.fields[0]]  # type: ignore[arg-type]
    return values, spread(values, values)


def skewness(sample: Sample) -> Value:
    """Return ``f64(N3) / (f64(N2) * sqrt(f64(N2)))``; null where the value does not vary."""
    values, two = powers(sample)
    n, mean_of = len(values), sum(values)
    three = sum((n * each - mean_of) ** 3 for each in values) // n if n else 0
    return float(three) / (float(two) * math.sqrt(float(two))) if two else None


def kurtosis(sample: Sample) -> Value:
    """Return ``f64(N4) / (f64(N2) * f64(N2)) - 3``; null where the value does not vary."""
    values, two = powers(sample)
    n, mean_of = len(values), sum(values)
    four = sum((n * each - mean_of) ** 4 for each in values) // n if n else 0
    return float(four) / (float(two) * float(two)) - 3.0 if two else None


def slope(sample: Sample) -> Value:
    """Return ``f64(Ntx) / f64(Ntt) * 1000 / f64(units)`` of the values and the digits of their event times."""
    values, digits = sample.fields[0], sample.fields[2:5]
    times = [low + (middle << 16) + (high << 32) for low, middle, high in zip(*digits, strict=True)]
    two = spread(times, times)
    return float(spread(times, values)) / float(two) * 1000.0 / float(sample.units[0]) if two else None


def approx_count_distinct(sample: Sample) -> Value:
    """Return Ertl's estimate from the largest rank of each register."""
    registers: dict[int, int] = {}
    for each in sample.fields[0]:
        registers[int(each) // 64] = max(registers.get(int(each) // 64, 0), int(each) % 64)  # type: ignore[arg-type]
    if not registers:
        return 0
    ranks = list(registers.values())
    z, x, y = 0.0, 1.0 - ranks.count(53) / 4096, 1.0
    if 0 < x < 1:
        z, before = 1.0 - x, -1.0
        while z != before:
            x, y, before = math.sqrt(x), 0.5 * y, z
            z = z - (1.0 - x) * (1.0 - x) * y
        z = 4096 * (z / 3.0)
    for rank in range(52, 0, -1):
        z = 0.5 * (z + ranks.count(rank))
    x, y = (4096 - len(ranks)) / 4096, 1.0
    total, before = x, -1.0
    while total != before:
        x, before = x * x, total
        total, y = total + x * y, y + y
    return math.floor(4096 * 4096 / (2.0 * 0.6931471805599453) / (z + 4096 * total) + 0.5)


def one_of(choose: Callable[[Sequence[Any]], Any]) -> Callable[[Sample], Value]:
    """Return a formula that picks one value; null where there is none."""
    return lambda sample: sample.number(choose(sample.fields[0])) if sample.fields[0] else None


def since(choose: Callable[[Sequence[Any]], Any]) -> Callable[[Sample], Value]:
    """Return a formula for the ms from one event time to the instant of the read."""
    return lambda sample: sample.t - choose(sample.fields[0]) if sample.fields[0] else None


ENCODED: dict[str, Callable[[Sequence[Any]], Any]] = {"count": total, "sum": total, "min": min, "max": max}


def nested(outer: str, inner: Sequence[int], units: int, scaled: bool) -> Value:
    """Return an aggregate over the encoded values of categories: exact integers first, then float64."""
    n = len(inner)
    if outer == "count":
        return n
    if outer in ("sum", "min", "max"):
        if not inner and outer != "sum":
            return None
        found = total(inner) if outer == "sum" else (min if outer == "min" else max)(inner)
        return float(found) / float(units) if scaled else found
    if not inner:
        return None
    if outer == "mean":
        return float(sum(inner)) / float(n * units)
    spread_of = float(spread(inner, inner)) / (float(n) * float(n)) / (float(units) * float(units))
    return spread_of if outer == "variance" else math.sqrt(spread_of)


FORMULAS: dict[str, Callable[..., Result]] = {
    "count": lambda sample: total(sample.fields[0]),
    "sum": lambda sample: sample.number(total(sample.fields[0])),
    "mean": mean,
    "ratio": ratio,
    "variance": variance,
    "stddev": stddev,
    "covariance": covariance,
    "correlation": correlation,
    "min": one_of(min),
    "max": one_of(max),
    "first": one_of(lambda values: values[0]),
    "last": one_of(lambda values: values[-1]),
    "time_since_first": since(min),
    "time_since_last": since(max),
    "first_k": first_of(lambda values: values),
    "last_k": first_of(lambda values: values[::-1]),
    "top_k": first_of(lambda values: sorted(values, reverse=True)),
    "bottom_k": first_of(sorted),
    "histogram": histogram,
    "mode": one_of(lambda values: by_frequency(values)[0]),
    "top_k_frequent": first_of(by_frequency),
    "quantile": quantile,
    "skewness": skewness,
    "kurtosis": kurtosis,
    "slope": slope,
    "approx_count_distinct": approx_count_distinct,
    "count_distinct": lambda sample: len(set(sample.fields[0])),
}
