"""Erasing an entity's rows from Parquet: archives and training sets."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.aliases import Aliases, as_declared, carriers
from unskew.backfill.events import check_columns, encoded
from unskew.backfill.frames import events_of, parquet_files, plain
from unskew.backfill.rewrite import count_rows, write_without
from unskew.pipelines.durable import leftovers, swap
from unskew.pipelines.encoding import Cell
from unskew.pipelines.erasure import Cells, Subject
from unskew.pipelines.folders import readable
from unskew.pipelines.manifest import MANIFEST, replace_manifest
from unskew.pipelines.plan import ColumnPlan, SourcePlan


@dataclass(frozen=True)
class Rows:
    """Which rows of Parquet files are an entity's: those whose columns read as all the cells of one of `ways`."""

    columns: tuple[ColumnPlan, ...]
    ways: tuple[Cells, ...]
    aliases: Aliases = field(default_factory=dict)

    def of(self, table: pa.Table) -> pa.Array:
        """Return (n,) whether each row is the entity's; a key of a wrong type is nobody's."""
        names = [each.name for each in self.columns]
        declared = as_declared(table, names, self.aliases)
        tests: list[str] = []
        values: list[Cell] = []
        for way in self.ways:
            same = []
            for column in self.columns:
                if column.name in way:
                    value, wrong = encoded(column, declared.schema.field(column.name).type) or ("NULL", "TRUE")
                    same.append(f"{value} = ? AND NOT {wrong}")
                    values.append(way[column.name])
            tests.append(f"coalesce({' AND '.join(same)}, FALSE)")
        with duckdb.connect() as connection:
            connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
            connection.register("batch", plain(declared))
            query = f"SELECT {' OR '.join(tests)} AS gone FROM batch"
            found = connection.sql(query, params=values).to_arrow_table()
        return found["gone"].combine_chunks()

    def count(self, path: Path) -> int:
        """Return how many rows of a file are the entity's; where there are any, the file can be written again."""
        return count_rows(path, self.paths, self.of)

    def paths(self, schema: pa.Schema) -> list[str]:
        """Return what of a file has the columns."""
        return [each for column in self.columns for each in carriers(schema, column.name, self.aliases)]


class FilesPlace(ABC):
    """Parquet files that are written anew without the entity's rows.

    Parameters
    ----------
    name
        What to call them.
    path
        A file, or a folder of them; hidden ones are not read.
    """

    name: str
    path: Path
    counted: ClassVar[str] = "rows"

    @abstractmethod
    def check(self, path: Path) -> None:
        """Refuse a file that is not what it is given as."""

    @abstractmethod
    def count(self, path: Path) -> int:
        """Return how many rows of a file are the entity's; where there are any, the file can be written again."""

    @abstractmethod
    def of(self, table: pa.Table) -> pa.Array:
        """Return (n,) whether each row is the entity's."""

    def find(self) -> dict[str, int]:
        """Return the number of rows of the entity."""
        return {self.counted: sum(self.held().values())}

    def held(self) -> dict[Path, int]:
        """Return the rows of the entity in each file that has some."""
        files = parquet_files(self.path)
        for each in files:
            self.check(each)
        found = {each.resolve(): self.count(each) for each in files}
        return {path: count for path, count in found.items() if count}

    def erase(self) -> None:
        """Write each file that holds rows of the entity without them, one after the other."""
        for each in leftovers(self.path) if self.path.is_dir() else ():
            each.unlink()
        for each in self.held():
            write_without(each, self.of)
            swap(each)

    def remains(self) -> list[str]:
        """Return nothing: a file has the row or not."""
        return []


@dataclass
class ParquetPlace(FilesPlace):
    """Files of a source's rows."""

    name: str
    path: Path
    source: SourcePlan
    rows: Rows

    def check(self, path: Path) -> None:
        """Refuse a file without the columns, or with others of their names."""
        check_columns(self.source, readable(path, pq.read_schema), f"file `{path}`")

    def count(self, path: Path) -> int:
        """Return how many rows of a file are the entity's."""
        return self.rows.count(path)

    def of(self, table: pa.Table) -> pa.Array:
        """Return (n,) whether each row is the entity's."""
        return self.rows.of(table)


class TrainingSet(ParquetPlace):
    """A training set: its rows about the entity, and their number in its manifest."""

    def erase(self) -> None:
        """Remove the rows, then count again."""
        super().erase()
        path = self.path / MANIFEST
        if path.is_file():
            rows = sum(pq.read_metadata(each).num_rows for each in parquet_files(self.path))
            replace_manifest(path, json.loads(path.read_text(encoding="utf-8")) | {"rows": rows})


def archives(who: Subject, events: Any) -> list[ParquetPlace]:
    """Return the archive of each source that holds the entity.

    Parameters
    ----------
    events
        As `backfill` takes files and folders; by name, sources may be left out.
    """
    found = []
    for name, ways in who.sources.items():
        if isinstance(events, Mapping) and name not in events:
            continue
        path = Path(events_of(who.plan, events, name))
        source = who.plan.source(name)
        found.append(place(f"archive {path}", path, source, ways))
    return found


def training_set(who: Subject, folder: Path) -> TrainingSet:
    """Return a training set, which names the entity as the spine did."""
    ways = who.of_spine()
    columns = tuple(who.plan.spine_keys().values())
    shape = replace(who.plan.sources[0], columns=columns, aliases=())
    found = place(f"training set {folder}", folder, shape, ways)
    return TrainingSet(**vars(found))


def place(name: str, path: Path, source: SourcePlan, ways: Sequence[Cells]) -> ParquetPlace:
    """Return files of a source's rows of which only the columns that name the entity are looked at."""
    columns = tuple(each for each in source.columns if any(each.name in way for way in ways))
    aliases = tuple((column, others) for column, others in source.aliases if column in {each.name for each in columns})
    narrow = replace(source, columns=columns, aliases=aliases)
    return ParquetPlace(name, path, narrow, Rows(columns, tuple(ways), dict(aliases)))
