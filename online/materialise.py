"""The materialiser: the stream's rows into the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.online.asked import entity_key
from unskew.online.changelog import read_changelog
from unskew.online.kernels import Ints
from unskew.online.open_tiles import Vocabulary, merge
from unskew.online.store import BEGINNING, Changed, Store, ViewContent
from unskew.pipelines.backends.flink_ordered import ordered_values, whole
from unskew.pipelines.backends.flink_streams import Stream, key_names, view_streams
from unskew.pipelines.plan import SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.records import (
    NO_STRING,
    Rows,
    Section,
    field_prints,
    open_layout,
    pack,
    unpack,
    validity,
)

VERSION_LIFE = 10_000  # ms that a version is kept after the next one (design section 8)
EVENTS_PER_BATCH = 100_000
Batch = Sequence[tuple[Stream, pa.Table]]


@dataclass
class Applied:
    """What a materialiser has written.

    Parameters
    ----------
    rows
        Rows of the stream.
    rejected
        How many of them the guard rejected.
    events
        By how much the newest row counts of the tiles grew: a row that comes again adds nothing.
    """

    rows: int = 0
    rejected: int = 0
    events: int = 0


class Materialiser:
    """Writes a source's stream into a store, under a job epoch; any number of them may write at once.

    Parameters
    ----------
    store
        Where to.
    plan, source
        The set and the name of its source.
    epoch
        Name of the job.
    version_life
        How long a superseded version is kept, ms.
    flip
        Whether reads see the job's records from now on.
    """

    def __init__(
        self, store: Store, plan: SetPlan, source: str, epoch: str, *, version_life: int = VERSION_LIFE,
        flip: bool = True,
    ) -> None:  # fmt: skip
        self.store = store
        self.source = plan.source(source)
        self.views = [each for each in plan.views if each.source == source]
        self.epoch = epoch
        self.version_life = version_life
        self.now = BEGINNING
        self.applied = Applied()
        texts = [self.source.column(each).type.kind == "string" for each in self.source.event_id]
        self.layouts = {view.name: open_layout(view, texts) for view in self.views}
        self.readers = {view.name: self.section_readers(view) for view in self.views}
        self.fields = {view.name: dict(zip(field_prints(view.fields), view.fields, strict=True)) for view in self.views}
        for view in self.views:
            features = {each.name: each.fingerprint for each in view.features}
            store.put_content("open", epoch, view.name, ViewContent(self.layouts[view.name], features))
        if flip:
            store.start_epoch(source, epoch)

    def section_readers(self, view: ViewPlan) -> list[SectionReader]:
        """Return what reads the stream's rows of each section of a view's records."""
        return [SectionReader(view, self.source, each) for each in self.layouts[view.name].sections]

    def apply(self, batches: Mapping[str, Batch]) -> None:
        """Write rows of all views, in one transaction where the store has such, else view by view.

        After a `StoreDown` the same rows may be applied again: what was written stays as it is, and is not counted twice.

        Parameters
        ----------
        batches
            For each view its streams' rows, as `read_changelog` gives them; a view without rows may be missing.
        """
        arrivals = [pc.max(rows["arrival"]).as_py() for batch in batches.values() for _, rows in batch if rows.num_rows]
        self.now = max([self.now, *arrivals])
        with self.store.batch():
            for view in self.views:
                if view.name in batches:
                    self.apply_view(view, batches[view.name])

    def apply_view(self, view: ViewPlan, batch: Batch) -> None:
        """Merge one view's rows into its open records."""
        keys, owners = entities(view, [rows for _, rows in batch])
        if not keys:
            return
        incoming = [each.rows(batch, owners) for each in self.readers[view.name]]

        def change(places: Sequence[int], old: Sequence[bytes]) -> Changed:
            # read after the records: a tile that another writer dropped is known to be closed
            pointer = self.store.pointer(self.source.name)
            batch_end = BEGINNING if pointer is None else pointer.batch_end
            return self.changed(view, [each.of(places, len(keys)) for each in incoming], old, batch_end)

        written = self.store.update_open(self.epoch, view.name, keys, change)
        self.applied.rows += sum(rows.num_rows for _, rows in batch)
        self.applied.rejected += written.rejected
        self.applied.events += written.applied

    def changed(self, view: ViewPlan, incoming: Sequence[NewRows], old: Sequence[bytes], batch_end: int) -> Changed:
        """Return what records become with the rows of the stream that are theirs."""
        layout = self.layouts[view.name]
        held, known = unpack(layout, old)
        words = Vocabulary(known, [text for each in incoming for text in each.texts()])
        merged = merge(
            layout,
            [words.old_rows(*pair) for pair in zip(layout.sections, held, strict=True)],
            [each.rows(words) for each in incoming],
            records=len(old),
            fields=self.fields[view.name],
            copies=not self.source.deduplicate,
            superseded=self.now - self.version_life,
            batch_end=batch_end,
        )
        records = pack(layout, merged.sections, len(old), words.strings)
        return Changed(records, *(each.tolist() for each in (merged.rejected, merged.applied, merged.overtaken)))


def entities(view: ViewPlan, tables: Sequence[pa.Table]) -> tuple[list[bytes], list[Ints]]:
    """Return the store's keys of all entities in the tables, and for each table the (rows,) number of its entity."""
    names = key_names(view)
    together = pa.concat_tables([each.select(names) for each in tables])
    codes = np.zeros(together.num_rows, np.int64)
    cells: list[list[Any]] = []
    for name in names:
        own = whole(together[name]).dictionary_encode()
        codes = codes * max(len(own.dictionary), 1) + own.indices.to_numpy()
        if len(names) > 1:
            _, codes = np.unique(codes, return_inverse=True)
        cells.append(own.dictionary.to_pylist())
    if len(names) > 1:
        _, first = np.unique(codes, return_index=True)
        chosen = together.take(pa.array(first)).to_pydict()
        cells = [chosen[name] for name in names]
    keys = [entity_key(each) for each in zip(*cells, strict=True)]
    return keys, np.split(codes, np.cumsum([each.num_rows for each in tables])[:-1])


class SectionReader:
    """Reads the stream's rows for one section of a view's records.

    Parameters
    ----------
    view, source
        Whose rows they are.
    section
        Its columns are what is read.
    """

    def __init__(self, view: ViewPlan, source: SourcePlan, section: Section) -> None:
        prints = field_prints(view.fields)
        self.source, self.section = source, section
        self.kind, self.field = section.kind, prints.index(section.field) if section.field else -1
        self.scalars = section.fields() if section.kind in ("tiles", "values") else ()
        named = {"start": "tile_start"}
        if section.kind == "tiles":
            named |= {name: f"f{index}" for index, name in enumerate(prints)}
        if section.kind == "values":
            named |= {name: f"g{index}" for index, name in enumerate(field_prints(view.fields[self.field].inner))}
        words = validity([np.ones(0, np.bool_)] * len(self.scalars))
        self.columns = {name: named.get(name, name) for name in section.columns if name not in words}
        fields = zip(prints, view.fields, strict=True) if section.kind == "tiles" else ()
        self.ordered = {name: each.lift.type.kind for name, each in fields if each.kind in ("first", "last")}

    def rows(self, batch: Batch, owners: Sequence[Ints]) -> NewRows:
        """Return the rows of a batch; `owners` has the (rows,) entities of each of its tables."""
        at = next(i for i, (each, _) in enumerate(batch) if (each.kind, each.field) == (self.kind, self.field))
        table = batch[at][1]
        return NewRows(self.section, self.scalars, owners[at], {name: self.read(table, name) for name in self.columns})

    def read(self, table: pa.Table, name: str) -> pa.Array:
        """Return a column of the section; strings as places in their distinct values."""
        column = table[self.columns[name]]
        found = ordered_values(column, self.source, self.ordered[name]) if name in self.ordered else whole(column)
        return found.dictionary_encode() if name in self.section.strings else found


@dataclass(frozen=True)
class NewRows:
    """The stream's rows for one section.

    Parameters
    ----------
    section
        Whose.
    scalars
        Columns of which is kept whether they are null.
    owner
        (rows,) of each row its entity.
    columns
        As `SectionReader` reads them.
    """

    section: Section
    scalars: Sequence[str]
    owner: Ints
    columns: Mapping[str, pa.Array]

    def of(self, places: Sequence[int], entities: int) -> NewRows:
        """Return the rows of some of the entities, which are numbered anew: by their place in `places`."""
        if len(places) == entities:
            return self
        number = np.full(entities, -1, np.int64)
        number[np.asarray(places, np.int64)] = np.arange(len(places))
        owner = number[self.owner]
        taken = np.flatnonzero(owner >= 0)
        columns = {name: column.take(pa.array(taken)) for name, column in self.columns.items()}
        return NewRows(self.section, self.scalars, owner[taken], columns)

    def texts(self) -> list[str]:
        """Return the strings that the rows name."""
        return [text for name in self.section.strings for text in self.columns[name].dictionary.to_pylist()]

    def rows(self, words: Vocabulary) -> Rows:
        """Return the rows with strings as places, ascending by entity, else in the order of the stream."""
        valid = validity([self.columns[name].is_valid().to_numpy(zero_copy_only=False) for name in self.scalars])
        cells = {name: self.cells(name, words) for name in self.columns}
        return Rows.of(self.owner, cells | valid).taken(np.argsort(self.owner, kind="stable"))

    def cells(self, name: str, words: Vocabulary) -> Ints:
        """Return one column as int64; null as 0, a null string or sequence as -1."""
        column = self.columns[name]
        if name in self.section.strings:
            places = np.array([*(words.places[each] for each in column.dictionary.to_pylist()), NO_STRING], np.int64)
            return places[integers(column.indices, -1)]
        return integers(column, -1 if name == "seq" else 0)


def integers(column: pa.Array, null: int) -> Ints:
    """Return a column as int64, with a number for null."""
    column = column if pa.types.is_int64(column.type) else column.cast(pa.int64())
    column = column.fill_null(null) if column.null_count else column
    found: Ints = column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return found


class Changelog:
    """What a run of a source's job wrote, cut along the sequence.

    Parameters
    ----------
    folder
        The run's output.
    """

    def __init__(self, plan: SetPlan, source: str, folder: str | Path) -> None:
        log = plan.source(source)
        self.streams = {
            view.name: [(each, read_changelog(folder, each)) for each in view_streams(view, log)]
            for view in plan.views
            if view.source == source
        }
        self.positions = {
            each.name: np.maximum.accumulate(rows["seq"].fill_null(-1).to_numpy())
            for batch in self.streams.values()
            for each, rows in batch
        }
        self.taken = dict.fromkeys(self.positions, 0)

    def until(self, position: int) -> dict[str, Batch]:
        """Return the rows that were not taken yet, up to a sequence number, inclusive."""
        found: dict[str, Batch] = {}
        for view, batch in self.streams.items():
            cut = []
            for each, rows in batch:
                end = int(np.searchsorted(self.positions[each.name], position, side="right"))
                cut.append((each, rows.slice(self.taken[each.name], max(end - self.taken[each.name], 0))))
                self.taken[each.name] = max(end, self.taken[each.name])
            found[view] = cut
        return found

    def batches(self, events: int = EVENTS_PER_BATCH) -> Iterator[dict[str, Batch]]:
        """Yield all rows in batches of about so many events."""
        newest = max((int(each[-1]) for each in self.positions.values() if len(each)), default=-1)
        for position in [*range(events, newest, events), newest]:
            yield self.until(position)


def materialise(store: Store, plan: SetPlan, source: str, folder: str | Path, epoch: str) -> Applied:
    """Write a finished run of a source's job into the store.

    Parameters
    ----------
    folder
        Output of `run_stream`.
    epoch
        Name of the job.
    """
    materialiser = Materialiser(store, plan, source, epoch)
    for batch in Changelog(plan, source, folder).batches():
        materialiser.apply(batch)
    return materialiser.applied
