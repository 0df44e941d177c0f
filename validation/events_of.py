"""The events of one entity in one window, with what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from unskew.pipelines.backends import oracle
from unskew.pipelines.encoding import encode_row
from unskew.pipelines.plan import FeaturePlan, SetPlan
from unskew.validation.explain import of_entities, oracle_rows
from unskew.validation.log import SEQUENCE, judged_log, numbered


def window_events(
    plan: SetPlan, feature: FeaturePlan, events: Any, row: Mapping[str, Any], bounds: tuple[int, int]
) -> list[dict[str, Any]]:
    """Return an entity's events with ``tail <= event time < head``, by (event time, id).

    Parameters
    ----------
    events
        The archive of the feature's source, as `backfill` takes it.
    row
        The keys of the entity.
    bounds
        Tail and head of the window, ms.

    Returns
    -------
    list of dict
        The event time and arrival (ms), ids, what became of the event, and the lifted inputs of the feature's state.
    """
    view = next(each for each in plan.reads if feature in each.features)
    source = plan.source(view.source)
    log = judged_log(source, events)
    log = numbered(log, pa.array(range(log.table.num_rows)).to_numpy())
    keys = encode_row({each.name: each for each in view.spine_keys}, row)
    asked = tuple(keys[each.name] for each in view.spine_keys)
    rows = oracle_rows(source, log.table.filter(pa.array(of_entities(view, log, {asked}))))
    examined = [oracle.examine(source, each[SEQUENCE], each) for each in rows]
    firsts, following = oracle.first_copies(source, examined), oracle.next_copies(examined)
    found = []
    for event in sorted((each for each in examined if isinstance(each, oracle.Event)), key=lambda each: each.order):
        if not oracle.is_of(view, event, keys) or not bounds[0] <= event.ts < bounds[1]:
            continue
        lifted = {
            f"{view.fields[each].kind} {number}": oracle.lifted(view.fields[each].lift, event.cells)
            for number, each in enumerate(feature.fields, 1)
        }
        for number, inner in enumerate(view.fields[feature.fields[0]].inner, 1):
            lifted[f"field {number}"] = oracle.lifted(inner.lift, event.cells)
        ids = {each: event.cells[each] for each in source.event_id}
        fate = "late" if event.late else "applied"
        if source.amended:
            fate = "amended" if event.position in following else "deleted" if oracle.deletes(source, event) else fate
        elif event.position not in firsts:
            fate = "duplicate"
        found.append({source.event_time: event.ts, "arrival": event.arrival, **ids, "fate": fate, **lifted})
    return found
