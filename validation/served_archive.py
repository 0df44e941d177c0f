"""The archived events that served rows may have been made of: those of the entities asked for, and copies of such."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unskew.backfill.aliases import as_declared
from unskew.backfill.events import check_columns
from unskew.online.live.archive_rows import schema_of
from unskew.pipelines.archive import COMMITS
from unskew.pipelines.folders import files_below, parquet_files, read_table
from unskew.pipelines.plan import SourcePlan, ViewPlan
from unskew.validation.explain import Key, of_keys, with_copies
from unskew.validation.log import Ints, Log, judged_log, numbered

ORDER = ("_partition", "_offset")  # of messages that arrived at the same instant
Asked = Sequence[tuple[ViewPlan, set[Key]]]  # views of one source, with the keys asked for


@dataclass(frozen=True)
class Archive:
    """One source's archived events of some entities, in order of (arrival, partition, offset).

    Parameters
    ----------
    partitions
        (n,) of each event; the position of an event is its place here.
    rows
        How many events there are, of all entities.
    """

    log: Log
    partitions: Ints
    rows: int


def read_archive(source: SourcePlan, events: Any, asked: Asked) -> Archive:
    """Read the events of the entities asked for, and their copies under other entities; a file at a time.

    Parameters
    ----------
    events
        A table, or a path of Parquet files.

    Raises
    ------
    InputError
        If events cannot be read.
    """
    parts = [Part(source, where, read, asked) for where, read in tables_of(source, events)]
    if source.event_id:
        take_copies(parts)
    table = pa.concat_tables([each.table for each in parts], promote_options="default")
    log = judged_log(source, table)
    places = [column_of(table, name) for name in ORDER]
    order = np.lexsort((places[1], places[0], log.arrival))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Archive(numbered(log, rank), places[0][order], sum(len(each.mask) for each in parts))


class Part:
    """What a table, or a file of an archive, has of the entities asked for.

    Parameters
    ----------
    where
        What errors call it.
    read
        Reads it.
    """

    def __init__(self, source: SourcePlan, where: str, read: Callable[[], pa.Table], asked: Asked) -> None:
        self.read = read
        table = read()
        check_columns(source, table.schema, where)
        names = [*(key.name for view, _ in asked for key in view.keys), *source.event_id[:1]]
        cells = as_declared(table, list(dict.fromkeys(names)), dict(source.aliases))
        self.mask = np.logical_or.reduce([of_keys(view, cells, keys) for view, keys in asked])
        self.table = table.filter(pa.array(self.mask))
        self.ids = cells[source.event_id[0]] if source.event_id else pa.nulls(len(cells))

    def take(self, mask: NDArray[np.bool_]) -> None:
        """Take these events, which are its own and others, in the order in which they stand."""
        if mask.sum() > self.mask.sum():
            self.table = self.read().filter(pa.array(mask))


def take_copies(parts: Sequence[Part]) -> None:
    """Let each part take the events that have the id of an event of any."""
    ids = pa.concat_tables([pa.table({"id": each.ids}) for each in parts], promote_options="permissive")["id"]
    own = np.concatenate([each.mask for each in parts])
    ends = np.cumsum([len(each.mask) for each in parts])
    for part, its in zip(parts, np.split(with_copies(ids, own), ends[:-1]), strict=True):
        part.take(its)


def tables_of(source: SourcePlan, events: Any) -> Iterator[tuple[str, Callable[[], pa.Table]]]:
    """Yield what reads a table, or each file of an archive, and what it is called; an archiver may be at work there."""
    if isinstance(events, pa.Table):
        yield "the table of events", lambda: events
        return
    path = Path(events)
    files = files_below(path) if (path / COMMITS).is_dir() else parquet_files(path)
    if not files:  # its archiver has seen no event so far
        yield str(path), lambda: schema_of(source).empty_table()
    for each in files:
        yield f"file `{each}`", partial(read_table, each)


def column_of(table: pa.Table, name: str) -> Ints:
    """Return a column of where messages stood on their topic; zeros where the events have none."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, np.int64)
    found: Ints = table[name].fill_null(0).to_numpy().astype(np.int64)
    return found
