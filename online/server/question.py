"""What `POST /v1/features` is asked: the part of a set, the instants, the rows."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from unskew.online.asked import Asked, Form
from unskew.online.kernels import Ints
from unskew.online.server.refusal import Refusal
from unskew.pipelines.commands.options import instant
from unskew.pipelines.derived import features_read
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.plan import ColumnPlan, SetPlan
from unskew.pipelines.types import Timestamp

NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?")
FIELDS = ("set", "row", "rows", "features", "at")
FIRST, LAST = Timestamp.bounds


@dataclass(frozen=True, eq=False)
class Part:
    """The part of a set that answers a question: whole views, for a record holds all of a view.

    Parameters
    ----------
    plan
        The set with the views, derived features and request columns that are needed.
    names
        The features asked for, in the order of the reply.
    """

    whole: SetPlan
    plan: SetPlan
    names: tuple[str, ...]
    form: Form

    @cached_property
    def columns(self) -> orjson.Fragment:
        """The names as JSON, written once."""
        return orjson.Fragment(orjson.dumps(self.names))

    @cached_property
    def maps(self) -> bool:
        """Whether a value is a map, whose keys JSON writes as texts."""
        return any(each.type.key and name in self.names for name, each in self.plan.features().items())


@dataclass(frozen=True, eq=False)
class Question:
    """A checked request.

    Parameters
    ----------
    at
        The instant as it is given back: one, or one for each row.
    t
        (R,) the same for each row, ms.
    arrow
        Whether the reply is Arrow.
    """

    part: Part
    asked: Asked
    at: int | list[int]
    t: Ints
    arrow: bool


def part_of(plan: SetPlan, names: Sequence[str] | None) -> Part:
    """Return the part of a set that features need; the whole for None."""
    known = plan.fingerprints()
    if names is None:
        return Part(plan, plan, tuple(known), Form(plan))
    if not names:
        message = "`features` is an empty list; leave it out to read all"
        raise Refusal(422, "no_features", message)
    for each in names:
        if each not in known:
            message = f"feature `{each}` is unknown in set `{plan.name}`; {nearest(each, known)}"
            raise Refusal(404, "unknown_feature", message)
    derived = tuple(each for each in plan.derived if each.name in names)
    read = set(names).union(*(features_read(each.expression) for each in derived))
    views = tuple(view for view in plan.reads if any(each.name in read for each in view.features))
    sources = {view.source for view in views}
    request = set().union(*(request_read(each.expression) for each in derived))
    own = replace(
        plan,
        sources=tuple(each for each in plan.sources if each.name in sources),
        reads=views,
        derived=derived,
        request=tuple(each for each in plan.request if each.name in request),
    )
    return Part(plan, own, tuple(dict.fromkeys(names)), Form(own))


def request_read(expression: tuple[Any, ...]) -> set[str]:
    """Return the request columns that a bound expression reads."""
    if expression[0] == "request":
        return {str(expression[1])}
    return set().union(*(request_read(each) for each in expression[1:] if isinstance(each, tuple)))


def read_json(body: bytes) -> dict[str, Any]:
    """Return the body's object; only the fields that a question has."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"the body is no JSON: {error}; send one object"
        raise Refusal(400, "not_json", message) from None
    if not isinstance(found, dict):
        message = 'the body is no JSON object; send {"set": ..., "rows": [...]}'
        raise Refusal(400, "not_json", message)
    for name in found:
        if name not in FIELDS:
            message = f"field `{name}` is unknown; {nearest(name, FIELDS)}"
            raise Refusal(422, "unknown_field", message)
    if ("row" in found) == ("rows" in found):
        message = "give either `row`, an object, or `rows`, a list of objects"
        raise Refusal(422, "no_rows", message)
    rows = found.pop("rows") if "rows" in found else [found.pop("row")]
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        message = "give `row` as an object with keys and request columns, or `rows` as a list of such objects"
        raise Refusal(422, "no_rows", message)
    found["rows"] = rows
    return found


def too_many_rows(rows: int, most: int) -> Refusal:
    """Refuse a request of too many rows."""
    message = f"`{rows}` rows pass the {most} that are taken; send fewer at a time"
    return Refusal(413, "too_many_rows", message)


def instants(at: Any, rows: int) -> tuple[int | list[int], Ints]:
    """Return the instant as it is given back, and that of each row, ms.

    Raises
    ------
    Refusal
        422 for what is no instant, or as many as there are rows.
    """
    if at is None:
        at = time.time_ns() // 1_000_000
    if not isinstance(at, list):
        one = one_instant(at)
        return one, np.full(rows, one, np.int64)
    if len(at) != rows:
        message = f"`at` has {len(at)} instants for {rows} rows; give one, or one for each row"
        raise Refusal(422, "invalid_at", message)
    each = [one_instant(every) for every in at]
    return each, np.array(each, np.int64)


def one_instant(at: Any) -> int:
    """Return an instant in ms."""
    if type(at) is int and FIRST <= at <= LAST:
        return at
    if not isinstance(at, str) and type(at) is not int:
        message = f"instant `{str(at)[:40]}` is neither epoch milliseconds nor ISO 8601; write e.g. 2025-03-01T12:00:00"
        raise Refusal(422, "invalid_at", message)
    try:
        return instant(str(at))
    except InputError as error:
        raise Refusal(422, "invalid_at", str(error)) from None


def encoded(form: Form, rows: Sequence[dict[str, Any]]) -> Asked:
    """Check and encode rows; an error of one of several names it.

    Raises
    ------
    Refusal
        422 for a row without a column, or with a value that its column does not take.
    """
    numbers = [each for each in form.columns.values() if each.type.kind not in ("string", "bool")]
    try:
        for row in rows:
            read_texts(numbers, row)
        return form.asked(rows)
    except InputError as error:
        raise Refusal(422, "invalid_row", blamed(form, rows) or str(error)) from None


def blamed(form: Form, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the error of the first wrong row, with its number where there are several."""
    for number, row in enumerate(rows):
        try:
            form.asked([row])
        except InputError as error:
            return f"row {number}: {error}" if len(rows) > 1 else str(error)
    return None


def read_texts(columns: Sequence[ColumnPlan], row: dict[str, Any]) -> None:
    """Replace numbers and instants that were written as texts, as events may write them; instants also as ISO 8601."""
    for column in columns:
        value = row.get(column.name)
        if isinstance(value, str):
            if column.type.kind == "timestamp":
                row[column.name] = instant(value)
            elif column.type.kind in ("int", "decimal") and NUMBER.fullmatch(value):
                row[column.name] = int(value) if column.type.kind == "int" and "." not in value else Decimal(value)
