"""Erasing an entity from what is archived of Kafka beside events: messages that could not be read, and rows that were served."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.frames import events_of
from unskew.backfill.rewrite import write_without
from unskew.pipelines.archive import QUARANTINE
from unskew.pipelines.durable import leftovers, swap
from unskew.pipelines.erasure import Subject
from unskew.pipelines.errors import InputError
from unskew.pipelines.folders import parquet_files
from unskew.pipelines.plan import SourcePlan
from unskew.pipelines.raw_lines import holds, line_is_of


class MessagesPlace(ABC):
    """A folder of Parquet files of which each row is looked into.

    Parameters
    ----------
    name
        What to call it.
    columns
        What a file must have.
    counted
        What a row is.
    """

    def __init__(self, name: str, folder: Path, columns: tuple[str, ...], counted: str) -> None:
        self.name, self.folder, self.columns, self.counted = name, folder, columns, counted

    @abstractmethod
    def hers(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is the entity's."""

    def of(self, table: pa.Table) -> pa.Array:
        """Return (n,) whether each row is the entity's."""
        return pa.array([self.hers(each) for each in table.select(self.columns).to_pylist()], pa.bool_())

    def held(self) -> dict[Path, int]:
        """Return how many rows of the entity each file has, where it has some."""
        found = {}
        for path in parquet_files(self.folder):
            with pq.ParquetFile(path) as file:
                missing = [each for each in self.columns if each not in file.schema_arrow.names]
                if missing:
                    message = f"file `{path}` has no column `{missing[0]}`: it is no {self.name}"
                    raise InputError(message)
                groups = (file.read_row_group(each, columns=self.columns) for each in range(file.num_row_groups))
                found[path.resolve()] = sum(int(self.of(each).true_count) for each in groups)
        return {path: count for path, count in found.items() if count}

    def find(self) -> dict[str, int]:
        """Return the number of rows of the entity."""
        return {self.counted: sum(self.held().values())}

    def erase(self) -> None:
        """Write each file that holds some without them, one after the other."""
        for each in leftovers(self.folder):
            each.unlink()
        for each in self.held():
            write_without(each, self.of)
            swap(each)

    def remains(self) -> list[str]:
        """Return nothing: a file has the row or not."""
        return []


class QuarantinePlace(MessagesPlace):
    """The messages of a source that could not be read, as bytes."""

    def __init__(self, who: Subject, source: SourcePlan, archive: Path) -> None:
        super().__init__(f"quarantine of {archive}", archive / QUARANTINE, ("raw", "key"), "lines")
        self.who, self.source = who, source

    def hers(self, row: Mapping[str, Any]) -> bool:
        """Return whether a message is the entity's: its line is, or its key has the text of all the entity's."""
        raw, key = row["raw"] or b"", row["key"] or b""
        return line_is_of(raw, self.source, self.who) or all(holds(key, str(each)) for each in self.who.given.values())


class ServedPlace(MessagesPlace):
    """Rows that were served, as `online.served_rows` describes them: those that asked for the entity."""

    def __init__(self, who: Subject, folder: Path) -> None:
        super().__init__(f"served log {folder}", folder, ("content",), "rows")
        self.ways = who.of_spine()

    def hers(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row has all the keys of the entity."""
        try:
            asked = json.loads(row["content"])["row"]
        except (TypeError, ValueError, KeyError) as error:
            message = (
                f"{self.name} has a row that is none: `{str(row['content'])[:80]}`; name the archive of a served topic"
            )
            raise InputError(message) from error
        return any(all(asked.get(name) == cell for name, cell in way.items()) for way in self.ways)


def quarantines(who: Subject, events: Any) -> Iterator[QuarantinePlace]:
    """Yield the quarantine of each archive that has one and holds a source of the entity's."""
    for name in who.sources:
        if isinstance(events, Mapping) and name not in events:
            continue
        path = Path(events_of(who.plan, events, name))
        if any((path / QUARANTINE).glob("*.parquet")):
            yield QuarantinePlace(who, who.plan.source(name), path)
