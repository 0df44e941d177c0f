r"""The layers between a line of JSON and an accepted event, as Flink SQL.

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

from unskew.pipelines.backends.flink_identity import identity_sql
from unskew.pipelines.backends.flink_pieces import barrier, listed, long, quoted, text, uri, with_options
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.plan import ColumnPlan, SourcePlan

MAX_SCALE = 6  # Java prints a decimal below 1e-6 with an exponent
SAFE_DOUBLE = 2.0**62  # below it a cast to BIGINT is exact

# JSON_QUERY with a wrapper keeps the JSON type and every digit: [12], [12.0], ["12"], [null] as null.
INTEGER_FORM = r"^\[\"?(-?(?:0|[1-9][0-9]*))\"?\]$"
DECIMAL_FORM = r"^\[\"?(-?(?:0|[1-9][0-9]*))(?:\.([0-9]{1,%d}))?\"?\]$"
FLOAT_FORM = r"^\[(-?[0-9][^\"\[\]{}]*)\]$"
SURROGATE = r"[\uD800-\uDFFF]"

# A plain line: one flat object without spaces, escapes or exponents, no comma or colon in a string. Splitting at
# commas and colons reads it, and JSON_QUERY would print each of its values as it stands.
PLAIN_STRING = r'"[^"\\,:\x00-\x1F\x{FFFD}]*+"'
PLAIN_VALUE = rf"(?:{PLAIN_STRING}|(?!-0[,}}])-?(?:0|[1-9][0-9]{{0,17}}+)(?:\.[0-9]{{1,17}}+)?+|true|false|null)"
PLAIN_LINE = rf"^\{{{PLAIN_STRING}:{PLAIN_VALUE}(?:,{PLAIN_STRING}:{PLAIN_VALUE})*+\}}\z"


def layers(source: SourcePlan, since: int | None) -> tuple[tuple[str, str], ...]:
    """Return the name and query of each view, from the lines to the accepted events."""
    return (
        ("texts", texts()),
        ("split", split()),
        ("wrapped", wrapped()),
        ("parsed", parsed(source)),
        ("digits", digits(source)),
        ("typed", typed(source)),
        ("judged", judged(source)),
        ("fated", fated(source, since)),
        ("accepted", accepted(source)),
    )


def source_table(folder: str, *, watch: bool) -> str:
    """Declare the input: one row of bytes for each line."""
    options = {"connector": "filesystem", "path": uri(folder), "format": "raw"}
    if watch:
        options["source.monitor-interval"] = "1 s"
    return f"CREATE TEMPORARY TABLE lines (\n  _raw BYTES\n) WITH (\n  {with_options(options)}\n)"


def texts() -> str:
    """Decode the bytes; a byte that is no UTF-8 becomes U+FFFD."""
    decoded = barrier("DECODE(_raw, 'UTF-8')")
    return f"SELECT _raw, {decoded} AS line\nFROM lines"


def split() -> str:
    """Split a plain line into key -> value, of a repeated key the last; null where JSON must be parsed."""
    pairs = "STR_TO_MAP(SUBSTRING(line, 2, CHAR_LENGTH(line) - 2), ',', ':')"
    plain = barrier(f"CASE WHEN REGEXP(line, {text(PLAIN_LINE)}) THEN {pairs} END")
    return f"SELECT\n  _raw, line,\n  {plain} AS _plain\nFROM texts"


def wrapped() -> str:
    """Put a line that is not plain into an array that ends with its own MD5: what is not one value loses that mark."""
    marked = barrier("""CASE WHEN _plain IS NULL THEN '[' || line || ',"' || MD5(line) || '"]' END""")
    return (
        f"SELECT\n  _raw, _plain,\n  {marked} AS w,\n"
        "  CASE WHEN _plain IS NULL THEN REGEXP(line, '^[ \\t\\r]*\\{') END AS _brace,\n"
        "  CASE WHEN _plain IS NULL AND POSITION(U&'\\FFFD' IN line) > 0\n"
        "    THEN DECODE(ENCODE(line, 'UTF-8'), 'ISO-8859-1') = DECODE(_raw, 'ISO-8859-1')\n"
        "    ELSE TRUE END AS _utf8\n"
        "FROM split"
    )


def parsed(source: SourcePlan) -> str:
    """Take each column out as JSON text in brackets; strings unescaped as well."""
    one = "COALESCE(JSON_VALUE(w, 'lax $[1]') || '\"]' = RIGHT(w, 34), FALSE)"
    items = ["_raw", f"CASE WHEN _plain IS NULL THEN _brace AND _utf8 AND {one} ELSE TRUE END AS _object"]
    for name in (*(each.name for each in source.columns), "_seq"):
        key = text(f'"{name}"')
        query = f"JSON_QUERY(w, 'lax $[0].{name}' WITH UNCONDITIONAL ARRAY WRAPPER)"
        either = f"CASE WHEN _plain IS NULL THEN {query} ELSE '[' || NULLIF(_plain[{key}], 'null') || ']' END"
        items.append(f"{barrier(either)} AS {quoted(name)}")
    for each in source.columns:
        if each.type.kind == "string":
            pair = f"_plain[{text(chr(34) + each.name + chr(34))}]"
            plain = f"SUBSTRING({pair}, 2, CHAR_LENGTH({pair}) - 2)"
            value = f"CASE WHEN _plain IS NULL THEN JSON_VALUE(w, 'lax $[0].{each.name}') ELSE {plain} END"
            items.append(f"{barrier(value)} AS {quoted('_s_' + each.name)}")
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


def fated(source: SourcePlan, since: int | None) -> str:
    """Give each line its fate before deduplication."""
    ts = quoted(source.event_time)
    archived = "" if since is None else f"    WHEN {ts} < {long(since)} THEN 'archived'\n"
    return (
        "SELECT *,\n  CASE\n    WHEN _reason IS NOT NULL THEN 'quarantined'\n    WHEN _late THEN 'late'\n"
        f"{archived}    ELSE 'accepted'\n  END AS _fate\nFROM judged"
    )


def accepted(source: SourcePlan) -> str:
    """Keep sound events that are not late, the first of each identity."""
    columns = listed(["`_seq`", "_arrival", *(quoted(each.name) for each in source.columns)], ", ")
    identity = [quoted(source.event_time), *(quoted(each) for each in source.event_id)]
    sound = f"SELECT\n  {columns},\n  {identity_sql(source)} AS _identity"
    rows = "FROM fated\nWHERE _fate = 'accepted'"
    if not source.deduplicate:
        return f"{sound}\n{rows}"
    return (
        f"SELECT {columns}, _identity\nFROM (\n{sound},\n"
        f"  ROW_NUMBER() OVER (PARTITION BY {listed(identity, ', ')} ORDER BY _now) AS _copy\n"
        f"FROM (SELECT *, PROCTIME() AS _now {rows.replace(chr(10), ' ')})\n)\nWHERE _copy = 1"
    )
