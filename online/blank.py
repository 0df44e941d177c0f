"""A store without records: what is read from it is what an unknown entity has."""

from __future__ import annotations

from unskew.online.materialise import Materialiser
from unskew.online.store import Store
from unskew.online.store_sqlite import SqliteStore
from unskew.online.upload import closed_content
from unskew.pipelines.plan import SetPlan

EPOCH, CUT = "blank", 0  # ms since 1970, long before whatever is asked for


def blank_store(plan: SetPlan) -> Store:
    """Return a store in memory that knows of an upload and of jobs of a set, both without a record."""
    store = SqliteStore(":memory:")
    generation = store.new_generation()
    for view in plan.views:
        store.put_content("closed", str(generation), view.name, closed_content(view))
    store.flip(generation, {each.name: (CUT, each.batch_end(CUT)) for each in plan.sources}, CUT)
    for each in plan.sources:
        Materialiser(store, plan, each.name, EPOCH)
    return store
