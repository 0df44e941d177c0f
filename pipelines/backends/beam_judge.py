"""The first half of the Beam pipelines: judge events, part them by entity, find copies; every row handed over is counted."""

from __future__ import annotations

import lzma
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import apache_beam as beam
import duckdb
import numpy as np
import pyarrow as pa

from unskew.backfill.events import Piece, judge
from unskew.backfill.order import repeated
from unskew.pipelines.backends.beam_shuffle import Part, hand_over, take_over
from unskew.pipelines.backends.beam_sql import NEVER, Job, identity_sql, projection_sql, taken_sql
from unskew.pipelines.backends.sql import DUCKDB
from unskew.pipelines.plan import SetPlan, SourcePlan

Keyed = tuple[tuple[str, int], Any]
SHUFFLED = ""  # beside the sources in an account: rows handed over less rows taken over


class OfJob(beam.DoFn):  # type: ignore[misc]
    """A step that knows the job: Beam pickles each step several times, and a plan has many parts."""

    def __init__(self, job: Job) -> None:
        """Keep the job, packed: Beam compresses each step anew, slowly, wherever it hands one over."""
        self.packed = lzma.compress(pickle.dumps(job), preset=1)

    def setup(self) -> None:
        """Read the job, once a process."""
        self.job = unpacked(self.packed)


@lru_cache(maxsize=4)
def unpacked(packed: bytes) -> Job:
    """Return a packed job."""
    job: Job = pickle.loads(lzma.decompress(packed))  # noqa: S301 - our own
    return job


def parted(
    connection: duckdb.DuckDBPyConnection, query: str, job: Job, what: str, name: str, tag: str | None = None
) -> Iterator[Any]:
    """Run a query whose column ``__part`` names the bucket, and yield each bucket's rows, handed over, then their number.

    Parameters
    ----------
    what, name
        What the rows are, as `counted` has it, and of which group or source.
    tag
        Output of the step that takes them; by default its main one.
    """
    total = 0
    for bucket, part, rows in hand_over(split(connection.sql(query).to_arrow_table(), job.partitions), job.shuffle):
        element = ((name, bucket), part)
        yield element if tag is None else beam.pvalue.TaggedOutput(tag, element)
        total += rows
    yield tally(f"{what} of {name}", total)


def split(table: pa.Table, partitions: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows of each bucket that ``__part`` names."""
    table = table.combine_chunks()
    parts = table["__part"].to_numpy().astype(np.uint16)
    order = np.argsort(parts, kind="stable")
    rows = table.drop_columns(["__part"]).take(pa.array(order))
    bounds = np.searchsorted(parts[order], np.arange(partitions + 1))
    for part in range(partitions):
        length = int(bounds[part + 1] - bounds[part])
        if length:
            yield part, rows.slice(int(bounds[part]), length)


def tally(what: str, rows: int) -> Any:
    """Return an entry of the account: rows handed over, or with a minus taken over."""
    return beam.pvalue.TaggedOutput("account", (SHUFFLED, {what: rows}))


def counted(what: str, parts: Iterable[Part]) -> tuple[pa.Table | None, Any]:
    """Return what arrived as one table, and its entry in the account."""
    table = take_over(parts)
    return table, tally(what, 0 if table is None else -table.num_rows)


def by_bucket(inputs: Mapping[str, Any]) -> Any:
    """Group rows of several kinds by (group, bucket); each part stands beside its kind.

    This is a CoGroupByKey of declared types: Prism 2.61 refuses to flatten what is encoded in another way than the result.
    """
    named = [
        each | f"as {what}" >> beam.Map(named_part, what).with_output_types(Keyed) for what, each in inputs.items()
    ]
    return named | "together" >> beam.Flatten() | "by entity" >> beam.GroupByKey()


def named_part(element: tuple[tuple[str, int], Part], what: str) -> tuple[tuple[str, int], tuple[str, Part]]:
    """Say of what kind a part is."""
    key, part = element
    return key, (what, part)


def by_kind(parts: Iterable[tuple[str, Part]], *kinds: str) -> dict[str, list[Part]]:
    """Return the parts of each kind."""
    found: dict[str, list[Part]] = {each: [] for each in kinds}
    for what, part in parts:
        found[what].append(part)
    return found


class JudgeEvents(OfJob):
    """Piece -> projected rows by (group, bucket); identities by bucket; an account of the piece."""

    def process(self, piece: Piece) -> Iterator[Any]:
        """Judge one piece and hand out its rows."""
        source = self.job.plan.source(piece.source)
        groups = [each for each in self.job.groups if each.source == source]
        sequence = [self.job.sequence] if self.job.sequence else []
        table = piece.read([*(each.name for each in source.columns), *sequence])
        with judge(source, table, piece.first, self.job.sequence) as connection:
            later = drop_later(connection, source, *self.job.ends[source.name]) if self.job.ends else {}
            yield beam.pvalue.TaggedOutput(
                "account", (source.name, account_of(connection, self.job.plan, source) | later)
            )
            if source.deduplicate:
                query = identity_sql(self.job, source)
                yield from parted(connection, query, self.job, "identities", source.name, "identity")
            for group in groups:
                yield from parted(connection, projection_sql(self.job, group), self.job, "events", group.name)


def drop_later(connection: duckdb.DuckDBPyConnection, source: SourcePlan, cut: int, batch_end: int) -> dict[str, int]:
    """Drop the rows that an upload leaves to the stream or to the next upload, and count them."""
    later = f"__reason IS NULL AND (__arrival >= {cut} OR {DUCKDB.identifier(source.event_time)} >= {batch_end})"
    ((dropped,),) = connection.execute(f"DELETE FROM judged WHERE {later}").fetchall()
    return {"later": int(dropped)} if dropped else {}


def account_of(connection: duckdb.DuckDBPyConnection, plan: SetPlan, source: SourcePlan) -> dict[str, int]:
    """Count a piece's rows by fate; duplicates still stand under applied and filtered."""
    fate = f"CASE WHEN __late THEN 'late' WHEN {taken_sql(plan, source)} THEN 'applied' ELSE 'filtered' END"
    query = f"SELECT coalesce('quarantined_' || __reason, {fate}), count(*) FROM judged GROUP BY 1"
    return dict(connection.sql(query).fetchall())


class FindCopies(OfJob):
    """Identities of one bucket -> for each (group, bucket) its copies, and from when until when each counts."""

    def process(self, element: tuple[tuple[str, int], Iterable[Part]]) -> Iterator[Any]:
        """Tell the copies of one bucket of identities, and how the account changes."""
        (source, _), parts = element
        identities, arrived = counted(f"identities of {source}", parts)
        yield arrived
        if identities is None:
            return
        found = versions(identities) if self.job.plan.source(source).amended else losers(identities)
        if found is None:
            return
        again = found["__copy"].to_numpy() > 1
        late, taken = found["__late"].to_numpy()[again], found["__taken"].to_numpy()[again]
        change = {"applied": -int((~late & taken).sum()), "filtered": -int((~late & ~taken).sum())}
        yield beam.pvalue.TaggedOutput("account", (source, change | {"duplicate": -sum(change.values())}))
        groups = [each for each in self.job.groups if each.source.name == source]
        with duckdb.connect() as connection:
            connection.register("copies", found)
            for index, group in enumerate(groups):
                query = (
                    f"SELECT __position, __from, __until, __g{index} AS __part FROM copies WHERE __g{index} IS NOT NULL"
                )
                yield from parted(connection, query, self.job, "copies", group.name)


def losers(identities: pa.Table) -> pa.Table | None:
    """Return the rows of all copies but the first by (arrival, position), which never count; None where none repeats."""
    return copies(identities, "0::BIGINT AS __from, 0::BIGINT AS __until", "__copy > 1")


def versions(identities: pa.Table) -> pa.Table | None:
    """Return all copies of identities that repeat: each counts until an upload holds the next one.

    The first is known as events are; the stream leaves the others to the next upload.
    """
    known = "CASE WHEN __copy = 1 THEN __known ELSE __uploaded END AS __from"
    return copies(identities, f"{known}, coalesce(lead(__uploaded) OVER w, {NEVER}) AS __until", "TRUE")


def copies(identities: pa.Table, columns: str, kept: str) -> pa.Table | None:
    """Return rows of identities that repeat with their number ``__copy`` by (arrival, position), and further columns."""
    ids = [each for each in identities.column_names if each.startswith("__id")]
    if not repeated([identities[each] for each in ids]):
        return None
    names = ", ".join(ids)
    with duckdb.connect() as connection:
        connection.register("identities", identities)
        return connection.sql(
            f"SELECT *, row_number() OVER w AS __copy, {columns} FROM identities WHERE hash({names}) IN "
            f"(SELECT hash({names}) FROM identities GROUP BY 1 HAVING count(*) > 1) "
            f"WINDOW w AS (PARTITION BY {names} ORDER BY __arrival, __position) QUALIFY {kept}"
        ).to_arrow_table()


def judged_pieces(pipeline: Any, job: Job, pieces: Sequence[Piece]) -> tuple[Any, Any]:
    """Return the judged rows and the copies to drop, each with its account."""
    judged = (
        pipeline | "pieces" >> beam.Create(list(pieces))
        | "spread pieces" >> beam.Reshuffle()
        | "judge" >> beam.ParDo(JudgeEvents(job)).with_outputs("identity", "account", main="rows")
    )  # fmt: skip
    return judged, (
        judged.identity
        | "identities" >> beam.GroupByKey()
        | "copies" >> beam.ParDo(FindCopies(job)).with_outputs("account", main="rows")
    )
