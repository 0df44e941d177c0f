"""The Beam pipeline: judge, partition by entity, compute in buckets, rejoin by spine row.

Elements are whole Arrow tables, as IPC bytes between workers. Nothing here assumes one machine:
every transform is a module-level function of picklable arguments.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unskew.backfill.blocks import training_block
from unskew.backfill.bucket import bucket_features
from unskew.backfill.bucket_rows import bucket_events, sorted_events, without
from unskew.backfill.events import Piece, judge, read_arrow, read_batch
from unskew.backfill.order import entity_codes, numbers, repeated, sorted_rows
from unskew.backfill.window_states import Spine
from unskew.pipelines.backends.beam_shuffle import Part, hand_over, read, take_over, write_file
from unskew.pipelines.backends.beam_sql import Group, Job, identity_sql, projection_sql, taken_sql
from unskew.pipelines.backends.sql import DUCKDB
from unskew.pipelines.plan import SetPlan, SourcePlan

ROWS_PER_BLOCK = 1 << 18
PartOfView = tuple[str, Part]


def split(connection: duckdb.DuckDBPyConnection, query: str, job: Job) -> Iterator[tuple[int, Part]]:
    """Run a query whose column ``__part`` names the bucket, and yield each bucket's rows."""
    table = connection.sql(query).to_arrow_table().combine_chunks()
    parts = table["__part"].to_numpy().astype(np.uint16)
    order = np.argsort(parts, kind="stable")
    rows = table.drop_columns(["__part"]).take(pa.array(order))
    bounds = np.searchsorted(parts[order], np.arange(job.partitions + 1))
    for part in range(job.partitions):
        length = int(bounds[part + 1] - bounds[part])
        if length:
            yield part, hand_over(rows.slice(int(bounds[part]), length), job.shuffle)


class OfJob(beam.DoFn):  # type: ignore[misc]
    """A step that knows the job: Beam pickles each step several times, and a plan has many parts."""

    def __init__(self, job: Job) -> None:
        """Keep the job, pickled."""
        self.pickled = pickle.dumps(job)

    def setup(self) -> None:
        """Read the job, once a worker."""
        self.job: Job = pickle.loads(self.pickled)  # noqa: S301 - our own


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
                for part, rows in split(connection, identity_sql(self.job.plan, source, self.job.partitions), self.job):
                    yield beam.pvalue.TaggedOutput("identity", ((source.name, part), rows))
            for group in groups:
                for part, rows in split(connection, projection_sql(self.job, group), self.job):
                    yield (group.name, part), rows


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


def losers(element: tuple[tuple[str, int], Iterable[Part]]) -> Iterator[tuple[str, bytes, dict[str, int]]]:
    """Return the positions of all copies but the first, and how the account changes."""
    (source, _), parts = element
    identities = take_over(parts)
    if identities is None:
        return
    columns = [each for each in identities.column_names if each.startswith("__id")]
    if not repeated([identities[each] for each in columns]):
        return
    names = ", ".join(columns)
    with duckdb.connect() as connection:
        connection.register("identities", identities)
        found = connection.sql(
            f"SELECT __position, __late, __taken FROM identities WHERE hash({names}) IN "
            f"(SELECT hash({names}) FROM identities GROUP BY 1 HAVING count(*) > 1) "
            f"QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY __arrival, __position) > 1"
        ).to_arrow_table()
    late, taken = found["__late"].to_numpy(), found["__taken"].to_numpy()
    change = {"applied": -int((~late & taken).sum()), "filtered": -int((~late & ~taken).sum())}
    change["duplicate"] = -sum(change.values())
    yield source, found["__position"].to_numpy().astype(np.int64).tobytes(), change


class PartitionSpine(OfJob):
    """Slice of the spine's keys -> rows by (group, bucket)."""

    def process(self, path: str) -> Iterator[tuple[tuple[str, int], Part]]:
        """Hand out each group's keys, t, what is known and row number."""
        with duckdb.connect() as connection:
            connection.execute("SET threads = 1")
            connection.register("spine", read_arrow(path))
            for group in self.job.groups:
                keys = group.asked_columns()
                columns = ", ".join(f"{key} AS __k{index}" for index, key in enumerate(keys))
                part = f"coalesce(hash({', '.join(keys)}) % {self.job.partitions}, 0)"
                query = f"SELECT {columns}, __t, __asof, __row, {part} AS __part FROM spine"
                for bucket, found in split(connection, query, self.job):
                    yield (group.name, bucket), found


class ComputeBucket(OfJob):
    """Events and spine rows of one (group, bucket) -> each view's features, for every block that has rows of it."""

    def process(
        self, element: tuple[tuple[str, int], dict[str, Iterable[Part]]], found: Sequence[tuple[str, bytes, Any]]
    ) -> Iterator[tuple[int, PartOfView]]:
        """Compute one bucket."""
        (name, _), inputs = element
        spine = take_over(inputs["spine"])
        if spine is None:
            return
        group = self.job.group(name)
        dropped = [np.frombuffer(each, np.int64) for owner, each, _ in found if owner == group.source.name]
        rows, computed = compute_bucket(group, take_over(inputs["events"]), spine, dropped)
        blocks = np.unique(rows // ROWS_PER_BLOCK)
        for view, features in zip(group.views, computed, strict=True):
            table = pa.table([pa.array(rows), *features], ["__row", *(each.name for each in view.features)])
            part = hand_over(table, self.job.shuffle)
            for block in blocks:
                yield int(block), (view.name, part)


def compute_bucket(
    group: Group,
    events: pa.Table | None,
    spine: pa.Table,
    dropped: list[np.ndarray],  # type: ignore[type-arg]
) -> tuple[Any, list[list[pa.Array]]]:
    """Sort a bucket, give entities their codes, and run the kernels: row numbers, and each view's features."""
    keys = [f"__k{index}" for index in range(len(group.keys))]
    asked = [spine[key] for key in keys]
    entity, owner = entity_codes(
        asked, [each.slice(0, 0) for each in asked] if events is None else [events[key] for key in keys]
    )
    in_order = None
    if events is not None:
        mine = without(events.drop_columns(keys).append_column("__entity", pa.array(owner)), dropped)
        in_order = sorted_events(group.source, mine.filter(pc.greater_equal(mine["__entity"], 0)))
    t, asof, row = (numbers(spine[each]) for each in ("__t", "__asof", "__row"))
    order = sorted_rows(entity, [t, asof, row])
    at = Spine(entity[order], t[order], asof[order])
    return row[order], [
        bucket_features(view, bucket_events(view, group.source, in_order, group.fields(view)), at)
        for view in group.views
    ]


class WriteBlock(OfJob):
    """Features of all views for one block of spine rows -> one part of the training set."""

    def process(self, element: tuple[int, Iterable[PartOfView]]) -> Iterator[str]:
        """Write one block."""
        block, found = element
        parts: dict[str, list[pa.Table]] = {}
        for name, part in found:
            parts.setdefault(name, []).append(read(part))
        yield write_block(self.job, block, parts)


def write_block(job: Job, block: int, parts: Mapping[str, Sequence[pa.Table]]) -> str:
    """Write one part of the training set from computed features and those that are taken over."""
    spine = read_batch(job.spine, block)
    kept = None
    if job.kept:
        old = pq.read_table(f"{job.reuse}/part-{block:06d}.parquet", columns=list(set(job.kept.values())))
        kept = pa.table({name: old[column] for name, column in job.kept.items()})
    table = training_block(job.plan, spine, block * ROWS_PER_BLOCK, parts, kept)
    return write_part(table, job.output, block, job.format)


def write_part(table: pa.Table, folder: str, number: int, form: str) -> str:
    """Write a part of the training set, and return its path."""
    path = f"{folder}/part-{number:06d}.{form}"
    if form == "arrow":
        write_file(table, path)
        return path
    with beam.io.filesystems.FileSystems.create(path, compression_type="uncompressed") as sink:
        pq.write_table(table, sink, compression="zstd", use_dictionary=texts(table))
    return path


def texts(table: pa.Table) -> list[str]:
    """Return the columns that a dictionary suits: numbers are smaller and faster written as they are."""
    return [each.name for each in table.schema if pa.types.is_string(each.type)]


def merged(accounts: Iterable[tuple[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """Add up accounts by source."""
    total: dict[str, dict[str, int]] = {}
    for source, counts in accounts:
        into = total.setdefault(source, {})
        for fate, count in counts.items():
            into[fate] = into.get(fate, 0) + count
    return total


def expand(pipeline: Any, job: Job, pieces: Sequence[Piece], spine: Sequence[str]) -> None:
    """Build the pipeline from pieces of events and Arrow files of the spine.

    Parts of the training set and ``account.json`` go to `job.output`.
    """
    judged, dropped = judged_pieces(pipeline, job, pieces)
    asked = pipeline | "spine" >> beam.Create(list(spine)) | "partition spine" >> beam.ParDo(PartitionSpine(job))
    blocks = (
        {"events": judged.rows, "spine": asked}
        | "by entity" >> beam.CoGroupByKey()
        | "compute" >> beam.ParDo(ComputeBucket(job), beam.pvalue.AsList(dropped))
        | "by row" >> beam.GroupByKey()
        | "write" >> beam.ParDo(WriteBlock(job))
    )
    accounted(judged, dropped, job)
    del blocks


def judged_pieces(pipeline: Any, job: Job, pieces: Sequence[Piece]) -> tuple[Any, Any]:
    """Return the judged rows with their account, and the copies to drop."""
    judged = (
        pipeline | "pieces" >> beam.Create(list(pieces))
        | "spread pieces" >> beam.Reshuffle()
        | "judge" >> beam.ParDo(JudgeEvents(job)).with_outputs("identity", "account", main="rows")
    )  # fmt: skip
    return judged, judged.identity | "identities" >> beam.GroupByKey() | "losers" >> beam.FlatMap(losers)


def accounted(judged: Any, dropped: Any, job: Job) -> None:
    """Write the account of all rows that were read."""
    changes = dropped | "changes" >> beam.Map(lambda each: (each[0], each[2]))
    account = (judged.account, changes) | beam.Flatten() | beam.combiners.ToList() | "account" >> beam.Map(merged)
    account | "write account" >> beam.Map(write_account, job.output)


def write_account(account: dict[str, dict[str, int]], output: str) -> None:
    """Write the account as JSON."""
    with beam.io.filesystems.FileSystems.create(f"{output}/account.json") as sink:
        sink.write(json.dumps(account, sort_keys=True).encode())
