"""What changes from one plan to another: features, the state that can stay, the cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from unskew.pipelines.cost import Cost, view_cost
from unskew.pipelines.expr import MILLION
from unskew.pipelines.plan import FeaturePlan, SetPlan, ViewPlan, feature_json
from unskew.pipelines.records import field_prints

SEMANTICS = ("aggregate", "parameters", "window", "units", "category_units", "outer", "start", "type")


@dataclass(frozen=True)
class State:
    """A view's state: what is kept of the old one, by number of fields, and why it must be built again, if it must."""

    view: str
    kept: int
    added: int
    dropped: int
    rebuilt: str
    before: Cost | None
    after: Cost | None


@dataclass(frozen=True)
class Difference:
    """Features by what becomes of them; of changed ones what changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, str]
    unchanged: tuple[str, ...]
    states: tuple[State, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": dict(self.changed),
            "unchanged": list(self.unchanged),
            "states": [
                vars(each)
                | {name: cost and vars(cost) for name, cost in (("before", each.before), ("after", each.after))}
                for each in self.states
            ],
        }


def difference(old: SetPlan, new: SetPlan) -> Difference:
    """Compare two plans of a set; features and views are matched by name."""
    before, after = old.fingerprints(), new.fingerprints()
    both = [each for each in after if each in before]
    changed = {each: reason(old, new, each) for each in both if before[each] != after[each]}
    names = dict.fromkeys([*(each.name for each in new.views), *(each.name for each in old.views)])
    return Difference(
        tuple(each for each in after if each not in before),
        tuple(each for each in before if each not in after),
        changed,
        tuple(each for each in both if each not in changed),
        tuple(state(old, new, each) for each in names),
    )


def reason(old: SetPlan, new: SetPlan, name: str) -> str:
    """Return what changed in a feature."""
    left, right = (
        {each.name: (view, each) for view in plan.reads for each in view.features}.get(name) for plan in (old, new)
    )
    if left is None or right is None:
        return "its expression, or a feature that it reads"
    found = [] if old.source(left[0].source) == new.source(right[0].source) else ["its source"]
    asked = [[key.name for key in view.spine_keys] for view, _ in (left, right)]
    if (left[0].keys, asked[0]) != (right[0].keys, asked[1]):
        found.append(f"its key `{', '.join(asked[0])}` to `{', '.join(asked[1])}`")
    a, b = (readable(each) for _, each in (left, right))
    found += [f"{each} `{a[each]}` to `{b[each]}`" for each in SEMANTICS if a[each] != b[each]]
    lifts = [[view.fields[each].lifts() for each in of.fields] for view, of in (left, right)]
    if lifts[0] != lifts[1]:
        found.append("its input or filter")
    return ", ".join(found)


def readable(feature: FeaturePlan) -> dict[str, object]:
    """Return a feature's content with parameters and instants as a user writes them."""
    found = feature_json(feature)
    names = feature.spec.parameters
    values = [each / MILLION if name == "q" else each for name, each in zip(names, feature.parameters, strict=True)]
    start = None if feature.start is None else datetime.fromtimestamp(feature.start / 1_000, UTC).isoformat()
    return found | {"parameters": values, "start": start}


def state(old: SetPlan, new: SetPlan, name: str) -> State:
    """Return what becomes of one view's state."""
    left, right = (next((each for each in plan.views if each.name == name), None) for plan in (old, new))
    mine, theirs = (set(field_prints(each.fields)) if each else set() for each in (left, right))
    costs = [view_cost(each, plan.source(each.source)) if each else None for each, plan in ((left, old), (right, new))]
    if left is None or right is None:
        return State(name, 0, len(theirs), len(mine), "new" if right else "", *costs)
    why = rebuilt(old, new, left, right, theirs - mine)
    kept = 0 if why in ("source", "key") else len(mine & theirs)
    return State(name, kept, len(theirs) - kept, len(mine) - kept, why, *costs)


def rebuilt(old: SetPlan, new: SetPlan, left: ViewPlan, right: ViewPlan, added: set[str]) -> str:
    """Return why tiles must be built again, or nothing."""
    if old.source(left.source).to_json() != new.source(right.source).to_json():
        return "source"
    if left.keys != right.keys:
        return "key"
    if left.hop != right.hop:
        return "finest hop"
    if added:
        return "new fields"
    reach = [max((each.window.size + each.window.delay for each in view.features), default=0) for view in (left, right)]
    return "longer windows" if reach[1] > reach[0] or not set(right.hops) <= set(left.hops) else ""
