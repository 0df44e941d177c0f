"""The store in Redis, for many readers and writers; `online/redis_scripts.py` has its keys.

What was answered is kept as Redis is told to keep it: with ``appendonly yes`` it outlives the process, with ``appendfsync
always`` the machine too. A Redis that comes back with less than it answered gets the rows of the stream that it lost again (`Store.advance`).
"""

from __future__ import annotations

import json
import random
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import islice
from typing import Any, Self, cast

from unskew.online.redis_client import RedisClient, Word
from unskew.online.redis_files import rewrite_files
from unskew.online.redis_scripts import ADVANCE, DROP, DROP_EPOCH, FLIP, FORMAT, PREFIX, SWAP, VERSION
from unskew.online.redis_wire import hmget, strings
from unskew.online.store import (
    CHECKSUM,
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
from unskew.pipelines.errors import StoreError

Held = tuple[bytes | None, ...]  # generation, epoch, cut, batch_end of a source as Redis holds them
FIELDS = 4
NOTHING: Held = (None,) * FIELDS
AT_ONCE, BYTES = 256, 1 << 18  # records of one command, and bytes of one script: others wait for no longer
ATTEMPTS = 50  # to change a record before another writer does


def key(*parts: object) -> str:
    """Return the name of a key in Redis."""
    return PREFIX + ":".join(map(str, parts))


POINTER, CLOSED, OPEN = (key(each).encode() for each in ("pointer", "closed", "open"))


class RedisStore:
    """A store in Redis.

    Parameters
    ----------
    url
        ``redis://host:port/db``, or ``rediss://`` for TLS.
    username, password, ssl_cafile
        As in `StoreSettings`.
    timeout, write_timeout
        Seconds that a read waits for Redis; that a write does, up to three times.

    Raises
    ------
    StoreError
        If Redis refuses the password, holds a store of another format or may evict records; `StoreDown` if it cannot be
        reached.

    Attributes
    ----------
    address
        The URL without user and password.
    """

    def __init__(
        self, url: str, *, username: str = "", password: str = "", ssl_cafile: str = "",
        timeout: float = 1.0, write_timeout: float = 10.0,
    ) -> None:  # fmt: skip
        self.client = RedisClient(
            url, username=username, password=password, ssl_cafile=ssl_cafile, timeout=timeout, write_timeout=write_timeout
        )  # fmt: skip
        self.address = self.client.address
        self.known: dict[str, Held] = {}  # pointers as the newest read saw them; replaced whole
        with self.client.errors():
            found = cast("bytes | None", self.client.reads.get(key("format")))
            memory = cast("dict[str, Any]", self.client.reads.info("memory"))
        policy = str(memory.get("maxmemory_policy", ""))
        if policy.startswith("allkeys") and memory.get("maxmemory"):
            message = f"store `{self.address}` may evict records (`{policy}`); set its maxmemory-policy to noeviction"
            raise StoreError(message)
        if found not in (None, FORMAT):
            message = f"store `{self.address}` has format `{(found or b'').decode()}`, not `{FORMAT.decode()}`; build it anew by `unskew upload`"
            raise StoreError(message)

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def batch(self) -> AbstractContextManager[None]:
        """Return a context that does nothing: each write is whole by itself."""
        return nullcontext()

    # Reads

    def pointer(self, source: str) -> Pointer | None:
        """Return what reads of a source see; None before the first upload or job."""
        fields = [each.decode() for each in pointer_fields(source)]
        with self.client.errors():
            found = cast("list[bytes | None]", self.client.reads.hmget(key("pointer"), fields))
        return self.pointer_of(tuple(found))

    def pointer_of(self, held: Held) -> Pointer | None:
        """Return a source's pointer; None where it has none."""
        generation, epoch, cut, end = held
        if generation is None and epoch is None:
            return None
        none = Pointer()
        try:
            return Pointer(
                none.generation if generation is None else int(generation),
                none.epoch if epoch is None else epoch.decode(),
                none.cut if cut is None else int(cut),
                none.batch_end if end is None else int(end),
            )
        except ValueError as error:
            what = f"pointer `{held}`"
            raise damaged(self.address, what) from error

    def content(self, side: Side, owner: str, view: str) -> ViewContent | None:
        """Return how the records of a generation or an epoch are laid out; None where it holds no such view."""
        with self.client.errors():
            found = cast("bytes | None", self.client.reads.hget(key("content"), f"{side}:{owner}:{view}"))
        try:
            return None if found is None else ViewContent.from_texts(*json.loads(found))
        except (ValueError, TypeError) as error:
            what = f"the layout of view `{view}`"
            raise damaged(self.address, what) from error

    def read(
        self, views: Mapping[str, tuple[str, str]], keys: Mapping[str, Sequence[bytes]]
    ) -> tuple[dict[str, Pointer], dict[str, Records]]:
        """Return pointers and records of one moment, by one round trip (`Store.read`).

        The records are asked for under the pointers of the read before. The pointers that come with them tell whether
        those still hold; if not (there was a flip), the records are asked for again.
        """
        sources = list(dict.fromkeys(source for _, source in views.values()))
        asked = [(read, *view, strings(keys[read]), len(keys[read])) for read, view in views.items() if keys[read]]
        fields = FIELDS * len(sources)
        first = hmget(POINTER, b"".join(map(pointer_words, sources)), fields)
        counts = [fields, *(count for *_, count in asked for _ in range(2))]
        known = self.known
        while True:
            commands = [first]
            for _, view, source, entities, count in asked:
                generation, epoch, *_ = known.get(source, NOTHING)
                commands.append(hmget(b"%b:%b:%b" % (CLOSED, generation or b"0", view.encode()), entities, count))
                commands.append(hmget(b"%b:%b:%b" % (OPEN, epoch or b"", view.encode()), entities, count))
            data, spans = self.client.transaction(commands, counts)
            now = held_pointers(sources, data, spans)
            if all(now[source][:2] == known.get(source, NOTHING)[:2] for source in sources):
                break
            self.known = known = known | now
        pointers = {source: self.pointer_of(held) for source, held in now.items()}
        for source, pointer in pointers.items():
            if pointer is None:
                raise never_filled(self.address, source)
        records: dict[str, Records] = {read: [] for read in views}
        at = fields
        for read, *_, count in asked:
            closed = self.checked(data, spans[at : at + count], CHECKSUM)
            opened = self.checked(data, spans[at + count : at + 2 * count], CHECKSUM + VERSION)
            records[read] = list(zip(closed, opened, strict=True))
            at += 2 * count
        return cast("dict[str, Pointer]", pointers), records

    def checked(self, data: bytes, spans: Sequence[tuple[int, int]], behind: int) -> list[bytes | None]:
        """Return records without the checksum and what else stands behind them."""
        found: list[bytes | None] = []
        for start, end in spans:
            if start < 0:
                found.append(None)
                continue
            seal = end - behind
            record = data[start:seal]
            if seal < start or zlib.crc32(record) != int.from_bytes(data[seal : seal + CHECKSUM], "little"):
                what = "a record"
                raise damaged(self.address, what)
            found.append(record)
        return found

    def flips(self, source: str) -> list[Flip]:
        """Return the recorded flips of a source, oldest first."""
        with self.client.errors():
            found = cast("list[bytes]", self.client.reads.lrange(key("flips", source), 0, -1))
        return [Flip(source, *json.loads(each)) for each in found]

    def written(self, epoch: str, view: str | None = None) -> Written:
        """Return what all writes of a job have come to, of one view or of all."""
        with self.client.errors(), self.client.reads.pipeline() as pipe:
            for each in Written._fields:
                pipe.hgetall(key(each, epoch))
            found = cast("list[dict[bytes, bytes]]", pipe.execute())
        own = None if view is None else view.encode()
        return Written(*(sum(int(n) for name, n in each.items() if own in (None, name)) for each in found))

    # Uploads

    def new_generation(self) -> int:
        """Return a number that no other upload has or gets."""
        with self.client.errors():
            return cast("int", self.client.writes.incr(key("generation")))

    def generations(self) -> list[int]:
        """Return the generations of which records are held, oldest first."""
        return sorted({int(owner) for side, owner, _ in self.contents() if side == "closed"})

    def contents(self) -> list[tuple[Side, str, str]]:
        """Return side, owner and view of all records that are held."""
        with self.client.errors():
            found = cast("list[bytes]", self.client.writes.hkeys(key("content")))
        names = [each.decode().partition(":") for each in found]
        # a view's name has no colon, an epoch's may have
        return [(cast("Side", side), *rest.rpartition(":")[::2]) for side, _, rest in names]

    def put_content(self, side: Side, owner: str, view: str, content: ViewContent) -> None:
        """Record how a view's records are laid out."""
        with self.client.errors(), self.client.writes.pipeline() as commands:
            commands.set(key("format"), FORMAT)
            commands.hset(key("content"), f"{side}:{owner}:{view}", json.dumps(content.texts()))
            commands.execute()

    def put_closed(self, generation: int, view: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write (entity, record) pairs under a generation that nobody reads yet."""
        rows = ((entity, sealed(record)) for entity, record in records)
        while batch := dict(islice(rows, AT_ONCE)):
            with self.client.errors():
                self.client.writes.hset(key("closed", generation, view), mapping=cast("Any", batch))

    def flip(self, generation: int, ends: Mapping[str, tuple[int, int]], instant: int) -> None:
        """Let reads see a generation, all its sources at once (`Store.flip`)."""
        words: list[Word] = [PREFIX, generation]
        for source, (cut, end) in ends.items():
            words += [source, cut, end, json.dumps([generation, cut, end, instant])]
        place, current = self.client.run_write(FLIP, words)
        if place >= 0:
            source, (_, end) = list(ends.items())[place]
            raise backwards(source, end, int(current))

    def drop_generation(self, generation: int) -> None:
        """Delete the closed records of a generation that nobody reads any more; Redis frees them beside its work."""
        if not self.client.run_write(DROP, [PREFIX, generation]):
            raise still_read(generation)

    # The stream

    def start_epoch(self, source: str, epoch: str) -> None:
        """Let reads of a source see the open records of a job."""
        with self.client.errors():
            self.client.writes.hset(key("pointer"), f"epoch:{source}", epoch)

    def open_records(self, epoch: str, view: str, keys: Sequence[bytes]) -> list[bytes]:
        """Return the open records of the keys; empty where there is none."""
        return [record for record, _ in self.versions(epoch, view, keys)]

    def versions(self, epoch: str, view: str, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Return the open records of the keys, and the version of each; both empty where there is none."""
        found: list[bytes | None] = []
        for at in range(0, len(keys), AT_ONCE):
            with self.client.errors():
                own = self.client.writes.hmget(key("open", epoch, view), list(keys[at : at + AT_ONCE]))
            found += cast("list[bytes | None]", own)
        return [self.version_of(each) for each in found]

    def version_of(self, held: bytes | None) -> tuple[bytes, bytes]:
        """Return a stored open record and its version."""
        if held is None:
            return b"", b""
        record = unsealed(held[:-VERSION])
        if record is None:
            what = "a record"
            raise damaged(self.address, what)
        return record, held[-VERSION:]

    def update_open(self, epoch: str, view: str, keys: Sequence[bytes], change: Change) -> Written:
        """Change open records by compare-and-set, and count (`Store.update_open`).

        A record is written if its version is still that which was read; else it is read and changed again. A write whose
        outcome is unknown is sent again under its own name, and counted once.
        """
        left: Sequence[int] = range(len(keys))
        written = Written(0, 0, 0)
        for attempt in range(ATTEMPTS):
            entities = [keys[each] for each in left]
            old = self.versions(epoch, view, entities)
            changed = change(left, [record for record, _ in old])
            rows = list(zip(entities, [version for _, version in old], *changed, strict=True))
            lost = self.swapped(epoch, view, rows)
            again = set(lost)
            done = [row[3:] for place, row in enumerate(rows) if place not in again]
            written = Written(*map(sum, zip(written, *done, strict=True)))
            left = [left[place] for place in lost]
            if not left:
                return written
            time.sleep(random.uniform(0, 0.001 * (attempt + 1)))  # noqa: S311 - only so that two do not meet again
        message = f"records of view `{view}` were changed by others {ATTEMPTS} times in a row; run fewer materialisers"
        raise StoreError(message)

    def swapped(self, epoch: str, view: str, rows: Sequence[tuple[bytes, bytes, bytes, int, int, int]]) -> list[int]:
        """Write the rows' records whose version is still the one that was read; return the places of the others."""
        lost: list[int] = []
        at = 0
        for size in script_sizes([len(record) for _, _, record, *_ in rows]):
            version = secrets.token_bytes(VERSION)
            words: list[Word] = [key("open", epoch, view), *(key(each, epoch) for each in Written._fields)]
            words += [key("write", version.hex()), self.client.remembered, view]
            for entity, read, record, *counted in rows[at : at + size]:
                words += [entity, read, sealed(record) + version, *counted]
            answer: bytes = self.client.run_write(SWAP, words)
            lost += [at + int(each) for each in answer.split(b",") if each]
            at += size
        return lost

    def put_job(self, epoch: str, job: Mapping[str, Any]) -> None:
        """Record a job, or what has become of it."""
        with self.client.errors(), self.client.writes.pipeline() as commands:
            commands.set(key("format"), FORMAT)
            commands.hset(key("jobs"), epoch, json.dumps(dict(job)))
            commands.execute()

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the recorded jobs by epoch."""
        with self.client.errors():
            found = cast("dict[bytes, bytes]", self.client.reads.hgetall(key("jobs")))
        try:
            return {epoch.decode(): json.loads(job) for epoch, job in sorted(found.items())}
        except ValueError as error:
            what = "the record of a job"
            raise damaged(self.address, what) from error

    def advance(self, topic: str, steps: Mapping[int, tuple[int, int]]) -> bool:
        """Record by partition the next offset of a job's topic to read (`Store.advance`)."""
        words: list[Word] = [key("offsets", topic)]
        for partition, (before, after) in steps.items():
            words += [partition, before, after]
        return bool(self.client.run_write(ADVANCE, words))

    def offsets(self, topic: str) -> dict[int, int]:
        """Return the recorded offsets of a topic by partition."""
        with self.client.errors():
            found = cast("dict[bytes, bytes]", self.client.writes.hgetall(key("offsets", topic)))
        return {int(partition): int(offset) for partition, offset in found.items()}

    def drop_epoch(self, epoch: str) -> None:
        """Delete the open records of a job that was replaced, its counts, its offsets and the record of the job."""
        topics = self.jobs().get(epoch, {}).get("topics", {}).values()
        keys = [*(key(each, epoch) for each in Written._fields), *(key("offsets", each) for each in topics)]
        if not self.client.run_write(DROP_EPOCH, [PREFIX, epoch, *keys]):
            raise epoch_read(epoch)

    # Erasure

    def entities(self, view: str) -> Iterator[bytes]:
        """Yield the entities of which a view has records, of any generation or epoch, each once."""
        seen: set[bytes] = set()
        for name in self.names(view):
            with self.client.errors():
                for entity, _ in self.client.writes.hscan_iter(name, count=AT_ONCE):
                    if entity not in seen:
                        seen.add(entity)
                        yield entity

    def names(self, view: str, of: Side | None = None) -> list[str]:
        """Return the keys of a view's records, of all generations and epochs."""
        return [key(side, owner, name) for side, owner, name in self.contents() if name == view and of in (None, side)]

    def held(self, view: str, keys: Sequence[bytes]) -> dict[Side, int]:
        """Return how many records of the entities a view has, of all generations and epochs."""
        found: dict[Side, int] = {"closed": 0, "open": 0}
        for side in found:
            names = self.names(view, side)
            with self.client.errors(), self.client.writes.pipeline(transaction=False) as commands:
                for name in names:
                    for each in keys:
                        commands.hexists(name, cast("str", each))
                found[side] = sum(commands.execute())
        return found

    def erase(self, keys: Mapping[str, Sequence[bytes]]) -> None:
        """Delete the records of entities by view, all in one transaction, and rewrite Redis' files.

        Redis' append-only file holds every write, so also the records and these deletes; its snapshot holds what there
        was when it was made. Both are written anew where Redis keeps them, which takes as much room again while it lasts.
        Copies elsewhere are not reached: replicas' own files, backups of the files, and the slow log's newest commands.

        Raises
        ------
        StoreError
            If the files could not be written anew: then the records are deleted, and a rerun completes it.
        """
        names = {view: self.names(view) for view in keys}
        with self.client.errors(), self.client.writes.pipeline(transaction=True) as commands:
            for view, own in keys.items():
                for name in names[view] if own else ():
                    commands.hdel(name, *cast("Sequence[str]", own))
            commands.execute()
        rewrite_files(self.client)


def script_sizes(lengths: Sequence[int]) -> Iterator[int]:
    """Yield how many records each script takes, so that none holds up others for long."""
    count = held = 0
    for length in lengths:
        if count == AT_ONCE or (count and held + length > BYTES):
            yield count
            count = held = 0
        count, held = count + 1, held + length
    if count:
        yield count


def pointer_fields(source: str) -> list[bytes]:
    """Return the fields of a source's pointer."""
    return [f"{name}:{source}".encode() for name in ("generation", "epoch", "cut", "end")]


@lru_cache
def pointer_words(source: str) -> bytes:
    """Return the fields of a source's pointer as Redis reads them."""
    return strings(pointer_fields(source))


def held_pointers(sources: Sequence[str], data: bytes, spans: Sequence[tuple[int, int]]) -> dict[str, Held]:
    """Return the pointers that stand first in a reply."""
    cells = [None if start < 0 else data[start:end] for start, end in spans[: FIELDS * len(sources)]]
    return {source: tuple(cells[FIELDS * n : FIELDS * (n + 1)]) for n, source in enumerate(sources)}
