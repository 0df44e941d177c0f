"""Replies to `POST /v1/features`: a reading's values with where they come from and what is the matter with them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from unskew.online.kernels import AHEAD, BEHIND, Bools
from unskew.online.read import Reading
from unskew.online.server.question import Part, Question
from unskew.online.server.refusal import Refusal, Reply
from unskew.online.server.wire import ARROW, METADATA
from unskew.online.store import BEGINNING, Pointer

OPTIONS = pa.ipc.IpcWriteOptions()  # Arrow looks for the defaults in the environment each time


class Answers:
    """The replies to the questions that one reading answers.

    Parameters
    ----------
    part
        Of the set.
    reading
        Of all questions' rows, in their order.
    max_age
        Milliseconds after which what a row knows is stale; None: never.
    """

    def __init__(self, part: Part, reading: Reading, max_age: int | None) -> None:
        self.part = part
        self.reading = reading
        self.max_age = max_age
        self.end = max((each.batch_end for each in reading.pointers.values()), default=BEGINNING)
        self.sources = {name: source_json(each) for name, each in reading.pointers.items()}

    def outcome(self, question: Question, first: int) -> Reply | Refusal:
        """Return the reply to the question whose rows begin at `first`."""
        earliest = int(question.t.min())
        if earliest < self.end:
            return self.too_early(earliest)
        last = first + question.asked.rows
        if question.arrow:
            return self.arrow(question, first, last)
        found = self.head(question, first, last) | {"rows": self.rows[first:last]}
        return Reply(200, orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS if self.part.maps else None))

    def too_early(self, instant: int) -> Refusal:
        """Refuse an instant that lies among the closed tiles: they would hold events after it."""
        source, pointer = next(pair for pair in self.reading.pointers.items() if pair[1].batch_end == self.end)
        message = (
            f"instant `{instant}` is before batch_end `{pointer.batch_end}` of source `{source}`; backfill instead"
        )
        return Refusal(409, "before_batch_end", message)

    def head(self, question: Question, first: int, last: int) -> dict[str, Any]:
        """Return the reply without its rows."""
        return {
            "set": self.part.whole.name,
            "fingerprint": self.part.whole.fingerprint,
            "at": question.at,
            "columns": self.part.columns,
            "sources": self.sources,
            "newest": [self.newest_of(row) for row in range(first, last)],
            "flags": [self.flags_of(row) for row in range(first, last)],
        }

    def arrow(self, question: Question, first: int, last: int) -> Reply:
        """Return the rows as an Arrow IPC stream."""
        head = self.head(question, first, last)
        del head["columns"]
        found = self.batch
        if found.num_rows > last - first:  # a slice would carry rows of other callers in the padding of its buffers
            found = found.take(pa.array(range(first, last)))
        found = found.replace_schema_metadata({METADATA: orjson.dumps(head)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, found.schema, options=OPTIONS) as writer:
            writer.write_batch(found)
        return Reply(200, sink.getvalue().to_pybytes(), ARROW.encode())

    @cached_property
    def rows(self) -> list[tuple[Any, ...]]:
        """The values of each row."""
        cells = self.reading.columns.cells()
        return list(zip(*(cells[name] for name in self.part.names), strict=True))

    @cached_property
    def batch(self) -> pa.RecordBatch:
        """The values in Arrow."""
        arrays = self.reading.columns.arrays()
        return pa.RecordBatch.from_arrays([arrays[name] for name in self.part.names], names=self.part.names)

    @cached_property
    def newest(self) -> dict[str, list[list[int]]]:
        """For each view and row whether it has an open tile, where the newest begins, and its sequence."""
        return {name: each.newest.tolist() for name, each in self.reading.views.items()}

    def newest_of(self, row: int) -> dict[str, dict[str, int] | None]:
        """Return the newest open tile of each view."""
        found: dict[str, dict[str, int] | None] = {}
        for name, rows in self.newest.items():
            there, start, sequence = rows[row]
            found[name] = {"start": start, "sequence": sequence} if there else None
        return found

    @cached_property
    def flags(self) -> dict[str, list[list[str]]]:
        """For each view and row its flags; only of views where a row has one."""
        rows = self.reading.rows
        found = {name: [["hidden"]] * rows for name in self.reading.hidden}
        for name, view in self.reading.views.items():
            stale = self.stale(name)
            if stale.any() or view.knowledge[:, AHEAD : BEHIND + 1].any():
                marks = {"ahead": view.knowledge[:, AHEAD], "behind": view.knowledge[:, BEHIND], "stale": stale}
                found[name] = [[mark for mark, each in marks.items() if each[row]] for row in range(rows)]
        return found

    def stale(self, name: str) -> Bools:
        """Return whether what a row knows of a view ends more than `max_age` before its instant.

        It knows all before the upload's cut, and up to the newest open tile of its entity.
        """
        view = self.reading.views[name]
        if self.max_age is None:
            return np.zeros(len(view.t), np.bool_)
        source = next(each.source for each in self.part.plan.reads if each.name == name)
        newest = np.where(view.newest[:, 0] > 0, view.newest[:, 1], BEGINNING)
        found: Bools = view.t - np.maximum(newest, self.reading.pointers[source].cut) > self.max_age
        return found

    def flags_of(self, row: int) -> dict[str, list[str]]:
        """Return the flags of each view that has some."""
        return {name: rows[row] for name, rows in self.flags.items() if rows[row]}


def source_json(pointer: Pointer) -> dict[str, object]:
    """Return what was read of a source; null for what there was not."""
    none = pointer.batch_end == BEGINNING
    return {
        "batch_end": None if none else pointer.batch_end,
        "cut": None if none else pointer.cut,
        "generation": pointer.generation,
        "epoch": pointer.epoch,
    }
