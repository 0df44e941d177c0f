"""The online read: the features of entities at an instant, from closed and open tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from unskew.online.kernels import Ints
from unskew.online.program import Program
from unskew.online.store import Pointer, Records, Store
from unskew.online.view_read import Column, ViewRead
from unskew.pipelines.arrow import to_arrow
from unskew.pipelines.derived import evaluate, features_read
from unskew.pipelines.encoding import encode_cell, encode_row
from unskew.pipelines.errors import InputError, StoreError
from unskew.pipelines.plan import ColumnPlan, FeaturePlan, SetPlan, ViewPlan
from unskew.pipelines.records import Layout
from unskew.pipelines.states import Values


@dataclass(frozen=True)
class Reading:
    """The reply to a read.

    Parameters
    ----------
    columns
        Features, then derived features, by full name.
    pointers
        What was read of each source.
    knowledge
        For each view (R, 3): the sequence of the version read of the tile that holds the instant (-1: none);
        whether that tile had no version without later events; whether a version left out holds an earlier one too.
    """

    plan: SetPlan
    columns: Mapping[str, Column]
    pointers: Mapping[str, Pointer]
    knowledge: Mapping[str, Ints]

    def table(self) -> pa.Table:
        """Return the values as an Arrow table, one column for each feature."""
        types = {name: each.type for name, each in self.plan.features().items()}
        found = {}
        for name, column in self.columns.items():
            strings = None if column.texts is None else pa.array(column.texts, pa.string())
            found[name] = to_arrow(column.values, types[name], strings) if name in types else as_floats(column.values)
        return pa.table(found)

    def row(self) -> dict[str, Any]:
        """Return the first row's values as Python objects."""
        return {name: first_cell(column) for name, column in self.columns.items()}


def as_floats(values: Values) -> pa.Array:
    """Return a derived feature."""
    return pa.array(values.data, mask=~values.valid)


def first_cell(column: Column) -> Any:
    """Return the first row's value of a column as a Python object."""
    values = column.values
    if not values.valid[0]:
        return None
    data: list[Any] = values.data[: 1 if values.offsets is None else values.offsets[1]].tolist()
    if column.texts is not None:
        data = [column.texts[each] for each in data]
    if values.inner:
        return dict(zip(data, values.inner[0].data.tolist(), strict=False))
    return data[0] if values.offsets is None else data


class FeatureReader:
    """Reads a set's features from a store.

    Parameters
    ----------
    plan
        Of the set.
    store
        Where uploads and streams of these definitions went.
    """

    def __init__(self, plan: SetPlan, store: Store) -> None:
        self.plan = plan
        self.store = store
        self.programs: dict[tuple[str, int, str], Program] = {}
        self.keys = {view.name: view.spine_keys for view in plan.reads}
        self.sources = {view.name: (view.stored, view.source) for view in plan.reads}
        self.request = {each.name: each for each in plan.request}
        self.features = list(plan.features())
        self.read_by_derived = sorted(set().union(*(features_read(each.expression) for each in plan.derived)))

    def read(self, rows: Sequence[Mapping[str, Any]], at: int | Sequence[int]) -> Reading:
        """Read all features for rows of keys and request columns.

        Parameters
        ----------
        rows
            For each of R requests the key columns of the entities and the request's columns by name.
        at
            The instant in ms, or one for each row.

        Raises
        ------
        InputError
            If a key or a request column is missing or refused by its type.
        StoreError
            If the store has nothing of a source, other definitions, or an instant is before `batch_end`.
        """
        self.check_columns(rows)
        t = np.full(len(rows), at, np.int64) if isinstance(at, int) else np.asarray(at, np.int64)
        keys = {name: [self.entity(columns, row) for row in rows] for name, columns in self.keys.items()}
        pointers, records, programs = self.of_one_moment(keys)
        self.check_instants(pointers, t)
        columns: dict[str, Column] = {}
        knowledge: dict[str, Ints] = {}
        for view in self.plan.reads:
            pointer = pointers[view.source]
            found = ViewRead(programs[view.name], pointer.batch_end, records[view.name], t)
            columns |= renamed(self.plan.view(view.stored), view, found.columns())
            knowledge[view.name] = found.knowledge
        ordered = {name: columns[name] for name in self.features}
        ordered |= self.derived(ordered, rows)
        return Reading(self.plan, ordered, pointers, knowledge)

    def of_one_moment(
        self, keys: Mapping[str, Sequence[bytes]]
    ) -> tuple[Mapping[str, Pointer], Mapping[str, Records], Mapping[str, Program]]:
        """Return pointers, records and programs that belong together.

        An upload may go live and the generation before be dropped between the read of the records and that of their
        layout; then the records are read again.
        """
        while True:
            pointers, records = self.store.read(self.sources, keys)
            try:
                return (
                    pointers,
                    records,
                    {each.name: self.program(each, pointers[each.source]) for each in self.plan.reads},
                )
            except StoreError:
                if all(self.store.pointer(source) == pointer for source, pointer in pointers.items()):
                    raise

    def check_columns(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Refuse rows without a key or a request column."""
        if not rows:
            message = "no rows were given; give at least one with the keys of the set's entities"
            raise InputError(message)
        needed = dict.fromkeys([*(key.name for keys in self.keys.values() for key in keys), *self.request])
        for row in rows:
            for name in needed:
                if name not in row:
                    message = f"column `{name}` is missing in the request; it needs: {', '.join(f'`{each}`' for each in needed)}"
                    raise InputError(message)

    def entity(self, columns: tuple[ColumnPlan, ...], row: Mapping[str, Any]) -> bytes:
        """Return a row's entity as the store's key; a null key is of no entity."""
        return entity_key([encode_cell(each, row[each.name]) for each in columns])

    def check_instants(self, pointers: Mapping[str, Pointer], t: Ints) -> None:
        """Refuse an instant before the closed tiles end: they would hold events after it."""
        for source, pointer in pointers.items():
            if int(t.min()) < pointer.batch_end:
                message = f"instant `{int(t.min())}` is before batch_end `{pointer.batch_end}` of source `{source}`; backfill instead"
                raise StoreError(message)

    def program(self, view: ViewPlan, pointer: Pointer) -> Program:
        """Return the compiled reads against what the pointer names, after a check of the fingerprints."""
        of = self.plan.view(view.stored)
        key = (of.name, pointer.generation, pointer.epoch)
        if key not in self.programs:
            layouts = []
            for side, owner in (("closed", str(pointer.generation)), ("open", pointer.epoch)):
                content = self.store.content(side, owner, of.name)  # type: ignore[arg-type]
                if content is None and owner not in ("0", ""):
                    message = (
                        f"the store's {side} tiles hold no view `{of.name}`; upload and stream the current definitions"
                    )
                    raise StoreError(message)
                if content is not None:
                    check_fingerprints(of.features, content.features, side)
                layouts.append(Layout(()) if content is None else content.layout)
            self.programs[key] = Program(of, *layouts)
        return self.programs[key]

    def derived(self, columns: Mapping[str, Column], rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
        """Return the derived features."""
        if not self.plan.derived:
            return {}
        inputs = {name: columns[name].with_texts() for name in self.read_by_derived}
        cells = [encode_row(self.request, row) for row in rows]
        for name, column in self.request.items():
            given = [row[name] for row in cells]
            valid = np.array([each is not None for each in given])
            kind = object if column.type.kind == "string" else np.int64
            inputs[name] = Values(np.array([0 if each is None else each for each in given], kind), valid)
        return {each.name: Column(evaluate(each.expression, inputs, len(rows))) for each in self.plan.derived}


def renamed(of: ViewPlan, view: ViewPlan, columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return a view's columns under the names that a set reads them by."""
    pairs = zip(of.features, view.features, strict=True)
    return {read.name: columns[kept.name] for kept, read in pairs}


def entity_key(cells: Sequence[object]) -> bytes:
    """Return an entity's encoded key cells as the store's key."""
    return orjson.dumps(cells)


def check_fingerprints(features: Sequence[FeaturePlan], stored: Mapping[str, str], side: str) -> None:
    """Refuse a store whose features of these names mean something else."""
    for each in features:
        if stored.get(each.name) != each.fingerprint:
            state = "another definition of" if each.name in stored else "no"
            message = f"the store's {side} tiles hold {state} feature `{each.name}`; upload and stream the current definitions"
            raise StoreError(message)
