"""The embedded store: one SQLite file. Each read and each batch of writes is one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from unskew.online.store import (
    Change,
    Flip,
    Pointer,
    Records,
    Side,
    ViewContent,
    Written,
    backwards,
    damaged,
    epoch_read,
    never_filled,
    sealed,
    still_read,
    unsealed,
)
from unskew.pipelines.errors import StoreDown, StoreError

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
CREATE TABLE IF NOT EXISTS written (
  epoch TEXT NOT NULL, view TEXT NOT NULL, rejected INTEGER NOT NULL, applied INTEGER NOT NULL,
  overtaken INTEGER NOT NULL, PRIMARY KEY (epoch, view)
);
CREATE TABLE IF NOT EXISTS job (epoch TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS consumed (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)
);
CREATE TABLE IF NOT EXISTS generation (newest INTEGER NOT NULL);
INSERT INTO generation VALUES (0);
PRAGMA user_version = 4;
"""
VERSION = 4
DROPPED = "SELECT 1 FROM content WHERE side = 'dropped' AND owner = ?"  # epochs of which nothing is written any more
PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
READ = """
SELECT p.generation, p.epoch, p.cut, p.batch_end, c.record, o.record
FROM pointer AS p
LEFT JOIN closed AS c ON c.view = ?1 AND c.generation = p.generation AND c.entity = ?2
LEFT JOIN open AS o ON o.view = ?1 AND o.epoch = p.epoch AND o.entity = ?2
WHERE p.source = ?3
"""


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

    Attributes
    ----------
    address
        The path.
    """

    def __init__(self, path: str | Path) -> None:
        self.address = str(path)
        with self.errors():
            self.connection = sqlite3.connect(self.address, isolation_level=None, check_same_thread=False, timeout=30)
            known = self.known()
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")
            if not known:  # opening alone writes nothing
                self.make()

    def known(self) -> bool:
        """Return whether the file is a store already; refuse one of something else."""
        tables = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        if tables and ("pointer",) not in tables:
            message = f"file `{self.address}` is an SQLite file, but no store of unskew; name another"
            raise StoreError(message)
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if tables and version != VERSION:
            message = f"store `{self.address}` has format {version}, not {VERSION}; build it anew by `unskew upload`"
            raise StoreError(message)
        return bool(tables)

    def make(self) -> None:
        """Make the tables in one transaction, unless another process has made them meanwhile."""
        with self.transaction():
            if not self.known():
                for each in SCHEMA.split(";"):
                    self.connection.execute(each)

    def __enter__(self) -> Self:
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
            passing = getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING  # the low byte is the kind
            hint = (
                "try again, and check what else uses it and the disk"
                if passing
                else "check the path, the disk and its rights"
            )
            message = f"store `{self.address}` failed: `{error}`; {hint}"
            raise (StoreDown if passing else StoreError)(message) from error

    @contextmanager
    def transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"] = "IMMEDIATE") -> Iterator[None]:
        """Run statements as one: all of them or none."""
        with self.errors():
            self.connection.execute(f"BEGIN {kind}")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # where the disk was full, SQLite has rolled back by itself
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Run writes as one transaction, that of the caller where there is one."""
        if self.connection.in_transaction:
            yield
        else:
            with self.transaction():
                yield

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
        return damaged(self.address, what)

    def checked(self, record: object) -> bytes | None:
        """Return a record without its checksum; None for none."""
        if record is None:
            return None
        body = unsealed(record) if isinstance(record, bytes) else None
        if body is None:
            what = "a record"
            raise self.damaged(what)
        return body

    def content(self, side: Side, owner: str, view: str) -> ViewContent | None:
        """Return how the records of a generation or an epoch are laid out; None where it holds no such view."""
        query = "SELECT layout, features FROM content WHERE side = ? AND owner = ? AND view = ?"
        with self.errors():
            row = self.connection.execute(query, (side, owner, view)).fetchone()
        try:
            return ViewContent.from_texts(*row) if row else None
        except ValueError as error:
            what = f"the layout of view `{view}`"
            raise self.damaged(what) from error

    def read(
        self, views: Mapping[str, tuple[str, str]], keys: Mapping[str, Sequence[bytes]]
    ) -> tuple[dict[str, Pointer], dict[str, Records]]:
        """Return pointers and records of one moment (`Store.read`)."""
        pointers: dict[str, Pointer] = {}
        found: dict[str, Records] = {}
        with self.transaction("DEFERRED"):
            for read, (view, source) in views.items():
                records: Records = []
                for key in keys[read]:
                    row = self.connection.execute(READ, (view, key, source)).fetchone()
                    if row is None:
                        raise never_filled(self.address, source)
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

    def written(self, epoch: str, view: str | None = None) -> Written:
        """Return what all writes of a job have come to, of one view or of all."""
        sums = ", ".join(f"coalesce(sum({each}), 0)" for each in Written._fields)
        query = f"SELECT {sums} FROM written WHERE epoch = ?1 AND view = coalesce(?2, view)"
        with self.errors():
            return Written(*self.connection.execute(query, (epoch, view)).fetchone())

    # Uploads

    def new_generation(self) -> int:
        """Return a number that no other upload has or gets."""
        with self.errors():
            (number,) = self.connection.execute("UPDATE generation SET newest = newest + 1 RETURNING newest").fetchone()
        return int(number)

    def generations(self) -> list[int]:
        """Return the generations of which records are held, oldest first."""
        query = "SELECT DISTINCT CAST(owner AS INTEGER) FROM content WHERE side = 'closed' ORDER BY 1"
        with self.errors():
            return [number for (number,) in self.connection.execute(query)]

    def put_content(self, side: Side, owner: str, view: str, content: ViewContent) -> None:
        """Record how a view's records are laid out."""
        row = (side, owner, view, *content.texts())
        with self.errors():
            self.connection.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?)", row)

    def put_closed(self, generation: int, view: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write (entity, record) pairs under a generation that nobody reads yet."""
        rows = ((view, generation, entity, sealed(record)) for entity, record in records)
        with self.transaction():
            self.connection.executemany("INSERT OR REPLACE INTO closed VALUES (?, ?, ?, ?)", rows)

    def flip(self, generation: int, ends: Mapping[str, tuple[int, int]], instant: int) -> None:
        """Let reads see a generation, all its sources at once (`Store.flip`)."""
        with self.transaction():
            for source, (cut, end) in ends.items():
                current = self.pointer(source) or Pointer()
                if end < current.batch_end:
                    raise backwards(source, end, current.batch_end)
                self.point(source, Pointer(generation, current.epoch, cut, end))
                self.connection.execute(
                    "INSERT INTO flip VALUES (?, ?, ?, ?, ?)", (source, generation, cut, end, instant)
                )

    def drop_generation(self, generation: int) -> None:
        """Delete the closed records of a generation that nobody reads any more."""
        of = "view IN (SELECT view FROM content WHERE side = 'closed' AND owner = ?2)"  # the key begins with the view
        with self.transaction():
            if self.connection.execute("SELECT 1 FROM pointer WHERE generation = ?", (generation,)).fetchone():
                raise still_read(generation)
            self.connection.execute(f"DELETE FROM closed WHERE generation = ?1 AND {of}", (generation, str(generation)))
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

    def update_open(self, epoch: str, view: str, keys: Sequence[bytes], change: Change) -> Written:
        """Change open records and count, in the transaction of the batch (`Store.update_open`)."""
        count = (
            "INSERT INTO written VALUES (?, ?, ?, ?, ?) ON CONFLICT (epoch, view) DO UPDATE SET "
            "rejected = rejected + excluded.rejected, applied = applied + excluded.applied, "
            "overtaken = overtaken + excluded.overtaken"
        )
        with self.batch():
            gone = self.connection.execute(DROPPED, (epoch,)).fetchone() is not None
            records, *counted = change(range(len(keys)), self.open_records(epoch, view, keys))
            written = Written(*map(sum, counted))
            if gone:  # its job was replaced
                return written
            rows = ((view, epoch, entity, sealed(record)) for entity, record in zip(keys, records, strict=True))
            self.connection.executemany("INSERT OR REPLACE INTO open VALUES (?, ?, ?, ?)", rows)
            self.connection.execute(count, (epoch, view, *written))
        return written

    def put_job(self, epoch: str, job: Mapping[str, Any]) -> None:
        """Record a job, or what has become of it."""
        with self.errors():
            self.connection.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", (epoch, json.dumps(dict(job))))

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the recorded jobs by epoch."""
        with self.errors():
            rows = self.connection.execute("SELECT epoch, content FROM job ORDER BY epoch").fetchall()
        try:
            return {epoch: json.loads(content) for epoch, content in rows}
        except ValueError as error:
            what = "the record of a job"
            raise damaged(self.address, what) from error

    def advance(self, topic: str, steps: Mapping[int, tuple[int, int]]) -> bool:
        """Record by partition the next offset of a job's topic to read (`Store.advance`)."""
        rows = [(topic, partition, after) for partition, (_, after) in steps.items()]
        with self.transaction():
            held = self.offsets(topic)
            sound = all(held.get(each, 0) in step for each, step in steps.items())
            if sound:
                self.connection.executemany("INSERT OR REPLACE INTO consumed VALUES (?, ?, ?)", rows)
        return sound

    def offsets(self, topic: str) -> dict[int, int]:
        """Return the recorded offsets of a topic by partition."""
        with self.errors():
            return dict(self.connection.execute("SELECT partition, next FROM consumed WHERE topic = ?", (topic,)))

    def drop_epoch(self, epoch: str) -> None:
        """Delete the open records of a job that was replaced, its counts, its offsets and the record of the job."""
        with self.transaction():
            if self.connection.execute("SELECT 1 FROM pointer WHERE epoch = ?", (epoch,)).fetchone():
                raise epoch_read(epoch)
            topics = self.jobs().get(epoch, {}).get("topics", {}).values()
            self.connection.executemany("DELETE FROM consumed WHERE topic = ?", [(each,) for each in topics])
            for table in ("open", "written", "job"):
                self.connection.execute(f"DELETE FROM {table} WHERE epoch = ?", (epoch,))
            self.connection.execute("DELETE FROM content WHERE side = 'open' AND owner = ?", (epoch,))
            self.connection.execute("INSERT OR REPLACE INTO content VALUES ('dropped', ?, '', '', '')", (epoch,))

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
            message = f"store `{self.address}` is being read: the records are deleted, but its log still holds them; run again when nobody reads it"
            raise StoreError(message)
