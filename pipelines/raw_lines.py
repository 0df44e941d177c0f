"""Whose a raw line of JSON is: the keys as the stream reads them (`pipelines.json_lines`)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unskew.pipelines.erasure import Cells, Subject
from unskew.pipelines.json_lines import WRONG, Path, aliased, at, encoder, first_given
from unskew.pipelines.json_objects import parsed
from unskew.pipelines.plan import SourcePlan


def is_of(encoded: str, source: SourcePlan, who: Subject) -> bool:
    """Return whether a line, in base64, is the entity's."""
    return line_is_of(base64.b64decode(encoded), source, who)


def line_is_of(line: bytes, source: SourcePlan, who: Subject) -> bool:
    """Return whether a line is the entity's.

    Where a key cannot be read, the line is taken for the entity's if it holds the text of all its keys.
    """
    values = parsed(line)
    return any(names(line, values, source, way, who.given) for way in who.sources[source.name])


def names(
    line: bytes, values: Mapping[str, Any] | None, source: SourcePlan, way: Cells, given: Mapping[str, Any]
) -> bool:
    """Return whether a line names the entity in one way."""
    if values is None:
        return all(holds(line, str(each)) for each in given.values())
    for name, cell in way.items():
        paths = aliased(source, name) or ((name,),)
        value = first_given(values, paths)
        read = None if value is None else encoder(source.column(name))(value)
        text = line if value is None else json.dumps(value).encode()
        if (read is WRONG or (value is None and obscured(values, paths))) and holds(text, str(cell)):
            continue
        if type(read) is not type(cell) or read != cell:
            return False
    return True


def obscured(values: Mapping[str, Any], paths: Sequence[Path]) -> bool:
    """Return whether some path ends in an array, inside which the stream reads nothing."""
    return any(isinstance(at(values, each[:length]), list) for each in paths for length in range(1, len(each)))


def holds(line: bytes, text: str) -> bool:
    """Return whether a line holds a text as a whole word, plain or as JSON escapes it."""
    words = (text.encode("utf-8", "surrogatepass"), json.dumps(text)[1:-1].encode())
    return any(re.search(rb"(?<![0-9A-Za-z_])" + re.escape(each) + rb"(?![0-9A-Za-z_])", line) for each in words)
