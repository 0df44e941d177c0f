r"""The Flink compiler: one source of a plan as a readable SQL job over JSON lines.

Every line of the input is read once, as bytes, and has one fate. What each type accepts
(a JSON number is a coefficient and an exponent, as Python's ``Decimal`` reads it, so ``1e0``
is ``1``, ``15e-1`` is ``1.5``, and ``12.0`` is no integer):

=========  ==========================================================  =====================
type       accepted                                                    else
=========  ==========================================================  =====================
any        null, or no such key: null
int        number of exponent 0, or a string ``-?(0|[1-9][0-9]*)``     ``wrong_type``
decimal    as int, or with 1 to `scale` digits after the point         ``wrong_type``
float      any number: ``floor(x / quantum + 0.5)``                    ``wrong_type``
bool       ``true``, ``false``, ``1``, ``0``                           ``wrong_type``
timestamp  as int: epoch milliseconds; no ISO text                     ``wrong_type``
string     a string without lone surrogates                            ``wrong_type``
numbers    outside lo..hi or int64                                     ``out_of_range``
line       UTF-8, one JSON object; of a repeated key the last counts   ``malformed``
=========  ==========================================================  =====================

Also malformed: an empty line, NaN and Infinity, anything after the object, a byte order mark,
a number of more than 1,000 digits, nesting deeper than 1,000. A decimal of more than 6 digits
after the point is refused: Flink prints 0.0000001 with an exponent.

The reasons in their order: ``malformed``, ``null_event_time``, ``wrong_type``, ``out_of_range``,
``null_event_id``, ``future``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unskew.pipelines.aggregates import StateField
from unskew.pipelines.backends.sql import FLINK, render
from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.timegrid import DAY
from unskew.pipelines.types import INT64_MAX, INT64_MIN

StreamKind = Literal["tiles", "values", "entries", "quarantine", "late", "skipped", "fates"]
UPDATING: tuple[StreamKind, ...] = ("tiles", "values", "fates")  # the others only append
DOWNTIME = 7 * DAY  # how long a stopped job may wait before its state expires
MAX_SCALE = 6  # Java prints a decimal below 1e-6 with an exponent
SAFE_DOUBLE = 2.0**62  # below it a cast to BIGINT is exact

# JSON_QUERY with a wrapper keeps the JSON type and every digit: [12], [12.0], ["12"], [null] as null.
INTEGER_FORM = r"^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$"
DECIMAL_FORM = r"^\[\"?(-?(?:0|[1-9][0-9]*))(?:\.([0-9]{1,%d}))?\"?\]$"
FLOAT_FORM = r"^\[(-?[0-9][^\"\[\]{}]*)\]$"
SURROGATE = r"[\uD800-\uDFFF]"

# Odd multipliers of the mix, from the fractional parts of the golden ratio and of sqrt(2), pi, e.
MIX_1, MIX_2, MIX_3 = 0x1E3779B97F4A7C15, 0x6A09E667F3BCC909, 0x243F6A8885A308D3
WORD = 2**32


@dataclass(frozen=True)
class Stream:
    """One output of a job: a folder of JSON lines.

    Parameters
    ----------
    name
        Name of the table and of its folder.
    kind
        `tiles` and `values` are upserts by `key`, `fates` too; the others append.
    columns
        Name and SQL type of each column.
    key
        Columns that identify a row of an upsert stream.
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
    def updating(self) -> bool:
        """Whether later rows replace earlier ones of the same key."""
        return self.kind in UPDATING


@dataclass(frozen=True)
class FlinkJob:
    """A compiled source: settings, statements that declare tables and views, and the streams."""

    source: str
    settings: tuple[tuple[str, str], ...]
    declarations: tuple[str, ...]
    streams: tuple[Stream, ...]

    @property
    def inserts(self) -> tuple[str, ...]:
        """One INSERT for each stream; all go into one statement set."""
        return tuple(f"INSERT INTO {quoted(each.name)}\n{each.query}" for each in self.streams)

    @property
    def text(self) -> str:
        """The whole job as a script for Flink's SQL client."""
        settings = [f"SET '{name}' = '{value}'" for name, value in self.settings]
        body = [*settings, *self.declarations, "EXECUTE STATEMENT SET\nBEGIN", *self.inserts, "END"]
        return ";\n\n".join(body).replace("BEGIN;", "BEGIN") + ";\n"


def compile_source(
    plan: SetPlan, source: str, input_folder: str | Path, output_folder: str | Path, *, watch: bool = False
) -> FlinkJob:
    """Compile all views over one source.

    Parameters
    ----------
    plan
        The set.
    source
        Name of one of its sources.
    input_folder, output_folder
        Absolute paths or URIs; one folder below the output for each stream.
    watch
        Look for new files each second and never end, instead of reading what is there.

    Raises
    ------
    DefinitionError
        For an unknown source, or a decimal of more than 6 digits after the point.
    """
    if source not in {each.name for each in plan.sources}:
        message = f"source `{source}` is unknown; {nearest(source, [each.name for each in plan.sources])}"
        raise DefinitionError(message)
    log = plan.source(source)
    views = [each for each in plan.views if each.source == source]
    streams = (*(stream for view in views for stream in view_streams(view, log)), *account_streams(views))
    layers = (texts, wrapped, parsed, digits, typed, judged, accepted)
    declarations = [
        source_table(str(input_folder), watch=watch),
        *(f"CREATE TEMPORARY VIEW {layer.__name__} AS\n{layer(log)}" for layer in layers),
        *(sink_table(each, str(output_folder)) for each in streams),
    ]
    return FlinkJob(source, settings(log, views, watch=watch), tuple(declarations), streams)


def settings(source: SourcePlan, views: Sequence[ViewPlan], *, watch: bool) -> tuple[tuple[str, str], ...]:
    """Return the settings that the meaning or the sharing of the scan depends on."""
    keep = source.allowed_lateness + max(each.hop for each in views) + DOWNTIME
    # State expires only where the job does not end: heap state pays for the clean-up at each access.
    expiry = (("table.exec.state.ttl", f"{keep} ms"),) if watch else ()
    return (
        ("table.local-time-zone", "UTC"),
        *expiry,
        ("table.optimizer.reuse-optimize-block-with-digest-enabled", "true"),  # one scan for all sinks
        ("pipeline.object-reuse", "true"),
    )


# SQL pieces


def quoted(name: str) -> str:
    """Quote an identifier."""
    return FLINK.identifier(name)


def text(value: str) -> str:
    """Quote a string."""
    return "'" + value.replace("'", "''") + "'"


def long(value: int) -> str:
    """Write a BIGINT; the smallest has no literal of its own."""
    if value == INT64_MIN:
        return f"({long(-INT64_MAX)} - CAST(1 AS BIGINT))"
    return f"CAST({value} AS BIGINT)"


def listed(items: Sequence[str], separator: str = ",\n  ") -> str:
    """Write the items of a SELECT one below the other."""
    return separator.join(items)


def barrier(expression: str) -> str:
    """Compute an expression once a row: Flink merges projections and repeats deterministic ones."""
    return f"CASE WHEN RAND() < 2 THEN {expression} END"


def sql_type(column: ColumnPlan) -> str:
    """Return the SQL type of an encoded column."""
    return FLINK.types.get(column.type.kind, "BIGINT")


# The layers between a line and an accepted event


def source_table(folder: str, *, watch: bool) -> str:
    """Declare the input: one row of bytes for each line."""
    options = {"connector": "filesystem", "path": uri(folder), "format": "raw"}
    if watch:
        options["source.monitor-interval"] = "1 s"
    return f"CREATE TEMPORARY TABLE lines (\n  _raw BYTES\n) WITH (\n  {with_options(options)}\n)"


def uri(folder: str) -> str:
    """Return a URI; a plain path is a local file."""
    return folder if "://" in folder else f"file://{Path(folder).resolve()}"


def with_options(options: dict[str, str]) -> str:
    """Write the options of a table."""
    return listed([f"'{name}' = {text(value)}" for name, value in options.items()])


def texts(_: SourcePlan) -> str:
    """Decode the bytes; a byte that is no UTF-8 becomes U+FFFD."""
    decoded = barrier("DECODE(_raw, 'UTF-8')")
    return f"SELECT _raw, {decoded} AS line\nFROM lines"


def wrapped(_: SourcePlan) -> str:
    """Put a line into an array that ends with its own MD5: what does not stay one value loses that mark."""
    marked = barrier("""'[' || line || ',"' || MD5(line) || '"]'""")
    return (
        f"SELECT\n  _raw,\n  {marked} AS w,\n"
        "  REGEXP(line, '^[ \\t\\r]*\\{') AS _brace,\n"
        "  CASE WHEN POSITION(U&'\\FFFD' IN line) > 0\n"
        "    THEN DECODE(ENCODE(line, 'UTF-8'), 'ISO-8859-1') = DECODE(_raw, 'ISO-8859-1')\n"
        "    ELSE TRUE END AS _utf8\n"
        "FROM texts"
    )


def parsed(source: SourcePlan) -> str:
    """Take each column out as JSON text; strings unescaped as well."""
    items = [
        "_raw",
        "_brace AND _utf8 AND COALESCE(JSON_VALUE(w, 'lax $[1]') || '\"]' = RIGHT(w, 34), FALSE) AS _object",
    ]
    for name in (*(each.name for each in source.columns), "_seq"):
        query = f"JSON_QUERY(w, 'lax $[0].{name}' WITH UNCONDITIONAL ARRAY WRAPPER)"
        items.append(f"{barrier(query)} AS {quoted(name)}")
    for each in source.columns:
        if each.type.kind == "string":
            value = barrier(f"JSON_VALUE(w, 'lax $[0].{each.name}')")
            items.append(f"{value} AS {quoted('_s_' + each.name)}")
    return f"SELECT\n  {listed(items)}\nFROM wrapped"


def digits(source: SourcePlan) -> str:
    """Keep what has an accepted form, as text: null where the value is null or of a wrong form."""
    items = ["_raw", "_object"]
    for each in source.columns:
        name = quoted(each.name)
        items += [f"{name} IS NULL AS {quoted('_n_' + each.name)}", f"{barrier(form(each))} AS {name}"]
    items.append(f"REGEXP_EXTRACT(`_seq`, {text(INTEGER_FORM)}, 1) AS `_seq`")
    return f"SELECT\n  {listed(items)}\nFROM parsed"


def form(column: ColumnPlan) -> str:
    """Return the text of an accepted value."""
    name, kind = quoted(column.name), column.type.kind
    if kind == "string":
        value = quoted("_s_" + column.name)
        return f"CASE WHEN {name} LIKE '[\"%' AND NOT REGEXP({value}, {text(SURROGATE)}) THEN {value} END"
    if kind == "bool":
        return f"CASE WHEN {name} IN ('[true]', '[1]') THEN 'true' WHEN {name} IN ('[false]', '[0]') THEN 'false' END"
    if kind == "float":
        return f"REGEXP_EXTRACT({name}, {text(FLOAT_FORM)}, 1)"
    scale = len(str(column.type.units)) - 1
    if kind != "decimal" or scale == 0:
        return f"REGEXP_EXTRACT({name}, {text(INTEGER_FORM)}, 1)"
    if scale > MAX_SCALE:
        message = f"column `{column.name}` is `{column.type}`; Flink reads at most {MAX_SCALE} digits after the point"
        raise DefinitionError(message)
    pattern = text(DECIMAL_FORM % scale)
    fraction = f"COALESCE(REGEXP_EXTRACT({name}, {pattern}, 2), '') || '{'0' * scale}'"
    return f"REGEXP_EXTRACT({name}, {pattern}, 1) || SUBSTRING({fraction}, 1, {scale})"


def typed(source: SourcePlan) -> str:
    """Encode: BIGINT, STRING or BOOLEAN; `_refused` where a form was wrong, `_p_` where there was a number."""
    items, wrong = ["_raw", "_object", "TRY_CAST(`_seq` AS BIGINT) AS `_seq`"], []
    for each in source.columns:
        name = quoted(each.name)
        items.append(f"{barrier(encoded(each))} AS {name}")
        wrong.append(f"(NOT {quoted('_n_' + each.name)} AND {name} IS NULL)")
        if each.type.kind not in ("string", "bool"):
            items.append(f"{name} IS NOT NULL AS {quoted('_p_' + each.name)}")
    items += [f"{listed(wrong, ' OR ')} AS _refused", quoted("_n_" + source.event_time) + " AS _timeless"]
    return f"SELECT\n  {listed(items)}\nFROM digits"


def encoded(column: ColumnPlan) -> str:
    """Return the encoded value of an accepted text; null past int64."""
    name, kind = quoted(column.name), column.type.kind
    if kind == "string":
        return name
    if kind == "bool":
        return f"({name} = 'true')"
    if kind == "float":
        quantum = f"CAST('{column.type.quantum!r}' AS DOUBLE)"
        steps = f"FLOOR(TRY_CAST({name} AS DOUBLE) / {quantum} + CAST(0.5 AS DOUBLE))"
        return f"CASE WHEN ABS({steps}) < CAST('{SAFE_DOUBLE!r}' AS DOUBLE) THEN CAST({steps} AS BIGINT) END"
    return f"TRY_CAST({name} AS BIGINT)"


def judged(source: SourcePlan) -> str:
    """Give each line its reason of quarantine, or null, and whether it is late."""
    ts = quoted(source.event_time)
    arrival = f"COALESCE({quoted(source.arrival)}, {ts})" if source.arrival else ts
    ids = " OR ".join(f"{quoted(each)} IS NULL" for each in source.event_id) or "FALSE"
    ranges = " OR ".join(filter(None, (outside(each) for each in source.columns)))
    columns = [quoted(each.name) for each in source.columns]
    return (
        f"SELECT\n  _raw, `_seq`, {listed(columns, ', ')},\n"
        f"  {arrival} AS _arrival,\n"
        f"  {arrival} - {ts} > {long(source.allowed_lateness)} AS _late,\n"
        "  CASE\n"
        "    WHEN NOT _object THEN 'malformed'\n"
        "    WHEN _timeless THEN 'null_event_time'\n"
        "    WHEN _refused THEN 'wrong_type'\n"
        f"    WHEN {ranges} THEN 'out_of_range'\n"
        f"    WHEN {ids} THEN 'null_event_id'\n"
        f"    WHEN {ts} - {arrival} > {long(source.max_future_skew)} THEN 'future'\n"
        "  END AS _reason\nFROM typed"
    )


def outside(column: ColumnPlan) -> str:
    """Return the test for a value outside its range, or past int64."""
    name, lo, hi = quoted(column.name), column.type.lo, column.type.hi
    if column.type.kind in ("string", "bool"):
        return ""
    past = f"({quoted('_p_' + column.name)} AND {name} IS NULL)"
    return past if lo is None or hi is None else f"{past} OR {name} < {long(lo)} OR {name} > {long(hi)}"


def accepted(source: SourcePlan) -> str:
    """Keep sound events that are not late, the first of each identity."""
    columns = listed(["`_seq`", "_arrival", *(quoted(each.name) for each in source.columns)], ", ")
    identity = [quoted(source.event_time), *(quoted(each) for each in source.event_id)]
    sound = f"SELECT\n  {columns},\n  {identity_sql(source)} AS _identity"
    rows = "FROM judged\nWHERE _reason IS NULL AND NOT _late"
    if not source.deduplicate:
        return f"{sound}\n{rows}"
    return (
        f"SELECT {columns}, _identity\nFROM (\n{sound},\n"
        f"  ROW_NUMBER() OVER (PARTITION BY {listed(identity, ', ')} ORDER BY _now) AS _copy\n"
        f"FROM (SELECT *, PROCTIME() AS _now {rows.replace(chr(10), ' ')})\n)\nWHERE _copy = 1"
    )


# Streams


def view_streams(view: ViewPlan, source: SourcePlan) -> list[Stream]:
    """Return a view's tiles, and a stream for each field that has rows of its own."""
    found = [tiles(view, source)]
    for position, each in enumerate(view.fields):
        if each.kind == "multiset":
            found.append(values(view, source, position, each))
        if each.kind == "list":
            found.append(entries(view, source, position, each))
    return found


def tile_start(view: ViewPlan, source: SourcePlan) -> str:
    """Return the floor of the event time on the view's finest hop, also before 1970."""
    ts, hop = quoted(source.event_time), long(view.hop)
    return f"{ts} - ({ts} % {hop} + {hop}) % {hop}"


def present_keys(view: ViewPlan) -> str:
    """Return the test for a row that the view takes."""
    return " AND ".join(f"{quoted(each.name)} IS NOT NULL" for each in view.keys)


def key_columns(view: ViewPlan) -> tuple[tuple[str, str], ...]:
    """Return the entity's keys and the tile, with their types."""
    return (*((each.name, sql_type(each)) for each in view.keys), ("tile_start", "BIGINT"))


def tiles(view: ViewPlan, source: SourcePlan) -> Stream:
    """Return the tile aggregation."""
    keys = [quoted(each.name) for each in view.keys]
    fields = [(index, each) for index, each in enumerate(view.fields) if each.kind not in ("list", "multiset")]
    lifts = [f"{lifted(each, source)} AS f{index}" for index, each in fields]
    inner = [*keys, f"{tile_start(view, source)} AS tile_start", f"{quoted(source.event_time)} AS _ts",
             "_arrival", "`_seq`", f"{mixed_sql('_identity', MIX_3)} AS _hash", *lifts]  # fmt: skip
    outer = [*keys, "tile_start", "COUNT(*) AS n", "MAX(_ts) AS max_ts", "MIN(_arrival) AS min_arrival",
             "SUM(_hash) AS set_hash", "MAX(`_seq`) AS max_seq",
             *(f"{COMBINE[each.kind](f'f{index}')} AS f{index}" for index, each in fields)]  # fmt: skip
    query = (
        f"SELECT\n  {listed(outer)}\nFROM (\nSELECT\n  {listed(inner)}\nFROM accepted\nWHERE {present_keys(view)}\n)\n"
        f"GROUP BY {listed([*keys, 'tile_start'], ', ')}"
    )
    counters = tuple((name, "BIGINT") for name in ("n", "max_ts", "min_arrival", "set_hash", "max_seq"))
    states = tuple((f"f{index}", "STRING" if each.kind in ("first", "last") else "BIGINT") for index, each in fields)
    key = tuple(name for name, _ in key_columns(view))
    return Stream(f"{view.name}__tiles", "tiles", (*key_columns(view), *counters, *states), key, query, view.name)


COMBINE: dict[str, Callable[[str], str]] = {
    "add": lambda column: f"COALESCE(SUM({column}), {long(0)})",
    "min": lambda column: f"MIN({column})",
    "max": lambda column: f"MAX({column})",
    "first": lambda column: f"MIN({column})",
    "last": lambda column: f"MAX({column})",
}


def lifted(field: StateField, source: SourcePlan) -> str:
    """Return what one event contributes to a field of the tile row."""
    lift = render(field.lift, FLINK)
    return ordered_sql(source, lift, field.lift.type.kind) if field.kind in ("first", "last") else lift


def values(view: ViewPlan, source: SourcePlan, position: int, field: StateField) -> Stream:
    """Return a multiset: a count for each (entity, tile, value)."""
    keys = [quoted(each.name) for each in view.keys]
    kind = FLINK.types.get(field.lift.type.kind, "BIGINT")
    counters = tuple((name, "BIGINT") for name in ("count", "max_ts", "min_arrival", "max_seq"))
    key = (*(name for name, _ in key_columns(view)), "value")
    lift, group = render(field.lift, FLINK), listed([*keys, "tile_start", "`value`"], ", ")
    inner = [*keys, f"{tile_start(view, source)} AS tile_start", f"{lift} AS `value`",
             f"{quoted(source.event_time)} AS _ts", "_arrival", "`_seq`"]  # fmt: skip
    query = (
        f"SELECT\n  {group},\n  COUNT(*) AS `count`, MAX(_ts) AS max_ts, MIN(_arrival) AS min_arrival, "
        f"MAX(`_seq`) AS max_seq\nFROM (\nSELECT\n  {listed(inner)}\nFROM accepted\nWHERE {present_keys(view)}\n)\n"
        f"WHERE `value` IS NOT NULL\nGROUP BY {group}"
    )
    columns = (*key_columns(view), ("value", kind), *counters)
    return Stream(f"{view.name}__f{position}__values", "values", columns, key, query, view.name, position)


def entries(view: ViewPlan, source: SourcePlan, position: int, field: StateField) -> Stream:
    """Return a list's entries: one appended row for each event that has a value."""
    keys = [quoted(each.name) for each in view.keys]
    ids = tuple((f"id{index}", sql_type(source.column(each))) for index, each in enumerate(source.event_id))
    kind = FLINK.types.get(field.lift.type.kind, "BIGINT")
    columns = (*key_columns(view), ("ts", "BIGINT"), *ids, ("value", kind), ("seq", "BIGINT"))
    lift = render(field.lift, FLINK)
    items = [*keys, f"{tile_start(view, source)} AS tile_start", f"{quoted(source.event_time)} AS ts",
             *(f"{quoted(each)} AS id{index}" for index, each in enumerate(source.event_id)),
             f"{lift} AS `value`", "`_seq` AS seq"]  # fmt: skip
    query = f"SELECT\n  {listed(items)}\nFROM accepted\nWHERE {present_keys(view)} AND {lift} IS NOT NULL"
    return Stream(f"{view.name}__f{position}__entries", "entries", columns, (), query, view.name, position)


def account_streams(views: Sequence[ViewPlan]) -> tuple[Stream, ...]:
    """Return what became of the lines that are in no tile, and a count of each fate before deduplication."""
    line = (("raw", "BYTES"), ("seq", "BIGINT"))
    fate = "CASE WHEN _reason IS NOT NULL THEN 'quarantined' WHEN _late THEN 'late' ELSE 'accepted' END"
    without = [f"SELECT '{each.name}', `_seq` FROM accepted WHERE NOT ({present_keys(each)})" for each in views]
    nowhere = " OR ".join(f"({present_keys(each)})" for each in views)
    without.append(f"SELECT CAST(NULL AS STRING), `_seq` FROM accepted WHERE NOT ({nowhere})")
    return (
        Stream(
            "quarantine", "quarantine", (("reason", "STRING"), *line), (),
            "SELECT _reason, _raw, `_seq`\nFROM judged\nWHERE _reason IS NOT NULL",
        ),
        Stream("late", "late", line, (), "SELECT _raw, `_seq`\nFROM judged\nWHERE _reason IS NULL AND _late"),
        Stream("skipped", "skipped", (("view", "STRING"), ("seq", "BIGINT")), (), "\nUNION ALL\n".join(without)),
        Stream(
            "fates", "fates", (("fate", "STRING"), ("n", "BIGINT")), ("fate",),
            f"SELECT fate, COUNT(*) AS n\nFROM (SELECT {fate} AS fate FROM judged)\nGROUP BY fate",
        ),
    )  # fmt: skip


def sink_table(stream: Stream, folder: str) -> str:
    """Declare a stream's folder; the file format with deletes is Debezium's."""
    columns = listed([f"{quoted(name)} {kind}" for name, kind in stream.columns])
    options = {
        "connector": "filesystem",
        "path": f"{uri(folder)}/{stream.name}",
        "format": "debezium-json" if stream.updating else "json",
        "sink.rolling-policy.rollover-interval": "1 min",
    }
    return f"CREATE TEMPORARY TABLE {quoted(stream.name)} (\n  {columns}\n) WITH (\n  {with_options(options)}\n)"


# The order of events as text, and the identity as a number


def ordered_integer(value: str) -> str:
    """Write a BIGINT as 20 characters in numeric order: 0 or 1 for the sign, then 19 digits."""
    negative = f"'0' || LPAD(CAST({value} + {long(INT64_MAX)} + {long(1)} AS STRING), 19, '0')"
    return f"CASE WHEN {value} < 0 THEN {negative} ELSE '1' || LPAD(CAST({value} AS STRING), 19, '0') END"


def ordered_text(value: str, kind: str) -> str:
    """Write a value as text whose order is the value's; strings as the hex of their UTF-8 bytes."""
    if kind == "string":
        return f"HEX({value})"
    return f"CAST({value} AS STRING)" if kind == "bool" else ordered_integer(value)


def ordered_sql(source: SourcePlan, value: str, kind: str) -> str:
    """Write (event time, ids, value) as one text in order; null for a null value.

    The parts end with a space, which sorts before every hex digit: a shorter string comes first.
    """
    parts = [ordered_integer(quoted(source.event_time))]
    parts += [ordered_text(quoted(each), source.column(each).type.kind) for each in source.event_id]
    return " || ' ' || ".join(f"({each})" for each in [*parts, ordered_text(value, kind)])


def decode_ordered(
    order: str, source: SourcePlan, kind: str
) -> tuple[int, tuple[int | str | bool, ...], int | str | bool]:
    """Read a `first` or `last` field back.

    Parameters
    ----------
    order
        Text of the field.
    source
        Whose ids it holds.
    kind
        Kind of the value's type: ``string``, ``bool`` or a number's.

    Returns
    -------
    tuple
        Event time (ms), ids, encoded value.
    """
    kinds = ["int", *(source.column(each).type.kind for each in source.event_id), kind]
    ts, *ids, value = (decode_part(each, of) for each, of in zip(order.split(" "), kinds, strict=True))
    return int(ts), tuple(ids), value


def decode_part(part: str, kind: str) -> int | str | bool:
    """Read one part of an ordered text.

    Examples
    --------
    >>> decode_part("09223372036854775807", "int"), decode_part("C3A9", "string")
    (-1, 'é')
    """
    if kind == "string":
        return bytes.fromhex(part).decode()
    if kind == "bool":
        return part.upper() == "TRUE"
    return int(part[1:]) + (INT64_MIN if part[0] == "0" else 0)


def mixed_sql(value: str, multiplier: int) -> str:
    """Write the nonlinear mix: multiply, add the truncated quotient by 2**32, multiply; all wrap."""
    product = f"({value} * {long(multiplier)})"
    return f"(({product} + {product} / {long(WORD)}) * {long(MIX_2)})"


def identity_sql(source: SourcePlan) -> str:
    """Write the wrapping sum of the mixed parts of the identity, each with a multiplier of its own."""
    parts = [quoted(source.event_time), *(hashable_sql(source.column(each)) for each in source.event_id)]
    return " + ".join(mixed_sql(part, MIX_1 + 2 * index) for index, part in enumerate(parts))


def hashable_sql(column: ColumnPlan) -> str:
    """Return an id as BIGINT: a string by the halves of its MD5, their hex digits taken as decimal ones.

    HASH_CODE would not do: it is Java's hash of a constant, but another of a computed string.
    """
    name = quoted(column.name)
    if column.type.kind == "bool":
        return f"CASE WHEN {name} THEN {long(1)} ELSE {long(0)} END"
    if column.type.kind != "string":
        return name
    decimal = f"TRANSLATE(MD5({name}), 'abcdef', '012345')"
    halves = [f"CAST(SUBSTRING({decimal}, {start}, 16) AS BIGINT)" for start in (1, 17)]
    return f"({halves[0]} * {long(WORD)} + {halves[1]})"


def mixed(value: NDArray[np.int64], multiplier: int) -> NDArray[np.int64]:
    """Return the nonlinear mix of int64 values, as `mixed_sql`."""
    product = value * np.int64(multiplier)
    quotient = (product >> 32) + ((product < 0) & ((product & np.int64(WORD - 1)) != 0))
    found: NDArray[np.int64] = (product + quotient) * np.int64(MIX_2)
    return found


def hashable(value: int | bool | str) -> int:
    """Return an id as an int64, wrapped.

    Examples
    --------
    >>> hashable(-3), hashable("p")
    (-3, -6413354610570813594)
    """
    if not isinstance(value, str):
        return int(value)
    md5 = hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()
    decimal = md5.translate(str.maketrans("abcdef", "012345"))
    found = (int(decimal[:16]) * WORD + int(decimal[16:])) % 2**64
    return found + 2 * INT64_MIN if found > INT64_MAX else found


def identity_hash(ts: Sequence[int], *ids: Sequence[int | bool | str]) -> NDArray[np.int64]:
    """Return the hash of each identity; a tile's `set_hash` is their wrapping sum.

    Parameters
    ----------
    ts
        (n,) event times, ms.
    ids
        (n,) each, in the order of the source's `event_id`.

    Returns
    -------
    ndarray of int64
        (n,) hashes.
    """
    total = np.zeros(len(ts), np.int64)
    for index, column in enumerate([ts, *ids]):
        part = np.array([hashable(each) for each in column], np.int64)
        total = total + mixed(part, MIX_1 + 2 * index)
    return mixed(total, MIX_3)
