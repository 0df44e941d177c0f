"""Typed row expressions as SQL text for DuckDB and for Flink.

Both dialects see encoded values: BIGINT for numbers and timestamps, VARCHAR, BOOLEAN.
Ranges were checked when the expression was bound, so no operation here can overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

from unskew.pipelines.hyperloglog import HEX_DIGITS, RANK_DIGITS, REGISTER_DIGITS, STRIDE
from unskew.pipelines.nodes import Node

INFIX = {
    "add": "+", "sub": "-", "mul": "*",
    "eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "and": "AND", "or": "OR",
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """What differs between the engines' SQL.

    Parameters
    ----------
    name
        Name of the dialect.
    quote
        Mark around identifiers.
    integer_division
        Operator of truncated division on BIGINT: `/` is a float division in DuckDB.
    types
        SQL type of each encoded kind.
    length
        Function that counts code points.
    matches
        Function that tests a pattern.
    """

    name: str
    quote: str
    integer_division: str
    types: Mapping[str, str]
    length: str
    matches: str

    def identifier(self, name: str) -> str:
        """Quote an identifier."""
        return f"{self.quote}{name.replace(self.quote, self.quote * 2)}{self.quote}"

    def type_of(self, node: Node) -> str:
        """Return the SQL type that holds the node's encoded value."""
        return self.types.get(node.type.kind, "BIGINT")


DUCKDB = Dialect("duckdb", '"', "//", {"string": "VARCHAR", "bool": "BOOLEAN"}, "LENGTH", "REGEXP_MATCHES")
FLINK = Dialect("flink", "`", "/", {"string": "STRING", "bool": "BOOLEAN"}, "CHAR_LENGTH", "REGEXP")


def render(node: Node, dialect: Dialect) -> str:
    """Write an expression as SQL.

    Parameters
    ----------
    node
        A bound expression.
    dialect
        `DUCKDB` or `FLINK`.

    Returns
    -------
    str
        A scalar expression over the encoded columns, in brackets where it is compound.
    """
    if node.op == "column":
        return dialect.identifier(str(node.value))
    if node.op == "literal":
        return render_literal(node, dialect)
    args = [render(each, dialect) for each in node.args]
    if node.op in INFIX:
        return f"({args[0]} {INFIX[node.op]} {args[1]})"
    return RENDERERS[node.op](args, dialect, node)


def render_literal(node: Node, dialect: Dialect) -> str:
    """Write a literal; nulls and integers carry their type, for engines guess narrow ones."""
    if node.value is None:
        return f"CAST(NULL AS {dialect.type_of(node)})"
    if isinstance(node.value, bool):
        return str(node.value).upper()
    if isinstance(node.value, str):
        return "'" + node.value.replace("'", "''") + "'"
    return f"CAST({node.value} AS BIGINT)"


def by_positive(node: Node) -> bool:
    """Return whether the divisor is a positive literal."""
    value = node.args[1].value
    return node.args[1].op == "literal" and isinstance(value, int) and value > 0


def never_negative(node: Node) -> bool:
    """Return whether the dividend's range starts at 0 or above: then truncating is flooring."""
    return node.args[0].type.bounds[0] >= 0


def render_floordiv(args: list[str], dialect: Dialect, node: Node) -> str:
    """Floor: both engines truncate, so an inexact quotient of unlike signs is one too large."""
    if by_positive(node):
        below = args[0] if never_negative(node) else f"({args[0]} - {render_mod(args, dialect, node)})"
        return f"({below} {dialect.integer_division} {args[1]})"
    a, b = args[0], f"NULLIF({args[1]}, 0)"
    unlike = f"({a} % {b} <> 0 AND ({a} < 0) <> ({b} < 0))"
    return f"({a} {dialect.integer_division} {b} - CASE WHEN {unlike} THEN 1 ELSE 0 END)"


def render_mod(args: list[str], _: Dialect, node: Node) -> str:
    """Return the remainder with the divisor's sign: the engines give the dividend's."""
    if by_positive(node):
        rest = f"({args[0]} % {args[1]})"
        return rest if never_negative(node) else f"(({rest} + {args[1]}) % {args[1]})"
    a, b = args[0], f"NULLIF({args[1]}, 0)"
    unlike = f"({a} % {b} <> 0 AND ({a} < 0) <> ({b} < 0))"
    return f"({a} % {b} + CASE WHEN {unlike} THEN {b} ELSE 0 END)"


def render_if_else(args: list[str], _: Dialect, __: Node) -> str:
    """Choose; a null condition takes the other branch."""
    return f"CASE WHEN {args[0]} THEN {args[1]} ELSE {args[2]} END"


def render_isin(args: list[str], _: Dialect, __: Node) -> str:
    """Test membership; null for a null value."""
    return f"({args[0]} IN ({', '.join(args[1:])}))"


def render_extreme(args: list[str], _: Dialect, node: Node) -> str:
    """Choose the largest or smallest; DuckDB leaves nulls out, here one makes it null."""
    null = " OR ".join(f"{each} IS NULL" for each in args)
    return f"CASE WHEN NOT ({null}) THEN {node.op.upper()}({', '.join(args)}) END"


def render_to_string(args: list[str], dialect: Dialect, node: Node) -> str:
    """Write a boolean as true or false, a decimal with all its digits after the point."""
    (value,), text = args, dialect.types["string"]
    source = node.args[0].type
    if source.kind == "bool":
        return f"CASE WHEN {value} THEN 'true' WHEN NOT {value} THEN 'false' END"
    if source.units == 1:
        return f"CAST({value} AS {text})"
    units, digits = f"CAST({source.units} AS BIGINT)", len(str(source.units)) - 1
    whole = f"CAST(ABS({value}) {dialect.integer_division} {units} AS {text})"
    rest = f"LPAD(CAST(ABS({value}) % {units} AS {text}), {digits}, '0')"
    return f"(CASE WHEN {value} < 0 THEN '-' ELSE '' END || {whole} || '.' || {rest})"


def render_to_number(args: list[str], dialect: Dialect, node: Node) -> str:
    """Read plain digits, with at most the type's after the point, in its units; null for anything else."""
    digits = len(str(node.type.units)) - 1
    form = f"^-?(?:0|[1-9][0-9]{{0,18}}){rf'(?:[.][0-9]{{1,{digits}}})?' if digits else ''}$"
    test = f"{dialect.matches}({args[0]}, '{form}')"
    if not digits:
        return f"CASE WHEN {test} THEN TRY_CAST({args[0]} AS BIGINT) END"
    whole, fraction = (piece(args[0], "'.'", place, dialect) for place in (1, 2))
    return f"CASE WHEN {test} THEN TRY_CAST({whole} || RPAD(COALESCE({fraction}, ''), {digits}, '0') AS BIGINT) END"


def render_case(args: list[str], _: Dialect, node: Node) -> str:
    """Change the case of ASCII letters alone."""
    sets = (ascii_uppercase, ascii_lowercase)
    old, new = sets if node.op == "lower" else sets[::-1]
    return f"TRANSLATE({args[0]}, '{old}', '{new}')"


def render_substr(args: list[str], _: Dialect, __: Node) -> str:
    """Take code points from a place on."""
    value, start, length = args
    return f"SUBSTRING({value}, CAST({start} AS INT), CAST({length} AS INT))"


def render_split_part(args: list[str], dialect: Dialect, node: Node) -> str:
    """Take a piece between separators; null where there is none."""
    part = int(node.args[2].value or 0)
    found = piece(args[0], args[1], part, dialect)
    return f"CASE WHEN {args[0]} = '' THEN '' ELSE {found} END" if part == 1 else found


def piece(value: str, separator: str, part: int, dialect: Dialect) -> str:
    """Return a piece between separators, counted from 1; Flink has none in an empty text."""
    if dialect.name == "duckdb":
        return f"STRING_SPLIT({value}, {separator})[{part}]"
    return f"SPLIT_INDEX({value}, {separator}, {part - 1})"


def render_position(args: list[str], _: Dialect, node: Node) -> str:
    """Test where a text is."""
    place = f"POSITION({args[1]} IN {args[0]})"
    return f"({place} = 1)" if node.op == "starts_with" else f"({place} > 0)"


def render_register(args: list[str], dialect: Dialect, node: Node) -> str:
    """Return a HyperLogLog register and rank: hex digits of the MD5, and the zero bits that lead the next ones."""
    kind, text = node.args[0].type.kind, args[0]
    if kind == "bool":
        text = f"CASE WHEN {text} THEN '1' WHEN NOT {text} THEN '0' END"
    elif kind != "string":
        text = f"CAST({text} AS {dialect.types['string']})"
    digest = f"MD5({text})"
    places = range(1, REGISTER_DIGITS + 1)
    digits = (f"(POSITION(SUBSTRING({digest}, {place}, 1) IN '{HEX_DIGITS}') - 1)" for place in places)
    register = " + ".join(f"{each} * {STRIDE * 16 ** (REGISTER_DIGITS - 1 - at)}" for at, each in enumerate(digits))
    rest = f"TRIM(LEADING '0' FROM SUBSTRING({digest}, {REGISTER_DIGITS + 1}, {RANK_DIGITS}))"
    zeros = f"({RANK_DIGITS} - {dialect.length}({rest})) * 4"
    inside = f"COALESCE(TRY_CAST(TRANSLATE(SUBSTRING({rest}, 1, 1), '{HEX_DIGITS[1:]}', '322111100000000') AS INT), 0)"
    return f"CAST({register} + {zeros} + {inside} + 1 AS BIGINT)"


Renderer = Callable[[list[str], Dialect, Node], str]
RENDERERS: dict[str, Renderer] = {
    "floordiv": render_floordiv,
    "mod": render_mod,
    "if_else": render_if_else,
    "isin": render_isin,
    "not": lambda args, _, __: f"(NOT {args[0]})",
    "is_null": lambda args, _, __: f"({args[0]} IS NULL)",
    "coalesce": lambda args, _, __: f"COALESCE({', '.join(args)})",
    "to_string": render_to_string,
    "to_number": render_to_number,
    "greatest": render_extreme,
    "least": render_extreme,
    "lower": render_case,
    "upper": render_case,
    "length": lambda args, dialect, _: f"CAST({dialect.length}({args[0]}) AS BIGINT)",
    "concat": lambda args, _, __: f"({' || '.join(args)})",
    "substr": render_substr,
    "split_part": render_split_part,
    "starts_with": render_position,
    "contains": render_position,
    "abs": lambda args, _, __: f"ABS({args[0]})",
    "hll_register": render_register,
    "truncdiv": lambda args, dialect, _: f"({args[0]} {dialect.integer_division} {args[1]})",
}
