"""Typed row expressions as SQL text for DuckDB and for Flink.

Both dialects see encoded values: BIGINT for numbers and timestamps, VARCHAR, BOOLEAN.
Ranges were checked when the expression was bound, so no operation here can overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    """

    name: str
    quote: str
    integer_division: str
    types: Mapping[str, str]

    def identifier(self, name: str) -> str:
        """Quote an identifier."""
        return f"{self.quote}{name.replace(self.quote, self.quote * 2)}{self.quote}"

    def type_of(self, node: Node) -> str:
        """Return the SQL type that holds the node's encoded value."""
        return self.types.get(node.type.kind, "BIGINT")


DUCKDB = Dialect("duckdb", '"', "//", {"string": "VARCHAR", "bool": "BOOLEAN"})
FLINK = Dialect("flink", "`", "/", {"string": "STRING", "bool": "BOOLEAN"})


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


def render_floordiv(args: list[str], dialect: Dialect, _: Node) -> str:
    """Floor: both engines truncate, so one is taken off an inexact quotient of unlike signs."""
    a, b = args[0], f"NULLIF({args[1]}, 0)"
    unlike = f"({a} % {b} <> 0 AND ({a} < 0) <> ({b} < 0))"
    return f"({a} {dialect.integer_division} {b} - CASE WHEN {unlike} THEN 1 ELSE 0 END)"


def render_mod(args: list[str], _: Dialect, __: Node) -> str:
    """Return the remainder with the divisor's sign: the engines give the dividend's."""
    a, b = args[0], f"NULLIF({args[1]}, 0)"
    unlike = f"({a} % {b} <> 0 AND ({a} < 0) <> ({b} < 0))"
    return f"({a} % {b} + CASE WHEN {unlike} THEN {b} ELSE 0 END)"


def render_if_else(args: list[str], _: Dialect, __: Node) -> str:
    """Choose; a null condition takes the other branch."""
    return f"CASE WHEN {args[0]} THEN {args[1]} ELSE {args[2]} END"


def render_isin(args: list[str], _: Dialect, __: Node) -> str:
    """Test membership; null for a null value."""
    return f"({args[0]} IN ({', '.join(args[1:])}))"


Renderer = Callable[[list[str], Dialect, Node], str]
RENDERERS: dict[str, Renderer] = {
    "floordiv": render_floordiv,
    "mod": render_mod,
    "if_else": render_if_else,
    "isin": render_isin,
    "not": lambda args, _, __: f"(NOT {args[0]})",
    "is_null": lambda args, _, __: f"({args[0]} IS NULL)",
    "coalesce": lambda args, _, __: f"COALESCE({', '.join(args)})",
    "to_string": lambda args, dialect, _: f"CAST({args[0]} AS {dialect.types['string']})",
}
