"""The streams that a source's job writes: tiles, values and entries of each view, and what became of each line.

Every stream only appends. An accepted event writes one row to the tile that it falls in, with the running
state of that tile (an OVER window, never a retraction), so a reader can have the tile as it was at any event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unskew.pipelines.backends.flink_identity import MIX_3, mixed_sql
from unskew.pipelines.backends.flink_ordered import ordered_sql
from unskew.pipelines.backends.flink_pieces import listed, long, quoted, sql_type
from unskew.pipelines.backends.sql import FLINK, render
from unskew.pipelines.plan import SourcePlan, ViewPlan
from unskew.pipelines.states import COUNT_ROWS, LISTS, SCALARS, StateField

StreamKind = Literal["tiles", "values", "entries", "quarantine", "late", "skipped", "fates", "apart"]
NULL = "*"  # bare; Flink quotes a string that holds a character up to the comma, so the string `*` stands in quotes
VERSION = ("ts", "max_ts", "arrival", "min_arrival")  # of the event that made the row, and of the state


@dataclass(frozen=True)
class Stream:
    """One output of a job: a folder of CSV, appended in the order of the log.

    Parameters
    ----------
    name
        Name of the table and of its folder.
    kind
        What its rows are.
    columns
        Name and SQL type of each column.
    key
        Columns that identify what a row is a version of; none where each row stands alone.
    query
        The SELECT that fills it.
    view, field
        Whose state it carries; `field` is a position in the view's fields, -1 for tiles.
    """

    name: str
    kind: StreamKind
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    query: str
    view: str = ""
    field: int = -1

    @property
    def entity(self) -> tuple[str, ...]:
        """Names of the columns that hold the entity's keys; none where a row is of no view."""
        names = [name for name, _ in self.columns]
        return tuple(names[: names.index("tile_start")]) if self.view else ()


def view_streams(view: ViewPlan, source: SourcePlan) -> list[Stream]:
    """Return a view's tiles, and a stream for each field that has rows of its own."""
    found = [tiles(view, source)]
    for position, each in enumerate(view.fields):
        if each.kind == "multiset":
            found.append(values(view, source, position, each))
        if each.kind in LISTS:
            found.append(entries(view, source, position, each))
    return found


def tile_start(view: ViewPlan, source: SourcePlan) -> str:
    """Return the floor of the event time on the view's finest hop, also before 1970."""
    ts, hop = quoted(source.event_time), long(view.hop)
    return f"{ts} - ({ts} % {hop} + {hop}) % {hop}"


def present_keys(view: ViewPlan, source: SourcePlan) -> str:
    """Return the test for a row that the view takes: no key is null, and it deletes nothing."""
    there = [f"{quoted(each.name)} IS NOT NULL" for each in view.keys]
    if source.deleted is not None:
        there.append(f"NOT COALESCE({render(source.deleted, FLINK)}, FALSE)")
    return " AND ".join(there)


def key_columns(view: ViewPlan) -> tuple[tuple[str, str], ...]:
    """Return the entity's keys and the tile, with their types; keys are numbered, for any name may be a key's."""
    keys = zip(key_names(view), view.keys, strict=True)
    return (*((name, sql_type(each)) for name, each in keys), ("tile_start", "BIGINT"))


def key_names(view: ViewPlan) -> tuple[str, ...]:
    """Return the names of the key columns in a view's streams."""
    return tuple(f"key{index}" for index in range(len(view.keys)))


def placed(view: ViewPlan, source: SourcePlan, items: Sequence[str], where: str = "") -> str:
    """Return the accepted events of a view with their keys, tile, instants and sequence, and further items."""
    keys = [f"{quoted(each.name)} AS {name}" for name, each in zip(key_names(view), view.keys, strict=True)]
    inner = [*keys, f"{tile_start(view, source)} AS tile_start", f"{quoted(source.event_time)} AS ts",
             "_arrival AS arrival", "`_seq` AS seq", *items]  # fmt: skip
    return f"SELECT\n  {listed(inner)}\nFROM accepted\nWHERE {present_keys(view, source)}{where}"


def running(rows: str, columns: Sequence[str], group: Sequence[str]) -> str:
    """Return one row for each of `rows`, with aggregates `OVER w` of its group up to itself, in the order read."""
    return (
        f"SELECT\n  {listed(columns)}\nFROM (\n{rows}\n)\n"
        f"WINDOW w AS (PARTITION BY {listed(group, ', ')} ORDER BY _now"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )


def tiles(view: ViewPlan, source: SourcePlan) -> Stream:
    """Return the tile aggregation: one row for each accepted event of the view."""
    fields = [(index, each) for index, each in enumerate(view.fields) if each.kind in SCALARS]
    lifts = [f"{lifted(each, source)} AS f{index}" for index, each in fields if each != COUNT_ROWS]
    rows = placed(view, source, [f"{never_null(mixed_sql('_identity', MIX_3))} AS _hash", *lifts, "PROCTIME() AS _now"])
    group = [quoted(name) for name, _ in key_columns(view)]
    states = [f"{combined(f'f{index}', each)} AS f{index}" for index, each in fields]
    outer = [*group, "COUNT(*) OVER w AS n", *version(), "SUM(_hash) OVER w AS set_hash", "seq", *states]
    counters = tuple((name, "BIGINT") for name in ("n", *VERSION, "set_hash", "seq"))
    kinds = tuple((f"f{index}", "STRING" if each.kind in ("first", "last") else "BIGINT") for index, each in fields)
    key = tuple(name for name, _ in key_columns(view))
    columns = (*key_columns(view), *counters, *kinds)
    return Stream(f"{view.name}__tiles", "tiles", columns, key, running(rows, outer, group), view.name)


def version() -> tuple[str, ...]:
    """Return the instants of a version, in the order of `VERSION`."""
    return "ts", "MAX(ts) OVER w AS max_ts", "arrival", "MIN(arrival) OVER w AS min_arrival"


COMBINE = {"add": "SUM", "min": "MIN", "max": "MAX", "first": "MIN", "last": "MAX"}


def combined(column: str, field: StateField) -> str:
    """Return the running state of a field; the number of rows each tile has anyway."""
    return "COUNT(*) OVER w" if field == COUNT_ROWS else f"{COMBINE[field.kind]}({column}) OVER w"


def lifted(field: StateField, source: SourcePlan) -> str:
    """Return what one event contributes to a field of the tile row."""
    lift = render(field.lift, FLINK)
    if field.kind == "add":
        return never_null(lift)
    return ordered_sql(source, lift, field.lift.type.kind) if field.kind in ("first", "last") else lift


def never_null(number: str) -> str:
    """Return a summand, 0 for null: of one that could be null Flink would keep a count beside the sum."""
    return f"COALESCE({number}, {long(0)})"


def values(view: ViewPlan, source: SourcePlan, position: int, field: StateField) -> Stream:
    """Return a multiset: the running state of each (entity, tile, value), one row for each event that has a value."""
    kind, lift = FLINK.types.get(field.lift.type.kind, "BIGINT"), render(field.lift, FLINK)
    inner = tuple((f"g{index}", each) for index, each in enumerate(field.inner))
    lifts = [f"{lifted(each, source)} AS {name}" for name, each in inner if each != COUNT_ROWS]
    rows = placed(view, source, [f"{lift} AS `value`", *lifts, "PROCTIME() AS _now"], f" AND {lift} IS NOT NULL")
    key = (*(name for name, _ in key_columns(view)), "value")
    group = [quoted(each) for each in key]
    counters = tuple((name, "BIGINT") for name in ("count", *VERSION, "seq"))
    columns = (*key_columns(view), ("value", kind), *counters, *((name, "BIGINT") for name, _ in inner))
    states = [f"{combined(name, each)} AS {name}" for name, each in inner]
    query = running(rows, [*group, "COUNT(*) OVER w AS `count`", *version(), "seq", *states], group)
    return Stream(f"{view.name}__f{position}__values", "values", columns, key, query, view.name, position)


def entries(view: ViewPlan, source: SourcePlan, position: int, field: StateField) -> Stream:
    """Return a list's entries: one row for each event that has a value."""
    ids = tuple((f"id{index}", sql_type(source.column(each))) for index, each in enumerate(source.event_id))
    kind, lift = FLINK.types.get(field.lift.type.kind, "BIGINT"), render(field.lift, FLINK)
    head = (*key_columns(view), ("ts", "BIGINT"), ("arrival", "BIGINT"))
    columns = (*head, *ids, ("value", kind), ("seq", "BIGINT"))
    items = [f"{quoted(each)} AS id{index}" for index, each in enumerate(source.event_id)]
    rows = placed(view, source, [*items, f"{lift} AS `value`"], f" AND {lift} IS NOT NULL")
    query = f"SELECT {listed([quoted(name) for name, _ in columns], ', ')}\nFROM (\n{rows}\n)"
    return Stream(f"{view.name}__f{position}__entries", "entries", columns, (), query, view.name, position)


def skipped(views: Sequence[ViewPlan], source: SourcePlan) -> str:
    """Return view and sequence of the events that a view does not take, and a null view for those that none does."""
    without = [f"SELECT '{each.name}', `_seq` FROM accepted WHERE NOT ({present_keys(each, source)})" for each in views]
    nowhere = " OR ".join(f"({present_keys(each, source)})" for each in views)
    return "\nUNION ALL\n".join([*without, f"SELECT CAST(NULL AS STRING), `_seq` FROM accepted WHERE NOT ({nowhere})"])


def account_streams(views: Sequence[ViewPlan], source: SourcePlan) -> tuple[Stream, ...]:
    """Return the fate of each line before deduplication, and the lines that are in no tile."""
    line = (("raw", "BYTES"), ("seq", "BIGINT"))
    return (
        Stream(
            "quarantine", "quarantine", (("reason", "STRING"), *line), (),
            "SELECT _reason, _raw, `_seq`\nFROM fated\nWHERE _fate = 'quarantined'",
        ),
        Stream("late", "late", line, (), "SELECT _raw, `_seq`\nFROM fated\nWHERE _fate = 'late'"),
        Stream("skipped", "skipped", (("view", "STRING"), ("seq", "BIGINT")), (), skipped(views, source)),
        Stream("fates", "fates", (("fate", "STRING"), ("seq", "BIGINT")), (), "SELECT _fate, `_seq`\nFROM fated"),
    )  # fmt: skip


def apart(views: Sequence[ViewPlan], source: SourcePlan) -> Stream:
    """Return the messages that are not in the tiles of every view, with the reason or the view; what is left is no row."""
    none = "CAST(NULL AS STRING)"
    query = (
        f"SELECT _fate AS fate, _reason AS reason, {none} AS `view`, `_seq` AS seq FROM fated WHERE _fate <> 'accepted'\nUNION ALL\n"
        f"SELECT CASE WHEN _view IS NULL THEN 'filtered' ELSE 'skipped' END, {none}, _view, `_seq`\n"
        f"FROM (\n{skipped(views, source)}\n) AS s (_view, `_seq`)"
    )
    columns = (("fate", "STRING"), ("reason", "STRING"), ("view", "STRING"), ("seq", "BIGINT"))
    return Stream("fates", "apart", columns, (), query)
