"""The online store's interface: closed records under a generation, open ones under a job epoch.

One pointer per source names both. A read takes pointers and records of one moment, so it sees an upload whole or not at
all. `online/stores.py` opens a store; `online/store_sqlite.py` and `online/store_redis.py` are the two there are.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self

from unskew.pipelines.errors import StoreError
from unskew.pipelines.plan import FeaturePlan
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

    def texts(self) -> tuple[str, str]:
        """Return layout and fingerprints as JSON."""
        return json.dumps(self.layout.to_json()), json.dumps(dict(self.features))

    @classmethod
    def from_texts(cls, layout: str | bytes, features: str | bytes) -> ViewContent:
        """Read `texts` back.

        Raises
        ------
        ValueError
            If they are something else.
        """
        try:
            return cls(Layout.from_json(json.loads(layout)), dict(json.loads(features)))
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(str(error)) from error


def other_features(features: Sequence[FeaturePlan], stored: Mapping[str, str]) -> list[FeaturePlan]:
    """Return the features that a store lacks, or holds under their names with another meaning."""
    return [each for each in features if stored.get(each.name) != each.fingerprint]


Records = list[tuple[bytes | None, bytes | None]]


class Changed(NamedTuple):
    """Open records after a change, each with what is counted once it is written.

    Parameters
    ----------
    records
        The new records.
    rejected
        Rows that the guard refused, for each record.
    applied
        By how much the newest row counts of the record's tiles grew.
    overtaken
        Rows of tiles that an upload had closed before.
    """

    records: Sequence[bytes]
    rejected: Sequence[int]
    applied: Sequence[int]
    overtaken: Sequence[int]


Change = Callable[[Sequence[int], Sequence[bytes]], Changed]


class Written(NamedTuple):
    """What changes of open records came to: the sums of what `Changed` counts."""

    rejected: int
    applied: int
    overtaken: int


class Store(Protocol):
    """What readers, uploads, materialisers and erasure ask of a store; every error is a `StoreError`."""

    @property
    def address(self) -> str:
        """Where it is, without a secret."""

    def __enter__(self) -> Self:
        """Return the store itself."""

    def __exit__(self, *_: object) -> None:
        """Close it."""

    def close(self) -> None:
        """Let go of files and connections."""

    def pointer(self, source: str) -> Pointer | None:
        """Return what reads of a source see; None before the first upload or job."""

    def content(self, side: Side, owner: str, view: str) -> ViewContent | None:
        """Return how the records of a generation or an epoch are laid out; None where it holds no such view."""

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

    def flips(self, source: str) -> list[Flip]:
        """Return the recorded flips of a source, oldest first."""

    def written(self, epoch: str, view: str | None = None) -> Written:
        """Return what all writes of a job have come to, of one view or of all."""

    def new_generation(self) -> int:
        """Return a number that no other upload has or gets."""

    def generations(self) -> list[int]:
        """Return the generations of which records are held, oldest first."""

    def put_content(self, side: Side, owner: str, view: str, content: ViewContent) -> None:
        """Record how a view's records are laid out; call it before they are written."""

    def put_closed(self, generation: int, view: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Write (entity, record) pairs under a generation that nobody reads yet."""

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

    def drop_generation(self, generation: int) -> None:
        """Delete the closed records of a generation.

        Raises
        ------
        StoreError
            If reads of a source see it.
        """

    def start_epoch(self, source: str, epoch: str) -> None:
        """Let reads of a source see the open records of a job."""

    def batch(self) -> AbstractContextManager[None]:
        """Return a context whose writes are one transaction, in a store that has such."""

    def update_open(self, epoch: str, view: str, keys: Sequence[bytes], change: Change) -> Written:
        """Change open records of a job's view so that no other writer's change is lost, and count.

        Parameters
        ----------
        keys
            The entities, each once.
        change
            Given places in `keys` and the records of those as they are (empty where there is none), returns what they
            become. It is called again for the records that another writer changed in between.

        Returns
        -------
        Written
            What was counted.

        Raises
        ------
        StoreError
            If other writers changed a record again and again.
        """

    def open_records(self, epoch: str, view: str, keys: Sequence[bytes]) -> list[bytes]:
        """Return the open records of the keys; empty where there is none."""

    def put_job(self, epoch: str, job: Mapping[str, Any]) -> None:
        """Record a job, or what has become of it; `docs/live.md` says what is in it."""

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the recorded jobs by epoch."""

    def advance(self, topic: str, steps: Mapping[int, tuple[int, int]]) -> bool:
        """Record by partition the next offset of a job's topic to read; call it after the rows before it are written.

        They stand in the store and not in Kafka, so that a store that comes back as it was earlier says so itself.

        Parameters
        ----------
        steps
            For each partition the offset from which on rows were written, and the next one.

        Returns
        -------
        bool
            Whether each partition stood where its step begins (or ends: the step was made already); else nothing is recorded,
            and the rows must be read again from `offsets` on.
        """

    def offsets(self, topic: str) -> dict[int, int]:
        """Return the recorded offsets of a topic by partition."""

    def drop_epoch(self, epoch: str) -> None:
        """Delete the open records of a job that was replaced, its counts, its offsets and the record of the job.

        Raises
        ------
        StoreError
            If reads see it.
        """

    def entities(self, view: str) -> Iterator[bytes]:
        """Yield the entities of which a view has records, of any generation or epoch, each once."""

    def held(self, view: str, keys: Sequence[bytes]) -> dict[Side, int]:
        """Return how many records of the entities a view has, of all generations and epochs."""

    def erase(self, keys: Mapping[str, Sequence[bytes]]) -> None:
        """Delete the records of entities by view, all at once, and leave no copy of them in the store's own files.

        Raises
        ------
        StoreError
            If a copy is left; running it again, with or without keys, completes it.
        """


def sealed(record: bytes) -> bytes:
    """Return a record with its checksum (CRC-32) behind it: kernels trust the counts inside."""
    return record + zlib.crc32(record).to_bytes(CHECKSUM, "little")


def unsealed(held: bytes) -> bytes | None:
    """Return a record without its checksum; None if it is damaged."""
    body = held[:-CHECKSUM]
    return body if len(held) >= CHECKSUM and zlib.crc32(body) == int.from_bytes(held[-CHECKSUM:], "little") else None


def damaged(address: str, what: str) -> StoreError:
    """Return the error of what was written otherwise than it is read."""
    return StoreError(f"store `{address}` is damaged: {what} cannot be read; build it anew by `unskew upload`")


def never_filled(address: str, source: str) -> StoreError:
    """Return the error of a source of which nothing was written."""
    return StoreError(f"store `{address}` holds nothing of source `{source}`; run `unskew upload` or `unskew stream`")


def backwards(source: str, end: int, current: int) -> StoreError:
    """Return the error of a flip to an earlier batch_end."""
    return StoreError(
        f"batch_end `{end}` of source `{source}` is before the store's `{current}`; upload a newer archive"
    )


def epoch_read(epoch: str) -> StoreError:
    """Return the error of an epoch that cannot be dropped."""
    return StoreError(f"epoch `{epoch}` is being read; let reads see another job first")


def still_read(generation: int) -> StoreError:
    """Return the error of dropping what reads see."""
    return StoreError(f"generation `{generation}` is being read; flip to another first")
