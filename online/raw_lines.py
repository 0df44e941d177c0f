"""Whose a raw line of JSON is: the keys as the stream reads them (`pipelines.backends.flink_lines`)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from unskew.pipelines.backends.flink_lines import DIGITS
from unskew.pipelines.encoding import Cell, is_unicode
from unskew.pipelines.erasure import Cells, Subject
from unskew.pipelines.plan import ColumnPlan, SourcePlan

UNREAD = object()  # the text of a key that its type does not take, or of a line that is no JSON


def is_of(encoded: str, source: SourcePlan, who: Subject) -> bool:
    """Return whether a line, in base64, is the entity's.

    Where a key cannot be read, the line is taken for the entity's if it holds the text of all its keys.
    """
    line = base64.b64decode(encoded)
    values = parsed(line)
    return any(names(line, values, source, way, who.given) for way in who.sources[source.name])


def names(
    line: bytes, values: Mapping[str, Any] | None, source: SourcePlan, way: Cells, given: Mapping[str, Any]
) -> bool:
    """Return whether a line names the entity in one way."""
    if values is None:
        return all(holds(line, str(each)) for each in given.values())
    aliases = dict(source.aliases)
    for name, cell in way.items():
        column = source.column(name)
        value = first_given(values, (name, *aliases.get(name, ())))
        read = None if value is None else json_cell(column, value)
        if read is UNREAD and holds(json.dumps(value, default=str).encode(), str(cell)):
            continue
        if type(read) is not type(cell) or read != cell:
            return False
    return True


def parsed(line: bytes) -> Mapping[str, Any] | None:
    """Return a line's object with numbers in all their digits; None where it is none."""
    try:
        found = json.loads(line.decode("utf-8"), parse_float=Decimal, parse_constant=refuse)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def refuse(word: str) -> None:
    """Refuse NaN and infinities."""
    raise ValueError(word)


def first_given(values: Mapping[str, Any], paths: tuple[str, ...]) -> Any:
    """Return the value at the first path that is there and no null."""
    found = (at(values, each.split(".")) for each in paths)
    return next((each for each in found if each is not None), None)


def at(values: Any, path: list[str]) -> Any:
    """Return the value at a path; an array of one object stands for that object."""
    for each in path:
        if isinstance(values, list) and len(values) == 1:
            (values,) = values
        values = values.get(each) if isinstance(values, dict) else None
    return values


def json_cell(column: ColumnPlan, value: Any) -> Cell | object:
    """Return a key, integer or string, as the stream encodes it; `UNREAD` for a form that the type does not take."""
    if column.type.kind == "string":
        return value if isinstance(value, str) and is_unicode(value) else UNREAD
    if isinstance(value, str):
        return int(value) if re.fullmatch(DIGITS, value, re.ASCII) else UNREAD
    if isinstance(value, Decimal):  # 1e0 is a whole number, 12.0 is none
        return int(value) if value.as_tuple().exponent == 0 else UNREAD
    return value if type(value) is int else UNREAD


def holds(line: bytes, text: str) -> bool:
    """Return whether a line holds a text as a whole word, plain or as JSON escapes it."""
    words = (text.encode("utf-8", "surrogatepass"), json.dumps(text)[1:-1].encode())
    return any(re.search(rb"(?<![0-9A-Za-z_])" + re.escape(each) + rb"(?![0-9A-Za-z_])", line) for each in words)
