"""Whom an erasure means: an entity's keys, as each source, view and spine of a set holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from unskew.pipelines.encoding import Cell, encode_cell
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.nodes import Node
from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan, ViewPlan

Cells = Mapping[str, Cell]  # by column, encoded; what has all of them is the entity's
KEY_KINDS = ("int", "string")
Read = Callable[[ColumnPlan, Any], Any]


class Place(Protocol):
    """Something that holds an entity: an archive, an upload, a store, an output."""

    @property
    def name(self) -> str:
        """What to call it."""

    def find(self) -> dict[str, int]:
        """Return how many rows of what it holds, after every check; change nothing."""

    def erase(self) -> None:
        """Remove them; whole files or none, and a second call completes one that was cut off."""

    def remains(self) -> list[str]:
        """Return what it keeps all the same, and until when."""


@dataclass(frozen=True)
class Subject:
    """An entity to forget.

    Parameters
    ----------
    given
        The keys as they were given.
    sources
        For each source that holds it the cells of its rows, in one or several ways.
    foreign
        Columns (``source.column``) of the same names whose type refuses the value: their rows are kept.
    """

    plan: SetPlan
    given: Mapping[str, Any]
    sources: Mapping[str, tuple[Cells, ...]]
    foreign: tuple[str, ...] = ()

    def of_view(self, view: ViewPlan) -> list[Cells]:
        """Return the cells of the view's entities that are to go: it may have further keys beside."""
        keys = {each.name for each in view.keys}
        return [each for each in self.sources.get(view.source, ()) if each.keys() <= keys]

    def of_spine(self) -> list[Cells]:
        """Return the cells of a spine's rows that are to go, under the names of the spine."""
        found = []
        for view in self.plan.reads:
            asked = {key.name: each.name for key, each in zip(view.keys, view.spine_keys, strict=True)}
            found += [{asked[name]: cell for name, cell in each.items()} for each in self.of_view(view)]
        return unique(found)

    def traces(self) -> list[str]:
        """Return what other entities keep of its rows."""
        found = [
            f"copies of the same events in `{name}` that name another entity: where an erased copy stood before or after "
            "them, they may count otherwise from the next backfill and upload on"
            for name in self.sources
            if self.plan.source(name).deduplicate
        ]
        for view in self.plan.views:
            if view.source not in self.sources or self.of_view(view):
                continue
            columns = {name for each in self.sources[view.source] for name in each}
            holding = [f"`{each.name}`" for each in view.features if holds(view, each.fields, columns)]
            also = f", and values made of the key in {', '.join(holding)}" if holding else ""
            found.append(
                f"tiles of view `{view.name}`, of other entities, keep what they counted of these rows{also}, "
                "until an upload over the erased archive closes them"
            )
        return found


def subject(plan: SetPlan, given: Mapping[str, Any], read: Read = lambda _, value: value) -> Subject:
    """Return whom the keys name.

    Parameters
    ----------
    given
        Values of all keys of an entity by name: of a view's own columns, or as the set reads it by `joined`.
    read
        Makes a value of a column from what was given, such as a text.

    Raises
    ------
    InputError
        If no view has these keys, or a value is null or refused by its type.
    """
    ways = spellings(plan, given)
    sources: dict[str, tuple[Cells, ...]] = {}
    foreign = []
    for source in plan.sources:
        found = []
        for way in ways:
            if keys_a_view(plan, source, way):
                found.append(cells(source, way, read))
            elif names_a_row(source, way):
                try:
                    found.append(cells(source, way, read))
                except InputError:
                    foreign.append(f"{source.name}.{'/'.join(way)}")
        if found:
            sources[source.name] = tuple(unique(found))
    return Subject(plan, given, sources, tuple(foreign))


def spellings(plan: SetPlan, given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what was given by the columns of the sources: keys may be given under the names of a set's `joined`."""
    found: list[Mapping[str, Any]] = []
    for view in (*plan.reads, *plan.views):
        names = [each.name for each in view.spine_keys]
        if set(names) == given.keys():
            found.append({key.name: given[name] for key, name in zip(view.keys, names, strict=True)})
    if found:
        return unique(found)
    entities = unique([each.name for each in view.spine_keys] for view in (*plan.views, *plan.reads))
    known = {name for each in entities for name in each}
    unknown = [each for each in given if each not in known]
    if unknown:
        message = f"key column `{unknown[0]}` is of no view of set `{plan.name}`; {nearest(unknown[0], known)}"
        raise InputError(message)
    asked = ", ".join(f"`{each}`" for each in given) or "nothing"
    message = f"no view of set `{plan.name}` has the keys {asked}; give all keys of one: {'; or '.join(' and '.join(f'`{name}`' for name in each) for each in entities)}"
    raise InputError(message)


def keys_a_view(plan: SetPlan, source: SourcePlan, way: Mapping[str, Any]) -> bool:
    """Return whether the columns are keys of a view over the source."""
    return any(way.keys() <= {each.name for each in view.keys} for view in plan.views if view.source == source.name)


def names_a_row(source: SourcePlan, way: Mapping[str, Any]) -> bool:
    """Return whether rows of a source name the entity in columns that key no view; its id and times are not names."""
    names = {each.name for each in source.columns} - {source.event_time, source.arrival}
    return way.keys() <= names and way.keys() != set(source.event_id)


def cells(source: SourcePlan, way: Mapping[str, Any], read: Read) -> Cells:
    """Return the encoded cells by column."""
    found = {}
    for name, value in way.items():
        column = source.column(name)
        if column.type.kind not in KEY_KINDS:
            message = f"column `{name}` of `{source.name}` is `{column.type}`, which is no key"
            raise InputError(message)
        found[name] = encode_cell(column, read(column, value))
        if found[name] is None:
            message = f"key `{name}` is null, which is no entity; give a value"
            raise InputError(message)
    return found


def holds(view: ViewPlan, fields: Iterable[int], columns: set[str]) -> bool:
    """Return whether states keep values made of the columns; sums do not."""
    kept = (view.fields[each] for each in fields if view.fields[each].kind != "add")
    return any(mentions(lift, columns) for each in kept for lift in each.lifts())


def mentions(node: Node, columns: set[str]) -> bool:
    """Return whether an expression reads one of the columns."""
    return (node.op == "column" and node.value in columns) or any(mentions(each, columns) for each in node.args)


def unique(items: Iterable[Any]) -> list[Any]:
    """Return the items, each once, in their order."""
    found: list[Any] = []
    for each in items:
        if each not in found:
            found.append(each)
    return found
