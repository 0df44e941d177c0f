"""A case: definitions, the events that happened, and what their features are at instants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from unskew.pipelines.backends import oracle
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan
from unskew.pipelines.planner import plan
from unskew.pipelines.states import FeatureType
from unskew.pipelines.types import INT64_MAX, INT64_MIN
from unskew.testing.engines import ENGINES
from unskew.testing.literals import Cell, cell_of, expected_of, feature_name, instant_of, rows_of


class FeatureCase:
    r"""Definitions under test, with events in memory.

    Parameters
    ----------
    feature_set
        Definitions, or their plan.
    engine
        ``oracle``: plain Python, in milliseconds. ``beam``: the training set. ``flink``: the stream and the online read,
        once all events have arrived.

    Examples
    --------
    >>> from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, Timestamp, count
    >>> clicks = EventSource("clicks", {"id": Int64, "at": Timestamp, "user": Int64}, event_time="at", event_id="id")
    >>> activity = FeatureView("activity", Entity("user", "user"), clicks, {"n": count().over("1h")})
    >>> case = FeatureCase(FeatureSet("demo", [activity]))
    >>> case.events("clicks", "at | user \n 2025-01-01 12:00 | 7")
    >>> case.at("2025-01-01 12:30", user=7)
    {'activity.n_1h': 1}
    """

    def __init__(self, feature_set: FeatureSet | SetPlan, engine: str = "oracle") -> None:
        if engine not in ENGINES:
            message = f"engine `{engine}` is unknown; {nearest(engine, list(ENGINES))}"
            raise InputError(message)
        self.plan = plan(feature_set) if isinstance(feature_set, FeatureSet) else feature_set
        self.engine = engine
        if "t" in {*self.plan.spine_keys(), *(each.name for each in self.plan.request)}:
            message = "a key or request column is named `t`, which is the instant in a case; join the view under another column"
            raise InputError(message)
        self.rows: dict[str, list[dict[str, Any]]] = {each.name: [] for each in self.plan.sources}
        self.types = {name: each.type for name, each in self.plan.features().items()}
        self.types |= {each.name: FeatureType("float") for each in self.plan.derived}

    def events(self, source: str, rows: str | Sequence[Mapping[str, Any]]) -> None:
        """Add events of a source, in order of arrival.

        Parameters
        ----------
        source
            Its name.
        rows
            Dictionaries, or a table as text: a line of column names, then lines of cells, separated by ``|``. Columns that
            are not named are null; a whole-number or string event id that is not named counts the events from 1.

        Raises
        ------
        InputError
            If the source, a column or a value is unknown to the definitions.
        """
        if source not in self.rows:
            message = f"source `{source}` is unknown; {nearest(source, list(self.rows))}"
            raise InputError(message)
        of = self.plan.source(source)
        given = rows_of(rows) if isinstance(rows, str) else rows
        if not all(isinstance(each, Mapping) for each in given):
            message = "events are neither a table of text nor dictionaries; give one dictionary for each event"
            raise InputError(message)
        self.rows[source] += [event_of(of, row, len(self.rows[source]) + place) for place, row in enumerate(given, 1)]

    def at(self, instant: str | int | datetime, **columns: Any) -> dict[str, Any]:
        """Return all features at an instant.

        Parameters
        ----------
        instant
            ISO text, ms or a datetime; UTC.
        **columns
            Keys of the entities and columns of the request; one that is not given is null.

        Returns
        -------
        dict
            Values by full name: int, float, bool, str, list, dict or None; instants in ms.
        """
        return self.values([{"t": instant_of(instant), **columns}])[0]

    def expect(self, table: str) -> None:
        """Assert values at instants: a table as text with the column ``t``, keys and request columns, and features.

        A feature may be named without its view where only one has the name; lists and maps are written as JSON.

        Raises
        ------
        AssertionError
            With each value that is not as expected.
        """
        given = self.plan.spine_keys() | {each.name: each for each in self.plan.request}
        rows = rows_of(table)
        if not rows or "t" not in rows[0] or not set(rows[0]) - {"t", *given}:
            message = "the table needs the column `t`, a feature, and a row for each instant"
            raise InputError(message)
        reads = [
            {"t": instant_of(row["t"])}
            | {name: cell_of(given[name], cell) for name, cell in row.items() if name in given}
            for row in rows
        ]
        wrong = []
        for row, found in zip(rows, self.values(reads), strict=True):
            for column in (each for each in row if each != "t" and each not in given):
                name = feature_name(column, self.types)
                expected = expected_of(self.types[name], row[column])
                if found[name] != expected:
                    keys = ", ".join(f"{each}={row[each]}" for each in row if each in given)
                    wrong.append(
                        f"{name} at {row['t']} for {keys}: expected {expected!r}, {self.engine} gave {found[name]!r}"
                    )
        if wrong:
            raise AssertionError("\n".join(wrong))

    def values(self, reads: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return all features at each read: a dictionary with ``t`` (ms), keys and request columns."""
        names = {*self.plan.spine_keys(), *(each.name for each in self.plan.request)}
        for each in reads:
            for name in set(each) - names - {"t"}:
                message = f"column `{name}` is no key and no request column; {nearest(name, sorted(names))}"
                raise InputError(message)
            if "t" not in each:
                message = f"read `{each}` has no `t`; give the instant"
                raise InputError(message)
        columns = self.plan.spine_keys() | {each.name: each for each in self.plan.request}
        asked = [
            dict.fromkeys(names) | {"t": instant_of(each["t"])}
            | {name: checked(columns[name], value) for name, value in each.items() if name != "t"}
            for each in reads
        ]  # fmt: skip
        return ENGINES[self.engine](self.plan, self.rows, asked)


def event_of(source: SourcePlan, row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return an event with values of its columns' types; cells of a table are texts still."""
    columns = {each.name: each for each in source.columns}
    for name in row:
        if name not in columns:
            message = f"column `{name}` of source `{source.name}` is unknown; {nearest(name, list(columns))}"
            raise InputError(message)
    found: dict[str, Any] = dict.fromkeys(columns)
    for name in set(source.event_id) - set(row):
        found[name] = str(number) if columns[name].type.kind == "string" else number
    return found | {name: checked(columns[name], value_of(columns[name], value)) for name, value in row.items()}


def checked(column: ColumnPlan, value: Any) -> Any:
    """Return a value that every engine's input can hold: of the column's type, though perhaps out of its range.

    Raises
    ------
    InputError
        If it is of another type, or past 64 bits.
    """
    try:
        oracle.encode(column, value)
    except oracle.Refused as error:
        if error.reason == "wrong_type" or (isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX):
            message = f"value `{value!r}` of column `{column.name}` is no `{column.type}`"
            raise InputError(message) from error
    return value


def value_of(column: ColumnPlan, value: Any) -> Any:
    """Return a value as the engines' inputs hold it."""
    if isinstance(value, Cell):
        return cell_of(column, value)
    if isinstance(value, datetime) or (isinstance(value, str) and column.type.kind == "timestamp"):
        return instant_of(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return {"decimal": Decimal, "float": float}.get(column.type.kind, int)(value) if whole else value
