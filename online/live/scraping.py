"""What Prometheus would scrape, read here: counters, and quantiles of histograms."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from unskew.online.live.flink_rest import NO_KEEPING
from unskew.online.live.processes import HOST

HTTP = httpx.Client(timeout=2.0, trust_env=False, limits=NO_KEEPING)


@dataclass(frozen=True)
class Scrape:
    """The metrics of one process; without any where it did not answer."""

    families: dict[str, Metric]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a counter or a gauge over all labels but those given."""
        return sum(value for _, value in self.samples(name, labels))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return a counter's sums by one label."""
        found: dict[str, float] = defaultdict(float)
        for own, value in self.samples(name, {}):
            found[own.get(label, "")] += value
        return dict(found)

    def quantiles(self, name: str, since: Scrape, *shares: float, **labels: str) -> tuple[float, ...] | None:
        """Return quantiles, s, of what a histogram has seen since an earlier scrape; None where that is nothing."""
        before = since.buckets(name, labels)
        counts = self.buckets(name, labels)
        left = {bound: count - before.get(bound, 0.0) for bound, count in counts.items()}
        steps = sorted((counts if min(left.values(), default=0.0) < 0 else left).items())  # the process is another one
        return tuple(quantile(steps, each) for each in shares) if steps and steps[-1][1] else None

    def buckets(self, name: str, labels: dict[str, str]) -> dict[float, float]:
        """Return the cumulative counts of a histogram by their upper bounds, s."""
        counts: dict[float, float] = defaultdict(float)
        for own, value in self.samples(f"{name}_bucket", labels):
            counts[float(own["le"])] += value
        return counts

    def samples(self, name: str, labels: dict[str, str]) -> list[tuple[dict[str, str], float]]:
        """Return labels and values of the samples of a name."""
        return [
            (each.labels, each.value)
            for family in self.families.values()
            for each in family.samples
            if each.name == name and labels.items() <= each.labels.items()
        ]


NOTHING = Scrape({})


def scrape(port: int) -> Scrape:
    """Ask a process of this machine."""
    try:
        answer = HTTP.get(f"http://{HOST}:{port}/metrics")
        answer.raise_for_status()
        return Scrape({each.name: each for each in text_string_to_metric_families(answer.text)})
    except (httpx.HTTPError, ValueError):
        return NOTHING


def quantile(steps: list[tuple[float, float]], share: float) -> float:
    """Return a quantile of a histogram as Prometheus does: linear within its bucket, the last bound beyond.

    Parameters
    ----------
    steps
        Upper bounds and cumulative counts, ascending.

    Examples
    --------
    >>> quantile([(1.0, 50.0), (2.0, 100.0), (float("inf"), 100.0)], 0.75)
    1.5
    """
    wanted = share * steps[-1][1]
    for (low, before), (high, count) in pairwise([(0.0, 0.0), *steps]):
        if count >= wanted and count > before:
            return low if high == float("inf") else low + (high - low) * (wanted - before) / (count - before)
    return steps[-1][0]
