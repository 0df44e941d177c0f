"""The Beam pipeline of an upload: judge, partition by entity, pack closed tiles, one file for each bucket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.bucket_rows import bucket_events, sorted_events, without
from unskew.backfill.events import Piece
from unskew.backfill.order import entity_codes
from unskew.backfill.tiles import closed_records
from unskew.pipelines.backends.beam import accounted, judged_pieces
from unskew.pipelines.backends.beam_shuffle import Part, take_over
from unskew.pipelines.backends.beam_sql import Job


def closed_bucket(
    element: tuple[tuple[str, int], Iterable[Part]], found: Sequence[tuple[str, bytes, Any]], job: Job
) -> None:
    """Pack the records of one (group, bucket) and write them to a file in each view's folder."""
    (name, part), rows = element
    group = job.group(name)
    source = group.source
    dropped = [np.frombuffer(each, np.int64) for owner, each, _ in found if owner == source.name]
    table = take_over(rows)
    if table is None:
        return
    events = without(table, dropped)
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


def expand_upload(pipeline: Any, job: Job, pieces: Sequence[Piece]) -> None:
    """Build the pipeline: records to Parquet files by view, the account to ``account.json``, all in `job.output`."""
    judged, dropped = judged_pieces(pipeline, job, pieces)
    (
        judged.rows
        | "by entity" >> beam.GroupByKey()
        | "close" >> beam.Map(closed_bucket, beam.pvalue.AsList(dropped), job)
    )
    accounted(judged, dropped, job)
