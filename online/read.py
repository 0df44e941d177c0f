"""The online read: the features of entities at an instant, from closed and open tiles."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from unskew.online.asked import Asked, Form, request_values
from unskew.online.columns import Column, Columns, null_column
from unskew.online.groups import Groups
from unskew.online.kernels import Ints
from unskew.online.program import Program
from unskew.online.store import NO_GENERATION, Pointer, Records, Side, Store, other_features
from unskew.online.view_read import ViewRead
from unskew.pipelines.derived import evaluate, features_read
from unskew.pipelines.errors import OtherDefinitions, StoreError
from unskew.pipelines.plan import FeaturePlan, SetPlan, ViewPlan
from unskew.pipelines.records import Layout
from unskew.pipelines.states import Values

Contents = tuple[int, str]  # a generation, an epoch
UNFIT_LIFE = 1.0  # seconds before it is looked again for a view that the store had not


@dataclass(frozen=True)
class Reading:
    """The reply to a read.

    Parameters
    ----------
    columns
        Features, then derived features, by full name.
    pointers
        What was read of each source.
    views
        The reads of the views that were read.
    hidden
        Views that the store has not as they were asked for; their features are null.
    rows
        How many.
    """

    plan: SetPlan
    columns: Columns
    pointers: Mapping[str, Pointer]
    views: Mapping[str, ViewRead]
    hidden: frozenset[str] = frozenset()
    rows: int = 0

    @property
    def knowledge(self) -> Mapping[str, Ints]:
        """For each view (R, 3) what was known of the tile that holds the instant.

        The sequence of the version read (-1: none); whether the tile had no version without later events; whether a
        version left out holds an earlier one too.
        """
        return {name: each.knowledge for name, each in self.views.items()}

    def table(self) -> pa.Table:
        """Return the values as an Arrow table, one column for each feature."""
        arrays = self.columns.arrays()
        return pa.Table.from_arrays([arrays[name] for name in self.columns], names=list(self.columns))

    def row(self) -> dict[str, Any]:
        """Return the first row's values as Python objects."""
        cells = self.columns.cells(1)
        return {name: cells[name][0] for name in self.columns}


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
        self.form = Form(plan)
        self.programs: dict[str, tuple[Contents, Program]] = {}  # by view: only what was read last
        self.unfit: dict[str, tuple[Contents, float, OtherDefinitions]] = {}
        self.sources = {view.name: (view.stored, view.source) for view in plan.reads}
        self.types = plan.types()
        self.grouped: dict[tuple[str, ...], Groups] = {}  # by the views that are not hidden
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
        asked = self.form.asked(rows)
        return self.read_asked(asked, np.full(asked.rows, at, np.int64) if isinstance(at, int) else np.asarray(at))

    def read_asked(self, asked: Asked, t: Ints, *, lenient: bool = False) -> Reading:
        """Read all features for encoded rows.

        Parameters
        ----------
        t
            (R,) instants, ms.
        lenient
            Leave it to the caller to refuse instants before `batch_end`, and read a view that the store has not, or
            has of other definitions, as nulls: the reading names it as hidden. Derived features of it are null too.

        Raises
        ------
        StoreError
            As `read`.
        """
        pointers, records, programs = self.of_one_moment(asked.keys, lenient)
        if not lenient:
            check_instants(pointers, t)
        views = {
            each.name: ViewRead(program, pointers[each.source].batch_end, records[each.name], t)
            for each in self.plan.reads
            if (program := programs[each.name]) is not None
        }
        blocks = self.groups(views).blocks(views, t) if views else []
        others = {name: column for each in views.values() for name, column in each.columns().items()}
        hidden = frozenset(each.name for each in self.plan.reads if each.name not in views)
        for view in self.plan.reads if hidden else ():
            if view.name in hidden:
                others |= {each.name: null_column(each, len(t)) for each in view.features}
        derived = self.derived(Columns(self.types, blocks, others), asked, hidden)
        columns = Columns(self.types, blocks, others | derived)
        return Reading(self.plan, columns, pointers, views, hidden, asked.rows)

    def groups(self, views: Mapping[str, ViewRead]) -> Groups:
        """Return the groups of views; they depend on nothing but the definitions."""
        names = tuple(views)
        if names not in self.grouped:
            self.grouped[names] = Groups([each.program for each in views.values()])
        return self.grouped[names]

    def of_one_moment(
        self, keys: Mapping[str, Sequence[bytes]], lenient: bool = False
    ) -> tuple[Mapping[str, Pointer], Mapping[str, Records], Mapping[str, Program | None]]:
        """Return pointers, records and programs that belong together; no program for a hidden view.

        An upload may go live and the generation before be dropped between the read of the records and that of their
        layout; then the records are read again.
        """
        while True:
            pointers, records = self.store.read(self.sources, keys)
            try:
                return pointers, records, {each.name: self.program(each, pointers) for each in self.plan.reads}
            except OtherDefinitions:
                if all(self.store.pointer(source) == pointer for source, pointer in pointers.items()):
                    if not lenient:
                        raise
                    return pointers, records, {each.name: self.shown(each, pointers) for each in self.plan.reads}

    def shown(self, view: ViewPlan, pointers: Mapping[str, Pointer]) -> Program | None:
        """Return the compiled reads of a view; None where the store has none that fits."""
        try:
            return self.program(view, pointers)
        except OtherDefinitions:
            return None

    def program(self, view: ViewPlan, pointers: Mapping[str, Pointer]) -> Program:
        """Return the compiled reads against what the pointer names, after a check of the fingerprints."""
        of, pointer = self.plan.view(view.stored), pointers[view.source]
        contents = (pointer.generation, pointer.epoch)
        known = self.programs.get(view.name)
        if known is not None and known[0] == contents:
            return known[1]
        unfit = self.unfit.get(view.name)
        if unfit is not None and unfit[0] == contents and time.monotonic() - unfit[1] < UNFIT_LIFE:
            raise unfit[2]
        try:
            found = Program(view, *(self.layout(of, *each) for each in sides(pointer)))
        except OtherDefinitions as error:
            self.unfit[view.name] = (contents, time.monotonic(), error)
            raise
        self.programs[view.name] = (contents, found)
        return found

    def layout(self, of: ViewPlan, side: Side, owner: str) -> Layout:
        """Return how one side's records of a view are laid out; an empty owner has none."""
        content = self.store.content(side, owner, of.name) if owner else None
        if content is None and owner:
            message = f"the store's {side} tiles hold no view `{of.name}`; upload and stream the current definitions"
            raise OtherDefinitions(message)
        if content is None:
            return Layout(())
        check_fingerprints(of.features, content.features, side)
        return content.layout

    def derived(self, columns: Mapping[str, Column], asked: Asked, hidden: frozenset[str]) -> dict[str, Column]:
        """Return the derived features."""
        if not self.plan.derived:
            return {}
        inputs = {name: columns[name].with_texts() for name in self.read_by_derived}
        inputs |= {name: request_values(column, asked.cells[name]) for name, column in self.form.request.items()}
        lost = {each.name for view in self.plan.reads if view.name in hidden for each in view.features}
        found = {}
        for each in self.plan.derived:
            value = evaluate(each.expression, inputs, asked.rows)
            if lost and lost & features_read(each.expression):
                value = Values(np.zeros(asked.rows), np.zeros(asked.rows, np.bool_))
            found[each.name] = Column(value)
        return found


def sides(pointer: Pointer) -> tuple[tuple[Side, str], tuple[Side, str]]:
    """Return the owners of the closed and the open records; empty for none."""
    return ("closed", str(pointer.generation) if pointer.generation != NO_GENERATION else ""), ("open", pointer.epoch)


def check_instants(pointers: Mapping[str, Pointer], t: Ints) -> None:
    """Refuse an instant before the closed tiles end: they would hold events after it."""
    for source, pointer in pointers.items():
        if int(t.min()) < pointer.batch_end:
            message = f"instant `{int(t.min())}` is before batch_end `{pointer.batch_end}` of source `{source}`; backfill instead"
            raise StoreError(message)


def check_fingerprints(features: Sequence[FeaturePlan], stored: Mapping[str, str], side: str) -> None:
    """Refuse a store whose features of these names mean something else."""
    for each in other_features(features, stored):
        state = "another definition of" if each.name in stored else "no"
        message = (
            f"the store's {side} tiles hold {state} feature `{each.name}`; upload and stream the current definitions"
        )
        raise OtherDefinitions(message)
