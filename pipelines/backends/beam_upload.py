"""The Beam pipeline of an upload: judge, partition by entity, pack closed tiles, one file for each bucket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.events import Piece
from unskew.backfill.tiles import closed_records
from unskew.pipelines.backends.beam import Job, accounted, bucket_events, judged_pieces, key_columns
from unskew.pipelines.backends.beam_shuffle import Part, take_over
from unskew.pipelines.plan import SourcePlan, ViewPlan


def closed_bucket(
    element: tuple[tuple[str, int], Iterable[Part]], found: Sequence[tuple[str, bytes, Any]], job: Job
) -> None:
    """Pack the records of one (view, bucket) and write them to a file of the view's folder."""
    (name, part), rows = element
    view = next(each for each in job.plan.views if each.name == name)
    source = job.plan.source(view.source)
    dropped = [np.frombuffer(each, np.int64) for owner, each, _ in found if owner == source.name]
    table = take_over(rows)
    if table is None:
        return
    entities, events = entity_sorted(view, source, table, dropped)
    records = closed_records(view, bucket_events(view, source, events), entities.num_rows, job.ends[source.name][1])
    path = f"{job.output}/{view.name}/part-{part:06d}.parquet"
    packed = entities.append_column("_record", pa.array(records, pa.binary()))
    with beam.io.filesystems.FileSystems.create(path, compression_type="uncompressed") as sink:
        pq.write_table(packed, sink, compression="zstd")


def entity_sorted(
    view: ViewPlan, source: SourcePlan, table: pa.Table, dropped: Sequence[np.ndarray[Any, np.dtype[np.int64]]]
) -> tuple[pa.Table, pa.Table]:
    """Return the entities by their keys, and the rows that are no copies, sorted by (entity, ts, id)."""
    keys = [f"__k{index}" for index in range(len(view.keys))]
    ids = [f"__i{index}" for index in range(len(source.event_id))]
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("event_rows", table)
        connection.register("gone", pa.table({"position": np.concatenate([np.zeros(0, np.int64), *dropped])}))
        connection.execute(
            "CREATE TEMP TABLE kept AS SELECT * FROM event_rows WHERE __position NOT IN (SELECT position FROM gone)"
        )
        connection.execute(
            f"CREATE TEMP TABLE entities AS SELECT {', '.join(keys)}, row_number() OVER (ORDER BY {', '.join(keys)}) - 1 AS __entity "
            f"FROM (SELECT DISTINCT {', '.join(keys)} FROM kept)"
        )
        named = ", ".join(f"{key} AS {column}" for key, column in zip(keys, key_columns(view), strict=True))
        entities = connection.sql(f"SELECT {named} FROM entities ORDER BY __entity").to_arrow_table()
        same = " AND ".join(f"k.{key} = e.{key}" for key in keys)
        order = ", ".join(["__entity", "__ts", *ids, "__position"])
        events = connection.sql(
            f"SELECT k.* EXCLUDE ({', '.join(keys)}), __entity FROM kept AS k JOIN entities AS e ON {same} ORDER BY {order}"
        ).to_arrow_table()
    return entities, events


def expand_upload(pipeline: Any, job: Job, pieces: Sequence[Piece]) -> None:
    """Build the pipeline: records to Parquet files by view, the account to ``account.json``, all in `job.output`."""
    judged, dropped = judged_pieces(pipeline, job, pieces)
    (
        judged.rows
        | "by entity" >> beam.GroupByKey()
        | "close" >> beam.Map(closed_bucket, beam.pvalue.AsList(dropped), job)
    )
    accounted(judged, dropped, job)
