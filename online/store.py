"""The online store: closed records under a generation, open ones under a job epoch.

One pointer per source names both. A read takes pointer and records in one transaction, so it sees an
upload whole or not at all.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from unskew.pipelines.errors import StoreError
from unskew.pipelines.records import Layout

Side = Literal["closed", "open"]
BEGINNING = -(2**62)  # batch_end, ms, where nothing was uploaded yet
NO_GENERATION = 0
CHECKSUM = 4  # bytes


@dataclass(frozen=True)
class Pointer:
    """What reads of a source see.

    Parameters
    ----------
    generation
        Of the closed records; 0 where nothing was uploaded.
    epoch
        Of the open records; empty before the first job.
    cut, batch_end
        Of the upload, ms; tiles that start before `batch_end` are read closed.
    """

    generation: int = NO_GENERATION
    epoch: str = ""
    cut: int = BEGINNING
    batch_end: int = BEGINNING


class Flip(NamedTuple):
    """One flip of the recorded history; `instant` is when reads began to see it, ms."""

    source: str
    generation: int
    cut: int
    batch_end: int
    instant: int


@dataclass(frozen=True)
class ViewContent:
    """How a view's records of one generation or epoch are laid out, and the fingerprints of its features."""

    layout: Layout
    features: Mapping[str, str] = field(default_factory=dict)


Records = list[tuple[bytes | None, bytes | None]]


SCHEMA = """
CREATE TABLE IF NOT EXISTS pointer (
  source TEXT PRIMARY KEY, generation INTEGER NOT NULL, epoch TEXT NOT NULL, cut INTEGER NOT NULL, batch_end INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS flip (
  source TEXT NOT NULL, generation INTEGER NOT NULL, cut INTEGER NOT NULL, batch_end INTEGER NOT NULL, instant INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS content (
  side TEXT NOT NULL, owner TEXT NOT NULL, view TEXT NOT NULL, layout TEXT NOT NULL, features TEXT NOT NULL,
  PRIMARY KEY (side, owner, view)
);
CREATE TABLE IF NOT EXISTS closed (
  view TEXT NOT NULL, generation INTEGER NOT NULL, entity BLOB NOT NULL, record BLOB NOT NULL,
  PRIMARY KEY (view, generation, entity)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open (
  view TEXT NOT NULL, epoch TEXT NOT NULL, entity BLOB NOT NULL, record BLOB NOT NULL,
  PRIMARY KEY (view, epoch, entity)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rejected (epoch TEXT NOT NULL, view TEXT NOT NULL, writes INTEGER NOT NULL, PRIMARY KEY (epoch, view));
PRAGMA user_version = 2;
"""
VERSION = 2
READ = """
SELECT p.generation, p.epoch, p.cut, p.batch_end, c.record, o.record
FROM pointer AS p
LEFT JOIN closed AS c ON c.view = ?1 AND c.generation = p.generation AND c.entity = ?2
LEFT JOIN open AS o ON o.view = ?1 AND o.epoch = p.epoch AND o.entity = ?2
WHERE p.source = ?3
"""


def sealed(record: bytes) -> bytes:
    """Return a record with its checksum (CRC-32) behind it: kernels trust the counts inside."""
    return record + zlib.crc32(record).to_bytes(CHECKSUM, "little")


class SqliteStore:
    """The embedded store: one SQLite file in WAL mode; readers never wait for a writer.

    Parameters
    ----------
    path
        The file, made where there is none; ``:memory:`` for a store of this process.

    Raises
    ------
    StoreError
        If the file is no store of unskew or cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        with self.errors():
            self.connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
            known = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            if known and ("pointer",) not in known:
                message = f"file `{self.path}` is an SQLite file, but no store of unskew; name another"
                raise StoreError(message)
            (version,) = self.connection.execute("PRAGMA user_version").fetchone()
            if known and version != VERSION:
                message = f"store `{self.path}` has format {version}, not {VERSION}; build it anew by `unskew upload`"
                raise StoreError(message)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")
            if not known:  # opening alone writes nothing
                self.connection.executescript(SCHEMA)

    def __enter__(self) -> SqliteStore:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn SQLite's errors into one line."""
        try:
            yield
        except sqlite3.Error as error:
            message = f"store `{self.path}` failed: `{error}`; check the path, the disk and its rights"
            raise StoreError(message) from error

    @contextmanager
    def transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"] = "IMMEDIATE") -> Iterator[None]:
        """Run statements as one: all of them or none."""
        with self.errors():
            self.connection.execute(f"BEGIN {kind}")
            try:
                yield
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")

    # Reads

    def pointer(self, source: str) -> Pointer | None:
        """Return what reads of a source see; None before the first upload or job."""
        query = "SELECT generation, epoch, cut, batch_end FROM pointer WHERE source = ?"
        with self.errors():
            row = self.connection.execute(query, (source,)).fetchone()
        return self.pointer_of(row) if row else None

    def pointer_of(self, row: Sequence[object]) -> Pointer:
        """Return a row of the pointers, if it is one."""
        generation, epoch, cut, end = row
        if isinstance(generation, int) and isinstance(epoch, str) and isinstance(cut, int) and isinstance(end, int):
            return Pointer(generation, epoch, cut, end)
        what = f"pointer `{row}`"
        raise self.damaged(what)

    def damaged(self, what: str) -> StoreError:
        """Return the error of what was written otherwise than it is read."""
        return StoreError(f"store `{self.path}` is damaged: {what} cannot be read; build it anew by `unskew upload`")

    def checked(self, record: object) -> bytes | None:
        """Return a record without its checksum; None for none."""
        if record is None:
            return None
        if isinstance(record, bytes) and len(record) >= CHECKSUM:
            body = record[:-CHECKSUM]
            if zlib.crc32(body) == int.from_bytes(record[-CHECKSUM:], "little"):
                return body
        what = "a record"
        raise self.damaged(what)

    def content(self, side: Side, owner: str, view: str) -> ViewContent | None:
        """Return how the records of a generation or an epoch are laid out; None where it holds no such view."""
        query = "SELECT layout, features FROM content WHERE side = ? AND owner = ? AND view = ?"
        with self.errors():
            row = self.connection.execute(query, (side, owner, view)).fetchone()
        try:
            return ViewContent(Layout.from_json(json.loads(row[0])), dict(json.loads(row[1]))) if row else None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            what = f"the layout of view `{view}`"
            raise self.damaged(what) from error

    def read(
        self, views: Mapping[str, tuple[str, str]], keys: Mapping[str, Sequence[bytes]]
    ) -> tuple[dict[str, Pointer], dict[str, Records]]:
        """Return the pointer of each source and, for each view, (closed, open) records of each key, of one moment.

        Parameters
        ----------
        views
            For each read the name of the view in the store, and its source.
        keys
            For each read the entities asked for.

        Raises
        ------
        StoreError
            If a source was never uploaded or streamed into this store.
        """
        pointers: dict[str, Pointer] = {}
        found: dict[str, Records] = {}
        with self.transaction("DEFERRED"):
            for read, (view, source) in views.items():
                records: Records = []
                for key in keys[read]:
                    row = self.connection.execute(READ, (view, key, source)).fetchone()
                    if row is None:
                        message = f"store `{self.path}` holds nothing of source `{source}`; run `unskew upload` or `unskew stream`"
                        raise StoreError(message)
                    if source not in pointers:
                        pointers[source] = self.pointer_of(row[:4])
                    records.append((self.checked(row[4]), self.checked(row[5])))
                found[read] = records
        return pointers, found

    def flips(self, source: str) -> list[Flip]:
        """Return the recorded flips of a source, oldest first."""
        query = "SELECT source, generation, cut, batch_end, instant FROM flip WHERE source = ? ORDER BY rowid"
        with self.errors():
            return [Flip(*row) for row in self.connection.execute(query, (source,))]

    def rejected(self, epoch: str) -> int:
        """Return how many writes the guard has refused."""
        query = "SELECT coalesce(sum(writes), 0) FROM rejected WHERE epoch = ?"
        with self.errors():
            return int(self.connection.execute(query, (epoch,)).fetchone()[0])

    # Uploads

    def new_generation(self) -> int:
        """Return the number of the next generation."""
        query = "SELECT max(generation) FROM (SELECT generation FROM flip UNION SELECT CAST(owner AS INTEGER) FROM content WHERE side = 'closed')"
        with self.errors():
            (newest,) = self.connection.execute(query).fetchone()
        return 1 + (newest or NO_GENERATION)

    def put_content(self, side: Side, owner: str, view: str, content: ViewContent) -> None:
        """Record how a view's records are laid out."""
        row = (side, owner, view, json.dumps(content.layout.to_json()), json.dumps(dict(content.features)))
        with self.errors():
            self.connection.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?)", row)

    def put_closed(self, generation: int, view: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write (entity, record) pairs under a generation that nobody reads yet."""
        rows = ((view, generation, entity, sealed(record)) for entity, record in records)
        with self.transaction():
            self.connection.executemany("INSERT OR REPLACE INTO closed VALUES (?, ?, ?, ?)", rows)

    def flip(self, generation: int, ends: Mapping[str, tuple[int, int]], instant: int) -> None:
        """Let reads see a generation, all its sources at once.

        Parameters
        ----------
        ends
            For each source its cut and batch_end, ms.
        instant
            The time of the flip, ms, for the recorded history.

        Raises
        ------
        StoreError
            If a source has a later batch_end already: time would run backwards.
        """
        with self.transaction():
            for source, (cut, end) in ends.items():
                current = self.pointer(source) or Pointer()
                if end < current.batch_end:
                    message = f"batch_end `{end}` of source `{source}` is before the store's `{current.batch_end}`; upload a newer archive"
                    raise StoreError(message)
                self.point(source, Pointer(generation, current.epoch, cut, end))
                self.connection.execute(
                    "INSERT INTO flip VALUES (?, ?, ?, ?, ?)", (source, generation, cut, end, instant)
                )

    def drop_generation(self, generation: int) -> None:
        """Delete the closed records of a generation that nobody reads any more."""
        with self.transaction():
            if self.connection.execute("SELECT 1 FROM pointer WHERE generation = ?", (generation,)).fetchone():
                message = f"generation `{generation}` is being read; flip to another first"
                raise StoreError(message)
            self.connection.execute("DELETE FROM closed WHERE generation = ?", (generation,))
            self.connection.execute("DELETE FROM content WHERE side = 'closed' AND owner = ?", (str(generation),))

    # The stream

    def point(self, source: str, pointer: Pointer) -> None:
        """Set what reads of a source see."""
        row = (source, pointer.generation, pointer.epoch, pointer.cut, pointer.batch_end)
        self.connection.execute("INSERT OR REPLACE INTO pointer VALUES (?, ?, ?, ?, ?)", row)

    def start_epoch(self, source: str, epoch: str) -> None:
        """Let reads of a source see the open records of a job."""
        with self.transaction():
            current = self.pointer(source) or Pointer()
            self.point(source, Pointer(current.generation, epoch, current.cut, current.batch_end))

    def open_records(self, epoch: str, view: str, keys: Sequence[bytes]) -> list[bytes]:
        """Return the open records of the keys; empty where there is none."""
        query = "SELECT record FROM open WHERE view = ? AND epoch = ? AND entity = ?"
        with self.errors():
            rows = [self.connection.execute(query, (view, epoch, key)).fetchone() for key in keys]
        return [self.checked(row[0]) or b"" if row else b"" for row in rows]

    def put_open(self, epoch: str, view: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write (entity, record) pairs of a job's view; call it within a transaction."""
        rows = ((view, epoch, entity, sealed(record)) for entity, record in records)
        self.connection.executemany("INSERT OR REPLACE INTO open VALUES (?, ?, ?, ?)", rows)

    def add_rejected(self, epoch: str, view: str, writes: int) -> None:
        """Count writes that the guard refused; call it within a transaction."""
        query = "INSERT INTO rejected VALUES (?, ?, ?) ON CONFLICT (epoch, view) DO UPDATE SET writes = writes + excluded.writes"
        self.connection.execute(query, (epoch, view, writes))

    # Erasure

    def entities(self, view: str) -> Iterator[bytes]:
        """Yield the entities of which a view has records, of any generation or epoch."""
        query = "SELECT entity FROM closed WHERE view = ?1 UNION SELECT entity FROM open WHERE view = ?1"
        with self.errors():
            for (entity,) in self.connection.execute(query, (view,)):
                yield entity

    def held(self, view: str, keys: Sequence[bytes]) -> dict[Side, int]:
        """Return how many records of the entities a view has, of all generations and epochs."""
        found: dict[Side, int] = {"closed": 0, "open": 0}
        with self.errors():
            for side in found:
                query = f"SELECT count(*) FROM {side} WHERE view = ? AND entity = ?"
                found[side] = sum(self.connection.execute(query, (view, key)).fetchone()[0] for key in keys)
        return found

    def erase(self, keys: Mapping[str, Sequence[bytes]]) -> None:
        """Delete the records of entities by view, all in one transaction, and leave no copy of them in the file.

        The file is written anew: replaced and dropped records stand in its free pages. That takes as much room
        again while it lasts, and what writes waits. Without keys it completes an erasure that was cut off.

        Raises
        ------
        StoreError
            If a reader holds on to the file as it was.
        """
        with self.errors():
            self.connection.execute("PRAGMA secure_delete = ON")
        with self.transaction():
            for view, own in keys.items():
                rows = [(view, key) for key in own]
                for side in ("closed", "open"):
                    self.connection.executemany(f"DELETE FROM {side} WHERE view = ? AND entity = ?", rows)
        with self.errors():
            self.connection.execute("VACUUM")
            (busy, *_) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            message = f"store `{self.path}` is being read: the records are deleted, but its log still holds them; run again when nobody reads it"
            raise StoreError(message)
