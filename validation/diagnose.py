"""Names the defect behind a cell that arrival does not explain: the broken rule that gives the wrong value.

Each rule of the contract is broken in turn, in the oracle; the first that gives the value is the cause.
`engine` is left where none does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from unskew.pipelines.backends import oracle
from unskew.pipelines.plan import FeaturePlan, ViewPlan
from unskew.pipelines.timegrid import DAY, HOUR, MINUTE

Events = Sequence[oracle.Event]
HOPS = (1, 1_000, MINUTE, 5 * MINUTE, HOUR, DAY)  # ms
CLOSE = 1e-6  # relative, and absolute next to zero: what sums in floating point lose
DEFECTS = {
    "boundary": "an event on the wrong side of a head, a tail, a tile's edge or batch_end",
    "tie": "equal event times in another order than that of the ids",
    "duplicate": "a later copy was counted",
    "lateness": "a late event was applied by the stream, or left out of an upload",
    "stale_batch": "closed tiles of the upload before",
    "expired_state": "the job started a tile again from nothing",
    "null_vs_zero": "null taken for zero, or zero for null",
    "precision": "the value but for rounding: not computed in integers",
    "lost_tile": "one tile is missing",
    "engine": "none of the rules explains it",
}


@dataclass(frozen=True)
class Case:
    """One cell: its feature at `t`, the events that it is made of, and those that broken rules would make it of.

    Parameters
    ----------
    events
        In order of arrival.
    end
        Where closed tiles end, ms.
    wrong
        By cause, the events under broken rules of what counts: lateness, copies, uploads, state.
    """

    view: ViewPlan
    feature: FeaturePlan
    t: int
    events: Events
    end: int
    wrong: Mapping[str, Sequence[Events]]

    def value(self, events: Events, feature: FeaturePlan | None = None) -> oracle.Result:
        """Return the oracle's value over these events."""
        return oracle.feature_value(self.view, feature or self.feature, events, self.t)

    def counted(self, events: Events, feature: FeaturePlan) -> list[tuple[int, Mapping[str, oracle.Cell]]]:
        """Return all of the events that the value depends on: place and cells of those in the window, in order.

        Events of one order share a place.
        """
        inside = sorted(oracle.inside(feature, events, self.t), key=attrgetter("order"))
        places = groupby(inside, attrgetter("order"))
        return [(place, each.cells) for place, (_, alike) in enumerate(places) for each in alike]


def diagnose(case: Case, given: Any, same: Callable[[Any, Any], bool]) -> str:
    """Return the cause of a wrong value: one of `DEFECTS`."""
    expected, counted = case.value(case.events), case.counted(case.events, case.feature)
    for cause, events, feature in broken(case):
        if feature.start is None and case.counted(events, feature) == counted:
            continue  # the rule makes no difference here
        value = case.value(events, feature)
        if same(value, given) and not same(value, expected):
            return cause
    if given is None or expected is None:
        return "null_vs_zero" if given in (0, 0.0) or expected in (0, 0.0) else "engine"
    if (
        isinstance(given, float)
        and isinstance(expected, float)
        and math.isclose(given, expected, rel_tol=CLOSE, abs_tol=CLOSE)
    ):
        return "precision"
    return "engine"


def broken(case: Case) -> Iterator[tuple[str, Events, FeaturePlan]]:
    """Yield what counts under each broken rule; what explains almost anything comes last."""
    for events, feature in misplaced(case):
        yield "boundary", events, feature
    for cause, events in miscounted(case):
        yield cause, events, case.feature


def misplaced(case: Case) -> Iterator[tuple[Events, FeaturePlan]]:
    """Yield events and feature with an edge of the window, of its tiles or of the closed tiles in the wrong place."""
    feature, window = case.feature, case.feature.window
    tail, head = window.tail(case.t), window.head(case.t)
    yield [replace(each, ts=each.ts - 1) if each.ts == head else each for each in case.events], feature
    yield [each for each in case.events if each.ts != tail], feature
    yield [replace(each, ts=tail) if each.ts == tail - 1 else each for each in case.events], feature
    yield [each for each in case.events if each.ts != case.end], feature
    for hop in HOPS:
        if hop != window.hop and window.size % hop == 0 and window.delay % hop == 0:
            yield case.events, replace(feature, window=replace(window, hop=hop))
        yield [replace(each, ts=each.ts - each.ts % hop) for each in case.events], feature


def miscounted(case: Case) -> Iterator[tuple[str, Events]]:
    """Yield the events in another order, those that broken rules would count, with null as zero, without a tile."""
    yield "tie", [replace(each, order=(each.ts, each.arrival, each.position)) for each in case.events]
    yield "tie", [replace(each, order=(each.ts, -each.position)) for each in case.events]
    for cause, lists in case.wrong.items():
        yield from ((cause, each) for each in lists)
    texts = {name for each in case.events for name, cell in each.cells.items() if isinstance(cell, str)}
    yield "null_vs_zero", [replace(each, cells=zeroed(each, texts)) for each in case.events]
    for tile in tiles(case):
        yield "lost_tile", [each for each in case.events if each.position not in tile]


def tiles(case: Case) -> set[frozenset[int]]:
    """Return the positions of the events of each tile, of the view's hop and of the window's."""
    found: dict[tuple[int, int], set[int]] = defaultdict(set)
    for each in case.events:
        for hop in (case.view.hop, case.feature.window.hop):
            found[hop, each.ts // hop].add(each.position)
    return {frozenset(each) for each in found.values()}


def zeroed(event: oracle.Event, texts: Set[str]) -> dict[str, oracle.Cell]:
    """Return an event's cells with null as zero, but for texts."""
    return {name: 0 if cell is None and name not in texts else cell for name, cell in event.cells.items()}
