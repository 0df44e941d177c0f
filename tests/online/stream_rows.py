"""What a source's stream writes for given rows, by plain Python over the oracle's reading of the contract."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from unskew.pipelines.backends import oracle
from unskew.pipelines.backends.flink_streams import Stream, key_names, view_streams
from unskew.pipelines.plan import SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.states import LISTS, StateField

TYPES = {"string": pa.string(), "bool": pa.bool_()}


def accepted(source: SourcePlan, rows: Sequence[oracle.Row], since: int | None = None) -> list[oracle.Event]:
    """Return the events that the stream applies, in the order of the log: sound, not late, first copies."""
    found: list[oracle.Event] = []
    seen: set[object] = set()
    for position, row in enumerate(rows):
        event = oracle.examine(source, position, row)
        if not isinstance(event, oracle.Event) or event.late or (since is not None and event.ts < since):
            continue
        if source.deduplicate and event.order in seen:
            continue
        seen.add(event.order)
        if not oracle.deletes(source, event):
            found.append(event)
    return found


def ordered_text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell.encode().hex().upper()
    if isinstance(cell, bool):
        return str(cell).upper()
    return f"0{cell + 2**63:019d}" if cell < 0 else f"1{cell:019d}"


def stream_rows(
    plan: SetPlan, source: str, rows: Sequence[oracle.Row], since: int | None = None
) -> dict[str, list[tuple[Stream, pa.Table]]]:
    """Return for each view its streams' rows; the sequence is the position in `rows`."""
    log = plan.source(source)
    events = accepted(log, rows, since)
    found = {}
    for view in plan.views:
        if view.source == source:
            own = [each for each in events if all(each.cells[key.name] is not None for key in view.keys)]
            found[view.name] = [(each, stream_table(view, log, each, own)) for each in view_streams(view, log)]
    return found


def stream_table(view: ViewPlan, source: SourcePlan, stream: Stream, events: Sequence[oracle.Event]) -> pa.Table:
    groups: dict[tuple[Any, ...], list[oracle.Event]] = defaultdict(list)
    found = []
    for event in events:
        head = {name: event.cells[key.name] for name, key in zip(key_names(view), view.keys, strict=True)}
        head |= {
            "tile_start": event.ts // view.hop * view.hop,
            "ts": event.ts,
            "arrival": event.arrival,
            "seq": event.position,
        }
        if stream.kind != "tiles":
            head["value"] = oracle.lifted(view.fields[stream.field].lift, event.cells)
            if head["value"] is None:
                continue
        if stream.kind == "entries":
            found.append(head | {f"id{index}": event.cells[each] for index, each in enumerate(source.event_id)})
            continue
        key = (*(head[each] for each in key_names(view)), head["tile_start"], head.get("value"))
        groups[key].append(event)
        found.append(head | running(view, stream, groups[key]))
    return pa.Table.from_pylist(found, schema(view, source, stream))


def running(view: ViewPlan, stream: Stream, events: Sequence[oracle.Event]) -> dict[str, Any]:
    state = {"max_ts": max(each.ts for each in events), "min_arrival": min(each.arrival for each in events)}
    if stream.kind == "values":
        inner = view.fields[stream.field].inner
        return {
            **state,
            "count": len(events),
            **{f"g{index}": folded(each, events) for index, each in enumerate(inner)},
        }
    digest = hashlib.sha256(repr(sorted(each.position for each in events)).encode()).digest()
    state |= {"n": len(events), "set_hash": int.from_bytes(digest[:8], "big", signed=True)}
    for index, field in enumerate(view.fields):
        state[f"f{index}"] = folded(field, events)
    return state


def folded(field: StateField, events: Sequence[oracle.Event]) -> Any:
    cells = [(each, oracle.lifted(field.lift, each.cells)) for each in events]
    return scalar(field.kind, [(each, cell) for each, cell in cells if cell is not None])


def scalar(kind: str, known: Sequence[tuple[oracle.Event, Any]]) -> Any:
    if kind == "add":
        return sum(cell for _, cell in known)
    if kind in ("min", "max"):
        return {"min": min, "max": max}[kind]((cell for _, cell in known), default=None)
    if kind not in ("first", "last") or not known:
        return None
    texts = [" ".join(ordered_text(each) for each in (event.ts, *ids(event), cell)) for event, cell in known]
    return min(texts) if kind == "first" else max(texts)


def ids(event: oracle.Event) -> list[Any]:
    return [each.decode() if isinstance(each, bytes) else each for each in event.order[1:]]


def schema(view: ViewPlan, source: SourcePlan, stream: Stream) -> pa.Schema:
    named = zip(key_names(view), view.keys, strict=True)
    columns: dict[str, pa.DataType] = {name: TYPES.get(each.type.kind, pa.int64()) for name, each in named}
    names = ("tile_start", "ts", "arrival", "seq", "max_ts", "min_arrival", "n", "set_hash", "count")
    columns |= dict.fromkeys(names, pa.int64())
    columns |= {
        f"id{index}": TYPES.get(source.column(each).type.kind, pa.int64()) for index, each in enumerate(source.event_id)
    }
    for index, field in enumerate(view.fields):
        kind = TYPES.get(field.lift.type.kind, pa.int64())
        columns[f"f{index}"] = pa.string() if field.kind in ("first", "last") else kind
        if index == stream.field:
            columns["value"] = kind
            columns |= {f"g{number}": pa.int64() for number in range(len(field.inner))}
    return pa.schema(list(columns.items()))


def as_known(
    plan: SetPlan, view: str, events: Sequence[oracle.Event], row: Mapping[str, Any], t: int
) -> dict[str, oracle.Result]:
    """Return a view's features at `t` over exactly these events."""
    found = next(each for each in plan.views if each.name == view)
    own = [each for each in events if oracle.is_of(found, each, row)]
    return {each.name: oracle.feature_value(found, each, own, t) for each in found.features}


def of_tiles_read(
    view: ViewPlan, kinds: set[str], events: Sequence[oracle.Event], lifts: Any, t: int
) -> list[oracle.Event]:
    """Return the events that the tiles read hold: of the tile of `t`, those before the first one at or after it."""
    head = t // view.hop * view.hop
    if kinds <= set(LISTS):
        return list(events)
    found, stopped = [], set()
    for event in events:
        if event.ts // view.hop * view.hop != head:
            found.append(event)
            continue
        key = lifts(event) if kinds == {"multiset"} else None
        if event.ts >= t:
            stopped.add(key)
        elif key not in stopped:
            found.append(event)
    return found


def expected(view: ViewPlan, events: Sequence[oracle.Event], row: Mapping[str, Any]) -> dict[str, oracle.Result]:
    own = [each for each in events if oracle.is_of(view, each, row)]
    values = {}
    for feature in view.features:
        fields = [view.fields[each] for each in feature.fields]
        taken = of_tiles_read(
            view,
            {each.kind for each in fields},
            own,
            lambda event, lift=fields[0].lift: oracle.lifted(lift, event.cells),
            row["t"],
        )
        values[feature.name] = oracle.feature_value(view, feature, taken, row["t"])
    return values
