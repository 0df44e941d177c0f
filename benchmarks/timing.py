"""How long calls take. Peers run this in Pythons of their own, so it needs nothing of ours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def seconds_of(work: Callable[[int], object], calls: int) -> list[float]:
    """Return the seconds of each of so many calls, after a tenth of them to warm up."""
    for number in range(calls // 10):
        work(number)
    took = []
    for number in range(calls):
        began = time.perf_counter()
        work(number)
        took.append(time.perf_counter() - began)
    return took


def seconds_each(work: Callable[[int], object], calls: int) -> float:
    """Return the median seconds of one call."""
    return statistics.median(seconds_of(work, calls))


def figures(took: Sequence[float]) -> dict[str, float]:
    """Return calls a second, one after the other, and their latencies."""
    return {"calls_per_second": round(len(took) / sum(took)), **latencies(took)}


def latencies(took: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile of seconds, in ms."""
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49] * 1_000, 2), "p99_ms": round(cuts[98] * 1_000, 2)}
