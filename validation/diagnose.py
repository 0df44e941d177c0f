"""Names the defect behind a cell that arrival does not explain: the broken rule that gives the served value.

Each rule of the contract is broken in turn, in the oracle; the first that gives the served value is the
cause. `engine` is left where none does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unskew.pipelines.backends import oracle
from unskew.pipelines.plan import FeaturePlan, ViewPlan
from unskew.pipelines.timegrid import DAY, HOUR, MINUTE

Events = Sequence[oracle.Event]
HOPS = (1, 1_000, MINUTE, 5 * MINUTE, HOUR, DAY)  # ms
CLOSE = 1e-9  # relative


@dataclass(frozen=True)
class Case:
    """One cell: its feature at `t`, the events that its tiles held, and others of the entity that broken rules may add.

    Parameters
    ----------
    held
        What the tiles read had in them.
    copies
        The same with every later copy of an event.
    late
        The same with the late events that no upload had.
    stale
        What they would have held under the upload before.
    """

    view: ViewPlan
    feature: FeaturePlan
    t: int
    held: Events
    copies: Events
    late: Events
    stale: Events

    def value(self, events: Events, feature: FeaturePlan | None = None, t: int | None = None) -> oracle.Result:
        """Return the oracle's value under a broken rule."""
        return oracle.feature_value(self.view, feature or self.feature, events, self.t if t is None else t)


def diagnose(case: Case, served: Any, same: Callable[[Any, Any], bool]) -> str:
    """Return the cause of a served value: boundary, tie, duplicate, null_vs_zero, precision, stale_batch or engine."""
    expected = case.value(case.held)
    for cause, value in broken(case):
        if same(value, served) and not same(value, expected):
            return cause
    if served is None or expected is None:
        return "null_vs_zero" if served in (0, 0.0) or expected in (0, 0.0) else "engine"
    if isinstance(served, float) and isinstance(expected, float) and math.isclose(served, expected, rel_tol=CLOSE):
        return "precision"
    return "engine"


def broken(case: Case) -> Iterator[tuple[str, oracle.Result]]:
    """Yield the value under each broken rule."""
    window = case.feature.window
    tail, head = window.tail(case.t), window.head(case.t)
    yield "boundary", case.value([replace(each, ts=each.ts - 1) if each.ts == head else each for each in case.held])
    yield "boundary", case.value([each for each in case.held if each.ts != tail])
    yield "boundary", case.value([replace(each, ts=tail) if each.ts == tail - 1 else each for each in case.held])
    for hop in HOPS:
        if hop != window.hop and window.size % hop == 0 and window.delay % hop == 0:
            yield "boundary", case.value(case.held, replace(case.feature, window=replace(window, hop=hop)))
    by_arrival = [replace(each, order=(each.ts, each.arrival, each.position)) for each in case.held]
    yield "tie", case.value(by_arrival)
    yield "tie", case.value([replace(each, order=(each.ts, -each.position)) for each in case.held])
    yield "duplicate", case.value(case.copies)
    yield "late", case.value(case.late)
    yield "stale_batch", case.value(case.stale)
