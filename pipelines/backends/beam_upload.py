"""The Beam pipeline of an upload: judge, partition by entity, pack closed tiles, one file for each bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.bucket_rows import bucket_events, sorted_events, without
from unskew.backfill.events import Piece
from unskew.backfill.order import entity_codes
from unskew.backfill.tiles import closed_records
from unskew.pipelines.backends.beam import accounted
from unskew.pipelines.backends.beam_judge import OfJob, by_bucket, by_kind, counted, judged_pieces, tally
from unskew.pipelines.backends.beam_shuffle import Part
from unskew.pipelines.backends.beam_sql import Group, Job
from unskew.pipelines.plan import ViewPlan


class CloseBucket(OfJob):
    """Events of one (group, bucket) -> records in a file of each view's folder."""

    def process(self, element: tuple[tuple[str, int], Iterable[tuple[str, Part]]]) -> Iterator[Any]:
        """Write one bucket."""
        (name, part), given = element
        inputs = by_kind(given, "events", "copies")
        events, arrived = counted(f"events of {name}", inputs["events"])
        copies, copies_arrived = counted(f"copies of {name}", inputs["copies"])
        yield from (arrived, copies_arrived)
        if events is not None:
            group = self.job.group(name)
            entities = close_bucket(self.job, group, part, without(events, copies))
            yield from (tally(records_of(view), entities) for view in group.views)


def close_bucket(job: Job, group: Group, part: int, events: pa.Table) -> int:
    """Pack the records of one bucket and write them to a file in each view's folder; return how many entities it has."""
    source = group.source
    names = [f"__k{index}" for index in range(len(group.keys))]
    keys = [events[each] for each in names]
    entity, _ = entity_codes(keys, [each.slice(0, 0) for each in keys])
    _, first = np.unique(entity, return_index=True)
    entities = pa.table({each.name: key.take(pa.array(first)) for each, key in zip(group.keys, keys, strict=True)})
    in_order = sorted_events(source, events.drop_columns(names).append_column("__entity", pa.array(entity)))
    for view in group.views:
        mine = bucket_events(view, source, in_order, group.fields(view))
        records = closed_records(view, mine, entities.num_rows, job.ends[source.name][1])
        path = f"{job.output}/{view.name}/part-{part:06d}.parquet"
        packed = entities.append_column("_record", pa.array(records, pa.binary()))
        with beam.io.filesystems.FileSystems.create(path, compression_type="uncompressed") as sink:
            pq.write_table(packed, sink, compression="zstd")
    return int(entities.num_rows)


def records_of(view: ViewPlan) -> str:
    """Return what an account calls the records of a view."""
    return f"records of {view.name}"


def expand_upload(pipeline: Any, job: Job, pieces: Sequence[Piece]) -> None:
    """Build the pipeline: records to Parquet files by view, the account to ``account.json``, all in `job.output`."""
    judged, copies = judged_pieces(pipeline, job, pieces)
    closed = by_bucket({"events": judged.rows, "copies": copies.rows}) | "close" >> beam.ParDo(
        CloseBucket(job)
    ).with_outputs("account", main="nothing")
    accounted([judged, copies, closed], job)
