"""Erasing an entity's messages from the quarantine of an archive."""

from __future__ import annotations

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
from unskew.pipelines.folders import parquet_files
from unskew.pipelines.plan import SourcePlan
from unskew.pipelines.raw_lines import holds, line_is_of


class QuarantinePlace:
    """The messages of a source that could not be read, as bytes."""

    def __init__(self, who: Subject, source: SourcePlan, archive: Path) -> None:
        """Say where they are."""
        self.who, self.source = who, source
        self.folder, self.name = archive / QUARANTINE, f"quarantine of {archive}"

    def of(self, table: pa.Table) -> pa.Array:
        """Return (n,) whether each message is the entity's: its line is, or its key has the text of all the entity's."""
        pairs = zip(table["raw"].to_pylist(), table["key"].to_pylist(), strict=True)
        return pa.array([self.hers(raw or b"", key or b"") for raw, key in pairs], pa.bool_())

    def hers(self, raw: bytes, key: bytes) -> bool:
        """Return whether a message is the entity's."""
        return line_is_of(raw, self.source, self.who) or all(holds(key, str(each)) for each in self.who.given.values())

    def held(self) -> dict[Path, int]:
        """Return how many messages of the entity each file has, where it has some."""
        files = parquet_files(self.folder)
        found = {each.resolve(): int(self.of(pq.read_table(each, partitioning=None)).true_count) for each in files}
        return {path: count for path, count in found.items() if count}

    def find(self) -> dict[str, int]:
        """Return the number of messages of the entity."""
        return {"lines": sum(self.held().values())}

    def erase(self) -> None:
        """Write each file that holds some without them, one after the other."""
        for each in leftovers(self.folder):
            each.unlink()
        for each in self.held():
            write_without(each, self.of)
            swap(each)

    def remains(self) -> list[str]:
        """Return nothing: a file has the message or not."""
        return []


def quarantines(who: Subject, events: Any) -> Iterator[QuarantinePlace]:
    """Yield the quarantine of each archive that has one and holds a source of the entity's."""
    for name in who.sources:
        if isinstance(events, Mapping) and name not in events:
            continue
        path = Path(events_of(who.plan, events, name))
        if any((path / QUARANTINE).glob("*.parquet")):
            yield QuarantinePlace(who, who.plan.source(name), path)
