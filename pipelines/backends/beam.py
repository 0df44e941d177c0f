"""The Beam pipeline: judge, partition by entity, compute in buckets, rejoin by spine row.

Elements are whole Arrow tables, by name between workers. Nothing here assumes one machine:
every transform is a module-level function of picklable arguments.
"""

from __future__ import annotations

import json
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
from unskew.backfill.events import Piece, read_arrow, read_batch
from unskew.backfill.order import entity_codes, numbers, sorted_rows
from unskew.backfill.place import parquet_file
from unskew.backfill.window_states import Spine
from unskew.pipelines.backends.beam_judge import OfJob, by_bucket, by_kind, counted, judged_pieces, parted
from unskew.pipelines.backends.beam_shuffle import Part, as_stream, hand_over, read
from unskew.pipelines.backends.beam_sql import ROWS_PER_BLOCK, Group, Job, bucket_sql

ROWS_AT_ONCE = 1 << 20  # of the spine, whose features are in memory together
PartOfGroup = tuple[str, Part]


class PartitionSpine(OfJob):
    """Slice of the spine's keys -> rows by (group, bucket)."""

    def process(self, path: str) -> Iterator[Any]:
        """Hand out each group's keys, t, what is known and row number."""
        with duckdb.connect() as connection:
            connection.execute("SET threads = 1")
            connection.register("spine", read_arrow(path))
            for group in self.job.groups:
                keys = group.asked_columns()
                columns = ", ".join(f"{key} AS __k{index}" for index, key in enumerate(keys))
                part = f"coalesce({bucket_sql(keys, self.job)}, 0)"
                query = f"SELECT {columns}, __t, __asof, __row, {part} AS __part FROM spine"
                yield from parted(connection, query, self.job, "spine rows", group.name)


class ComputeBucket(OfJob):
    """Events and spine rows of one (group, bucket) -> the group's features, for every block that has rows of it."""

    def process(self, element: tuple[tuple[str, int], Iterable[tuple[str, Part]]]) -> Iterator[Any]:
        """Compute one bucket."""
        (name, _), inputs = element
        found = {}
        for what, parts in by_kind(inputs, "events", "copies", "spine rows").items():
            found[what], arrived = counted(f"{what} of {name}", parts)
            yield arrived
        spine = found["spine rows"]
        if spine is None:
            return
        group = self.job.group(name)
        computed = (
            (each["__row"].to_numpy(), each) for each in compute_bucket(group, found["events"], spine, found["copies"])
        )
        for rows, part, _ in hand_over(computed, self.job.shuffle):
            for block in np.unique(rows // ROWS_PER_BLOCK):
                yield int(block), (name, part)


def compute_bucket(
    group: Group, events: pa.Table | None, spine: pa.Table, copies: pa.Table | None
) -> Iterator[pa.Table]:
    """Sort a bucket, give entities their codes, and run the kernels.

    Yields
    ------
    pyarrow.Table
        ``__row``, ascending, and the features of all views, for at most `ROWS_AT_ONCE` rows: a hot key's are many.
    """
    keys = [f"__k{index}" for index in range(len(group.keys))]
    asked = [spine[key] for key in keys]
    entity, owner = entity_codes(
        asked, [each.slice(0, 0) for each in asked] if events is None else [events[key] for key in keys]
    )
    in_order = None
    if events is not None:
        mine = without(events.drop_columns(keys).append_column("__entity", pa.array(owner)), copies)
        in_order = sorted_events(group.source, mine.filter(pc.greater_equal(mine["__entity"], 0)))
    t, asof, row = (numbers(spine[each]) for each in ("__t", "__asof", "__row"))
    order = sorted_rows(entity, [t, asof, row])
    for start in range(0, len(order), ROWS_AT_ONCE):
        some = order[start : start + ROWS_AT_ONCE]
        at = Spine(entity[some], t[some], asof[some])
        near = None if in_order is None else reached(group, in_order, at)
        found = {"__row": pa.array(row[some])}
        for view in group.views:
            features = bucket_features(view, bucket_events(view, group.source, near, group.fields(view)), at)
            found |= dict(zip([each.name for each in view.features], features, strict=True))
        # a block reads its rows of the bucket in one run
        yield pa.table(found).take(pa.array(np.argsort(row[some], kind="stable")))


def reached(group: Group, events: pa.Table, spine: Spine) -> pa.Table:
    """Return the events, sorted, that windows of some sorted rows of the spine can reach."""
    entity, ts = numbers(events["__entity"]), numbers(events["__ts"])
    lo, hi = np.searchsorted(entity, spine.entity[0]), np.searchsorted(entity, spine.entity[-1], side="right")
    if spine.entity[0] == spine.entity[-1]:
        windows = {each.window for view in group.views for each in view.features}
        lo += np.searchsorted(ts[lo:hi], min(each.tail(int(spine.t[0])) for each in windows))
        hi = lo + np.searchsorted(ts[lo:hi], spine.t[-1])
    return events.slice(lo, hi - lo)


class WriteBlock(OfJob):
    """Features of all views for one block of spine rows -> one part of the training set."""

    def process(self, element: tuple[int, Iterable[PartOfGroup]]) -> Iterator[str]:
        """Write one block."""
        block, found = element
        parts: dict[str, list[pa.Table]] = {}
        for name, part in found:
            table = read(part)
            for view in self.job.group(name).views:
                parts.setdefault(view.name, []).append(table)
        yield write_block(self.job, block, parts)


def write_block(job: Job, block: int, parts: Mapping[str, Sequence[pa.Table]]) -> str:
    """Write one part of the training set from computed features and those that are taken over."""
    spine = read_batch(job.spine, block)
    kept = None
    if job.kept:
        old = parquet_file(job.reuse[block]).read(columns=list(set(job.kept.values())))
        kept = pa.table({name: old[column] for name, column in job.kept.items()})
    table = training_block(job.plan, spine, block * ROWS_PER_BLOCK, parts, kept)
    return write_part(table, job.output, block, job.format)


def write_part(table: pa.Table, folder: str, number: int, form: str) -> str:
    """Write a part of the training set, and return its path."""
    path = f"{folder}/part-{number:06d}.{form}"
    with beam.io.filesystems.FileSystems.create(path, compression_type="uncompressed") as sink:
        if form == "arrow":
            sink.write(as_stream(table))
        else:
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
    judged, copies = judged_pieces(pipeline, job, pieces)
    asked = (
        pipeline | "spine" >> beam.Create(list(spine))
        | "partition spine" >> beam.ParDo(PartitionSpine(job)).with_outputs("account", main="rows")
    )  # fmt: skip
    computed = by_bucket(
        {"events": judged.rows, "copies": copies.rows, "spine rows": asked.rows}
    ) | "compute" >> beam.ParDo(ComputeBucket(job)).with_outputs("account", main="parts")
    computed.parts | "by row" >> beam.GroupByKey() | "write" >> beam.ParDo(WriteBlock(job))
    accounted([judged, copies, asked, computed], job)


def accounted(steps: Sequence[Any], job: Job) -> None:
    """Write the account of all rows that were read and shuffled."""
    account = (
        [each.account for each in steps] | beam.Flatten() | beam.combiners.ToList() | "account" >> beam.Map(merged)
    )
    account | "write account" >> beam.Map(write_account, job.output)


def write_account(account: dict[str, dict[str, int]], output: str) -> None:
    """Write the account as JSON."""
    with beam.io.filesystems.FileSystems.create(f"{output}/account.json") as sink:
        sink.write(json.dumps(account, sort_keys=True).encode())
