"""Tables written as text: what a test gives, and what it expects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.plan import ColumnPlan
from unskew.pipelines.states import FeatureType
from unskew.pipelines.timegrid import milliseconds, parse_instant

NULL = ("", "null")


class Cell(str):
    """A cell of a table that was written as text."""

    __slots__ = ()


def rows_of(text: str) -> list[dict[str, Cell]]:
    """Read a table: a line of names, then lines of cells, separated by ``|``; empty lines do not count.

    Raises
    ------
    InputError
        If a line has another number of cells than the first.
    """
    lines = [
        [Cell(cell.strip()) for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.strip()
    ]
    if not lines:
        message = "the table is empty; give a line of column names and lines of cells"
        raise InputError(message)
    names, *rows = lines
    twice = [each for each in names if names.count(each) > 1]
    if twice:
        message = f"column `{twice[0]}` stands twice in the table's head; name it once"
        raise InputError(message)
    for cells in rows:
        if len(cells) != len(names):
            message = f"line `{' | '.join(cells)}` has {len(cells)} cells, the head has {len(names)}; fill each, null by `null`"
            raise InputError(message)
    return [dict(zip(names, cells, strict=True)) for cells in rows]


def cell_of(column: ColumnPlan, text: str) -> Any:
    """Read a cell as a value of a column; nothing and ``null`` are null, a string may stand in double quotes."""
    if text in NULL:
        return None
    kind = column.type.kind
    try:
        if kind == "string":
            return json.loads(text) if text.startswith('"') else text
        if kind == "bool":
            return {"true": True, "false": False}[text]
        if kind == "timestamp":
            return instant_of(text)
        if kind == "decimal":
            return Decimal(text)
        return float(text) if kind == "float" else int(text)
    except (ValueError, KeyError, InvalidOperation) as error:
        message = f"cell `{text}` of column `{column.name}` is no `{column.type}`"
        raise InputError(message) from error


def instant_of(value: str | int | datetime) -> int:
    """Return an instant as ms: a number of them, an ISO text or a datetime (UTC where it has no zone)."""
    if isinstance(value, datetime):
        return milliseconds(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        message = f"instant `{value!r}` is no ISO text, no whole number of ms and no datetime"
        raise InputError(message)
    return int(value) if value.lstrip("-").isdecimal() else parse_instant(value) or 0


def expected_of(kind: FeatureType, text: str) -> Any:
    """Read a cell as a value of a feature: lists and maps as JSON, instants as ISO text or ms.

    Raises
    ------
    InputError
        If the cell is no value of that type.
    """
    if text in NULL:
        return None
    try:
        if kind.scalar:
            return scalar_of(kind.kind, text)
        found = json.loads(text)
        if kind.key is None and isinstance(found, list):
            return [scalar_of(kind.kind, each) for each in found]
        if kind.key is not None and isinstance(found, dict):
            return {scalar_of(kind.key, key): scalar_of(kind.kind, value) for key, value in found.items()}
    except (ValueError, KeyError, TypeError):
        found = None
    message = f"cell `{text}` is no `{kind}`; write lists and maps as JSON, null as `null`"
    raise InputError(message)


def scalar_of(kind: str, value: Any) -> Any:
    """Return one value of a kind, from its text or from JSON."""
    if value is None:
        return None
    if kind == "timestamp":
        return instant_of(value)
    if kind == "bool":
        return value if isinstance(value, bool) else {"true": True, "false": False}[value]
    return {"int": int, "float": float, "string": str}[kind](value)


def feature_name(name: str, types: Mapping[str, FeatureType]) -> str:
    """Return a feature's full name; its last part does where only one feature has it.

    Raises
    ------
    InputError
        If no feature, or more than one, is meant.
    """
    found = [each for each in types if name in (each, each.partition(".")[2])]
    if len(found) != 1:
        hint = f"it is one of {', '.join(f'`{each}`' for each in found)}" if found else nearest(name, list(types))
        message = f"feature `{name}` is unknown or not the only one; {hint}"
        raise InputError(message)
    return found[0]
