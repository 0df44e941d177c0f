"""What changes from one plan to another: features, the state that can stay, the cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unskew.pipelines.cost import Cost, view_cost
from unskew.pipelines.plan import SetPlan, ViewPlan, feature_json
from unskew.pipelines.records import field_prints

SEMANTICS = ("aggregate", "parameters", "window", "units", "category_units", "start", "type")


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
    found += [] if left[0].keys == right[0].keys else ["its key"]
    a, b = (feature_json(each) for _, each in (left, right))
    found += [f"{each} `{a[each]}` to `{b[each]}`" for each in SEMANTICS if a[each] != b[each]]
    if [left[0].fields[each] for each in left[1].fields] != [right[0].fields[each] for each in right[1].fields]:
        found.append("its input or filter")
    return ", ".join(found)


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
