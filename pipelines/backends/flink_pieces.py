"""Pieces of Flink SQL: names, literals, options, and a way to compute an expression once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unskew.pipelines.backends.sql import FLINK
from unskew.pipelines.plan import ColumnPlan
from unskew.pipelines.types import INT64_MAX, INT64_MIN


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


def barrier(expression: str, condition: str = "") -> str:
    """Return an expression, null where the condition fails, that keeps its layer apart from the next.

    Flink merges projections and then computes what the second reads twice twice, unless a column that it reads
    twice is not deterministic.
    """
    return f"CASE WHEN RAND() < 2{condition and f' AND {condition}'} THEN {expression} END"


def sql_type(column: ColumnPlan) -> str:
    """Return the SQL type of an encoded column."""
    return FLINK.types.get(column.type.kind, "BIGINT")


def uri(folder: str) -> str:
    """Return a URI; a plain path is a local file."""
    return folder if "://" in folder else f"file://{Path(folder).resolve()}"


def with_options(options: dict[str, str]) -> str:
    """Write the options of a table."""
    return listed([f"'{name}' = {text(value)}" for name, value in options.items()])
