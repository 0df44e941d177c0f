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
a number of more than 1,000 digits or with an exponent past int32, nesting deeper than 999, and in a line that is not
plain (see `PLAIN_LINE`) a name of more than 50,000 or a string of more than 20,000,000 UTF-16 units. A decimal of more than 6 digits
after the point is refused: Flink prints 0.0000001 with an exponent.

Of a message of Kafka the arrival is the message's timestamp and no key of the JSON; one without a value is malformed.

The reasons in their order: ``malformed``, ``null_event_time``, ``wrong_type``, ``out_of_range``,
``null_event_id``, ``future``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unskew.pipelines.backends.flink_identity import identity_sql
from unskew.pipelines.backends.flink_pieces import barrier, listed, long, quoted, text
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.plan import ColumnPlan, SourcePlan

MAX_SCALE = 6  # Java prints a decimal below 1e-6 with an exponent
SAFE_DOUBLE = 2.0**62  # below it a cast to BIGINT is exact

# Flink compiles the pattern of REGEXP once, that of REGEXP_EXTRACT at each call: forms are tested, not taken apart.
DIGITS = "-?(?:0|[1-9][0-9]*)"
FLOAT_FORM = r'^-?[0-9][^"\[\]{}]*$'
REPLACED = r"U&'%\FFFD%'"
SURROGATE = r"[\uD800-\uDFFF]"

# A plain line: one flat object without spaces, escapes or exponents, no comma or colon in a string. Splitting at
# commas and colons reads it, and JSON_QUERY would print each of its values as it stands. Java's classes are fast below
# U+0100, so U+FFFD, which stands for bytes that are no UTF-8, is looked for apart.
PLAIN_STRING = r'"[^"\\,:\x00-\x1F]*+"'
PLAIN_VALUE = rf"(?:{PLAIN_STRING}|(?!-0[,}}])-?(?:0|[1-9][0-9]{{0,17}}+)(?:\.[0-9]{{1,17}}+)?+|true|false|null)"
PLAIN_LINE = rf"^\{{{PLAIN_STRING}:{PLAIN_VALUE}(?:,{PLAIN_STRING}:{PLAIN_VALUE})*+\}}\z"


LINE = "_raw"
MESSAGE = "_raw, _arrived, `_seq`"  # what of a message goes along with its line


def layers(source: SourcePlan, since: int | None, carried: str = LINE) -> tuple[tuple[str, str], ...]:
    """Return the name and query of each view, from the lines to the accepted events.

    Parameters
    ----------
    carried
        `LINE`, or `MESSAGE`: whether sequence and arrival stand in the JSON or beside it.
    """
    return (
        ("texts", texts(carried)),
        ("split", split(carried)),
        ("wrapped", wrapped(carried)),
        ("parsed", parsed(source, carried)),
        ("typed", typed(source, carried)),
        ("judged", judged(source, carried)),
        ("fated", fated(source, since)),
        ("accepted", accepted(source)),
    )


def in_the_line(source: SourcePlan, carried: str) -> list[ColumnPlan]:
    """Return the columns that are keys of the JSON."""
    return [each for each in source.columns if carried == LINE or each.name != source.arrival]


def texts(carried: str) -> str:
    """Decode the bytes; a byte that is no UTF-8 becomes U+FFFD."""
    decoded = barrier("DECODE(_raw, 'UTF-8')")
    return f"SELECT {carried}, {decoded} AS line\nFROM lines"


def split(carried: str) -> str:
    """Split a plain line into key -> value, of a repeated key the last; null where JSON must be parsed."""
    pairs = f"STR_TO_MAP({inside('line')}, ',', ':')"
    plain = barrier(pairs, f"line NOT LIKE {REPLACED} AND REGEXP(line, {text(PLAIN_LINE)})")
    return f"SELECT\n  {carried}, line,\n  {plain} AS _plain\nFROM texts"


def wrapped(carried: str) -> str:
    """Put a line that is not plain into an array that ends with its own MD5: what is not one value loses that mark."""
    marked = barrier("""'[' || line || ',"' || MD5(line) || '"]'""", "_plain IS NULL")
    return (
        f"SELECT\n  {carried}, _plain,\n  {marked} AS w,\n"
        "  CASE WHEN _plain IS NULL THEN REGEXP(line, '^[ \\t\\r]*\\{') END AS _brace,\n"
        f"  CASE WHEN _plain IS NULL AND line LIKE {REPLACED}\n"
        "    THEN DECODE(ENCODE(line, 'UTF-8'), 'ISO-8859-1') = DECODE(_raw, 'ISO-8859-1')\n"
        "    ELSE TRUE END AS _utf8\n"
        "FROM split"
    )


def parsed(source: SourcePlan, carried: str) -> str:
    """Take each column out as JSON text with its type and every digit; strings unescaped as well."""
    one = "COALESCE(JSON_VALUE(w, 'lax $[1]') || '\"]' = RIGHT(w, 34), FALSE)"
    items = [carried, f"CASE WHEN _plain IS NULL THEN _brace AND _utf8 AND {one} ELSE TRUE END AS _object"]
    columns = in_the_line(source, carried)
    aliases = dict(source.aliases)
    keys = {each.name: [each.name, *aliases.get(each.name, ())] for each in columns}
    if carried == LINE:
        keys["_seq"] = ["_seq"]
    for name, paths in keys.items():
        items.append(f"{kept_apart(source, name, first_given(paths, token))} AS {quoted('_t_' + name)}")
    for each in columns:
        if each.type.kind == "string":
            items.append(f"{first_given(keys[each.name], unescaped)} AS {quoted('_s_' + each.name)}")
    return f"SELECT\n  {listed(items)}\nFROM wrapped"


def token(path: str) -> str:
    """Return the JSON text at a path: of a plain line it is a key."""
    query = inside(f"JSON_QUERY(w, 'lax $[0].{path}' WITH UNCONDITIONAL ARRAY WRAPPER)")
    return f"CASE WHEN _plain IS NULL THEN {query} ELSE {plain_value(path)} END"


def unescaped(path: str) -> str:
    """Return the string at a path."""
    return f"CASE WHEN _plain IS NULL THEN JSON_VALUE(w, 'lax $[0].{path}') ELSE {inside(plain_value(path))} END"


def plain_value(path: str) -> str:
    """Return the text of a key of a plain line, which has no objects inside."""
    return "CAST(NULL AS STRING)" if "." in path else f"_plain[{text(chr(34) + path + chr(34))}]"


def first_given(paths: Sequence[str], read: Callable[[str], str]) -> str:
    """Return what `read` makes of the first path that is there and no null; the last is not asked."""
    *earlier, last = paths
    cases = "".join(f"WHEN COALESCE({token(each)}, 'null') <> 'null' THEN {read(each)} " for each in earlier)
    return f"CASE {cases}ELSE {read(last)} END" if earlier else read(last)


def inside(expression: str) -> str:
    """Return a text without its first and last character: its quotes, or the wrapper's brackets."""
    return f"SUBSTRING({expression}, 2, CHAR_LENGTH({expression}) - 2)"


def kept_apart(source: SourcePlan, name: str, expression: str) -> str:
    """Return a column's expression, the event time's behind a barrier: the next layer reads it more than once."""
    return barrier(expression) if name == source.event_time else expression


def typed(source: SourcePlan, carried: str) -> str:
    """Encode: BIGINT, STRING or BOOLEAN, null for a wrong form and past int64; the texts go along."""
    items = ["_raw", "_object"]
    if carried == LINE:
        items.append(f"TRY_CAST({quoted('_t__seq')} AS BIGINT) AS `_seq`")
    else:
        items += ["`_seq`", *([f"_arrived AS {quoted(source.arrival)}"] if source.arrival else [])]
    for each in in_the_line(source, carried):
        items += [
            quoted("_t_" + each.name),
            f"{kept_apart(source, each.name, encoded(each))} AS {quoted(each.name)}",
        ]
    return f"SELECT\n  {listed(items)}\nFROM parsed"


def encoded(column: ColumnPlan) -> str:
    """Return the encoded value of a column's text."""
    token, kind = quoted("_t_" + column.name), column.type.kind
    if kind == "string":
        value = quoted("_s_" + column.name)
        return f"CASE WHEN {token} LIKE '\"%' AND NOT REGEXP({value}, {text(SURROGATE)}) THEN {value} END"
    if kind == "bool":
        return f"CASE WHEN {token} IN ('true', '1') THEN TRUE WHEN {token} IN ('false', '0') THEN FALSE END"
    if kind == "float":
        quantum = f"CAST('{column.type.quantum!r}' AS DOUBLE)"
        steps = f"FLOOR(TRY_CAST({token} AS DOUBLE) / {quantum} + CAST(0.5 AS DOUBLE))"
        safe = f"ABS({steps}) < CAST('{SAFE_DOUBLE!r}' AS DOUBLE)"
        return f"CASE WHEN REGEXP({token}, {text(FLOAT_FORM)}) AND {safe} THEN CAST({steps} AS BIGINT) END"
    digits = number_form(column)
    quoted_digits = f'"{digits}"'
    return (
        f"CASE WHEN {token} LIKE '\"%' THEN "
        f"CASE WHEN REGEXP({token}, {text(f'^{quoted_digits}$')}) THEN {integer(column, inside(token))} END "
        f"WHEN REGEXP({token}, {text(f'^{digits}$')}) THEN {integer(column, token)} END"
    )


def number_form(column: ColumnPlan) -> str:
    """Return the pattern of an integer, or of a decimal with at most its digits after the point."""
    scale = decimals(column)
    if scale > MAX_SCALE:
        message = f"column `{column.name}` is `{column.type}`; Flink reads at most {MAX_SCALE} digits after the point"
        raise DefinitionError(message)
    return DIGITS + (rf"(?:\.[0-9]{{1,{scale}}})?" if scale else "")


def decimals(column: ColumnPlan) -> int:
    """Return the digits after the point that a column keeps."""
    return len(str(column.type.units)) - 1 if column.type.kind == "decimal" else 0


def integer(column: ColumnPlan, number: str) -> str:
    """Return a number's text as BIGINT, in units of its last decimal; null past int64."""
    scale = decimals(column)
    if scale:
        whole, fraction = (f"SPLIT_INDEX({number}, '.', {part})" for part in (0, 1))
        number = f"{whole} || SUBSTRING(COALESCE({fraction}, '') || '{'0' * scale}', 1, {scale})"
    return f"TRY_CAST({number} AS BIGINT)"


def judged(source: SourcePlan, carried: str) -> str:
    """Give each line its reason of quarantine, or null, and whether it is late."""
    ts = quoted(source.event_time)
    arrival = f"COALESCE({quoted(source.arrival)}, {ts})" if source.arrival else ts
    ids = " OR ".join(f"{quoted(each)} IS NULL" for each in source.event_id) or "FALSE"
    read = in_the_line(source, carried)
    ranges = " OR ".join(outside(each) for each in read)
    columns = [quoted(each.name) for each in source.columns]
    reason = (
        "CASE\n"
        "    WHEN NOT _object THEN 'malformed'\n"
        f"    WHEN {ts} IS NULL AND NOT {given(source.event_time)} THEN 'null_event_time'\n"
        f"    WHEN {' OR '.join(wrong_form(each) for each in read)} THEN 'wrong_type'\n"
        f"    WHEN {ranges} THEN 'out_of_range'\n"
        f"    WHEN {ids} THEN 'null_event_id'\n"
        f"    WHEN {ts} - {arrival} > {long(source.max_future_skew)} THEN 'future'\n"
        "  END"
    )
    return (
        f"SELECT\n  _raw, `_seq`, {listed(columns, ', ')},\n"
        f"  {arrival} AS _arrival,\n"
        f"  {arrival} - {ts} > {long(source.allowed_lateness)} AS _late,\n"
        f"  {barrier(reason)} AS _reason\nFROM typed"
    )


def given(name: str) -> str:
    """Return whether a column's text is there and no null."""
    token = quoted("_t_" + name)
    return f"COALESCE({token} <> 'null', FALSE)"


def wrong_form(column: ColumnPlan) -> str:
    """Return whether a value is null because of its form."""
    missing = f"{quoted(column.name)} IS NULL AND {given(column.name)}"
    if column.type.kind in ("string", "bool"):
        return f"({missing})"
    form = FLOAT_FORM if column.type.kind == "float" else f'^"?{number_form(column)}"?$'
    return f"({missing} AND NOT REGEXP({quoted('_t_' + column.name)}, {text(form)}))"


def outside(column: ColumnPlan) -> str:
    """Return whether a value of the right form is outside its range, or past int64."""
    name, lo, hi = quoted(column.name), column.type.lo, column.type.hi
    past = f"({name} IS NULL AND {given(column.name)})"
    if column.type.kind in ("string", "bool") or lo is None or hi is None:
        return past
    return f"{past} OR {name} < {long(lo)} OR {name} > {long(hi)}"


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
