"""Erasing an entity from a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from unskew.online.asked import entity_key
from unskew.online.store import Store
from unskew.pipelines.erasure import Cells, Subject
from unskew.pipelines.plan import ViewPlan


@dataclass
class StorePlace:
    """An online store: closed and open records, of every generation and job."""

    who: Subject
    store: Store

    @property
    def name(self) -> str:
        """What to call it."""
        return f"store {self.store.address}"

    def find(self) -> dict[str, int]:
        """Return the number of records of the entity, closed and open, in each view."""
        found: dict[str, int] = {}
        for view, keys in self.keys().items():
            found |= {f"{side} records of {view}": n for side, n in self.store.held(view, keys).items()}
        return found

    def keys(self) -> dict[str, list[bytes]]:
        """Return the store's keys of the entity in each view that has it among its keys."""
        views = ((view, self.who.of_view(view)) for view in self.who.plan.views)
        return {view.name: self.view_keys(view, ways) for view, ways in views if ways}

    def view_keys(self, view: ViewPlan, ways: Sequence[Cells]) -> list[bytes]:
        """Return the store's keys of the entity; a view with further keys is searched."""
        names = [each.name for each in view.keys]
        found = [entity_key([way[name] for name in names]) for way in ways if len(way) == len(names)]
        partial = [[(names.index(name), cell) for name, cell in way.items()] for way in ways if len(way) < len(names)]
        if partial:
            found += [each for each in self.store.entities(view.name) if matches(orjson.loads(each), partial)]
        return found

    def erase(self) -> None:
        """Delete the records in one transaction."""
        self.store.erase(self.keys())

    def remains(self) -> list[str]:
        """Return what would bring the records back."""
        return [f"{self.name}: what is loaded later from an upload or a stream's output that was not erased comes back"]


def matches(entity: Sequence[object], partial: Sequence[Sequence[tuple[int, object]]]) -> bool:
    """Return whether an entity has all the cells of one of the ways; 1 is not true."""
    return any(all(same(entity[at], cell) for at, cell in way) for way in partial)


def same(one: object, other: object) -> bool:
    """Return whether two cells are equal and of one type."""
    return type(one) is type(other) and one == other
