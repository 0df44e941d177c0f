"""Erasing an entity from what a stream's job wrote: rows of its tiles, quarantined and late lines.

Only finished parts are rewritten. What the job carries in its state is named: nobody can edit a checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.online.account import ERASED, erased_parts
from unskew.online.changelog import ARROW_TYPES, read_part, visible
from unskew.online.checkpoints import CHECKPOINTS
from unskew.online.kernels import Bools
from unskew.online.stream import run_id
from unskew.online.stream_input import STAGED
from unskew.pipelines.backends.flink import state_life, view_streams
from unskew.pipelines.backends.flink_streams import Stream, account_streams, key_names
from unskew.pipelines.durable import aside, leftovers, swap
from unskew.pipelines.erasure import Cells, Subject
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.manifest import replace_manifest
from unskew.pipelines.plan import SourcePlan, ViewPlan
from unskew.pipelines.raw_lines import is_of
from unskew.pipelines.timegrid import DAY

QUOTE, NEWLINE = ord('"'), ord("\n")
RAW = ("quarantine", "late")


@dataclass
class OutputPlace:
    """The output folder of a stream."""

    who: Subject
    path: Path

    @property
    def name(self) -> str:
        """What to call it."""
        return f"stream {self.path}"

    def find(self) -> dict[str, int]:
        """Return the number of rows and lines of the entity in each stream."""
        run_id(self.path)
        self.require_known()
        found: dict[str, int] = {}
        for stream, _, gone in self.parts():
            label = f"{'lines' if stream.kind in RAW else 'rows'} of {stream.name}"
            found[label] = found.get(label, 0) + int(gone.sum())
        return found

    def sources(self) -> list[SourcePlan]:
        """Return the source whose job wrote the folder; where no row tells, every one that holds the entity."""
        own = [
            source
            for source in self.who.plan.sources
            if any((self.path / f"{view.name}__tiles").is_dir() for view in self.views(source))
        ]
        return [each for each in own or self.who.plan.sources if each.name in self.who.sources]

    def views(self, source: SourcePlan) -> list[ViewPlan]:
        """Return the views over a source."""
        return [each for each in self.who.plan.views if each.source == source.name]

    def require_known(self) -> None:
        """Refuse a folder with streams of other definitions."""
        known = {each.name for view in self.who.plan.views for each in view_streams(view, self.source_of(view))}
        for each in sorted(self.path.iterdir()):
            if each.is_dir() and "__" in each.name and each.name not in known:
                message = f"stream output `{self.path}` holds `{each.name}`, which set `{self.who.plan.name}` has not; give the definitions it was made from"
                raise InputError(message)

    def source_of(self, view: ViewPlan) -> SourcePlan:
        """Return the source of a view."""
        return self.who.plan.source(view.source)

    def parts(self) -> Iterator[tuple[Stream, Path, Bools]]:
        """Yield each finished part of a stream that can hold the entity, with (n,) which of its rows are to go."""
        for source in self.sources():
            for view in self.views(source):
                if ways := self.who.of_view(view):
                    for stream in view_streams(view, source):
                        for path in visible(self.path / stream.name):
                            yield stream, path, keyed_rows(path, stream, view, ways)
            for stream in account_streams(self.views(source), source):
                if stream.kind in RAW:
                    for path in visible(self.path / stream.name):
                        yield stream, path, raw_rows(path, stream, source, self.who)

    def erase(self) -> None:
        """Write each part that holds rows of the entity without them; note what it held, for the account."""
        for each in leftovers(self.path):
            each.unlink()
        for stream, path, gone in self.parts():
            if gone.any():
                self.note(stream, path, len(gone))
                write_records(path, ~gone)
                swap(path)

    def note(self, stream: Stream, path: Path, rows: int) -> None:
        """Keep how many rows a part had before anything was erased from it."""
        known = erased_parts(self.path)
        own = known.setdefault(stream.name, {})
        if path.name not in own:
            own[path.name] = rows
            replace_manifest(self.path / ERASED, known)

    def remains(self) -> list[str]:
        """Return what the job keeps beside the finished parts."""
        found: list[str] = []
        if not self.sources():
            return found
        if any(files for _, _, files in os.walk(self.path / CHECKPOINTS)):  # of one that was cut off, too
            days = max(state_life(each, self.views(each)) for each in self.sources()) / DAY
            found.append(
                f"checkpoints in {self.path / CHECKPOINTS}, until the folder is removed and the job rebuilt from the log; "
                f"a job that resumes them drops its state of a tile {days:.1f} days after the tile's last event, and "
                "till then goes on from the old state"
            )
        unfinished = [each for each in self.path.rglob(".*inprogress*") if each.is_file()]
        if unfinished:
            found.append(
                f"{len(unfinished)} unfinished part(s) in {self.path}, until the job has finished them: erase again"
            )
        if (self.path / STAGED).exists():
            found.append(
                f"the copy of the log in {self.path / STAGED}, until the run that was cut off is resumed and ends"
            )
        return found


def keyed_rows(path: Path, stream: Stream, view: ViewPlan, ways: list[Cells]) -> Bools:
    """Return (n,) which rows of a view's part are the entity's."""
    names = dict(zip((each.name for each in view.keys), key_names(view), strict=True))
    table = read_columns(path, stream, list(names.values()))
    found = np.zeros(table.num_rows, np.bool_)
    for way in ways:
        same = np.ones(table.num_rows, np.bool_)
        for name, cell in way.items():
            column = table[names[name]]
            same &= pc.equal(column, pa.scalar(cell, column.type)).fill_null(False).to_numpy()
        found |= same
    return found


def raw_rows(path: Path, stream: Stream, source: SourcePlan, who: Subject) -> Bools:
    """Return (n,) which quarantined or late lines are the entity's."""
    lines = read_columns(path, stream, ["raw"])["raw"].to_pylist()
    return np.array([each is not None and is_of(each, source, who) for each in lines], np.bool_)


def read_columns(path: Path, stream: Stream, names: list[str]) -> pa.Table:
    """Return columns of a part."""
    try:
        return read_part(path, stream, pa.schema([(each, ARROW_TYPES[dict(stream.columns)[each]]) for each in names]))
    except pa.ArrowInvalid as error:
        message = f"file `{path}` cannot be read: {str(error).splitlines()[0]}; give the definitions it was made from"
        raise InputError(message) from error


def write_records(path: Path, kept: Bools) -> None:
    """Write a part's records beside it, those that are kept, byte for byte.

    A record ends with a line that does not end inside quotes.
    """
    data = path.read_bytes()
    content = np.frombuffer(data, np.uint8)
    outside = np.cumsum(content == QUOTE) % 2 == 0
    ends = np.flatnonzero((content == NEWLINE) & outside) + 1
    if not len(ends) or ends[-1] != len(content):
        ends = np.append(ends, len(content))
    if len(ends) != len(kept):
        message = f"file `{path}` has `{len(ends)}` records, but `{len(kept)}` rows were read; please report this"
        raise EngineError(message)
    starts = np.concatenate(([0], ends[:-1]))
    with aside(path).open("wb") as out:
        for start, end in zip(starts[kept], ends[kept], strict=True):
            out.write(data[start:end])
