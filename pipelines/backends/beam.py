"""The Beam pipeline: judge, partition by entity, compute in buckets, rejoin by spine row.

Elements are whole Arrow tables, as IPC bytes between workers. Nothing here assumes one machine:
every transform is a module-level function of picklable arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import apache_beam as beam
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unskew.backfill.bucket import Column, Events, Spine, bucket_features
from unskew.backfill.events import Piece, judge, read_arrow
from unskew.backfill.order import entity_codes, numbers, ranks, repeated, sorted_rows
from unskew.pipelines.backends.beam_shuffle import Part, hand_over, joined, take_over, write_file
from unskew.pipelines.backends.sql import DUCKDB, render
from unskew.pipelines.plan import SetPlan, SourcePlan, ViewPlan

NEVER = 2**63 - 1
ROWS_PER_OUTPUT = 1 << 20
ORDERED = ("first", "last", "list")
AsOf = Literal["event_time", "arrival", "position"]


@dataclass(frozen=True)
class Flip:
    """An upload that went live: what it holds (``arrival < cut``, ``ts < batch_end``), and from when on.

    Parameters
    ----------
    cut, batch_end
        Instants, ms.
    instant
        When reads began to see it: ms, or a position where knowledge is counted in positions.
    source
        Whose events it holds; of every source where empty.
    """

    cut: int
    batch_end: int
    instant: int
    source: str = ""


@dataclass(frozen=True)
class Job:
    """What every worker knows.

    Parameters
    ----------
    as_of
        ``event_time``: an event counts wherever it is in a window; else only from when serving could have
        known it: an instant (``arrival``), or a number of the log's order (``position``).
    lag
        From arrival to servable, ms.
    flips
        Uploads, by which late events became known.
    sequence
        Column of the position; empty for the order of the input.
    ends
        Of an upload: (cut, batch_end) of each source, ms; it holds ``arrival < cut`` and ``ts < batch_end``.
    shuffle
        Folder for what is too large to shuffle by value.
    partitions
        Number of buckets for each view.
    """

    plan: SetPlan
    output: str
    as_of: AsOf = "event_time"
    lag: int = 0
    flips: tuple[Flip, ...] = ()
    sequence: str = ""
    ends: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    shuffle: str = ""
    partitions: int = 8

    def known_sql(self, source: SourcePlan) -> str:
        """Return the instant or position from which on an event counts."""
        flips = [
            f"CASE WHEN __arrival < {each.cut} AND __ts < {each.batch_end} THEN {each.instant} END"
            for each in self.flips
            if each.source in ("", source.name)
        ]
        first = f"coalesce(least({', '.join(flips)}), {NEVER})" if flips else str(NEVER)
        at_once = f"__arrival + {self.lag}" if self.as_of == "arrival" else "__sequence"
        return f"CAST(CASE WHEN __late THEN {first} ELSE {at_once} END AS BIGINT)"


def key_columns(view: ViewPlan) -> list[str]:
    """Return the quoted key columns."""
    return [DUCKDB.identifier(each.name) for each in view.keys]


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


class JudgeEvents(beam.DoFn):  # type: ignore[misc]
    """Piece -> projected rows by (view, bucket); identities by bucket; an account of the piece."""

    def __init__(self, job: Job) -> None:
        """Keep the job."""
        self.job = job

    def process(self, piece: Piece) -> Iterator[Any]:
        """Judge one piece and hand out its rows."""
        source = self.job.plan.source(piece.source)
        views = [each for each in self.job.plan.views if each.source == source.name]
        sequence = [self.job.sequence] if self.job.sequence else []
        table = piece.read([*(each.name for each in source.columns), *sequence])
        with judge(source, table, piece.first, self.job.sequence) as connection:
            later = drop_later(connection, source, *self.job.ends[source.name]) if self.job.ends else {}
            yield beam.pvalue.TaggedOutput("account", (source.name, account_of(connection, views) | later))
            if source.deduplicate:
                for part, rows in split(connection, identity_sql(source, views, self.job.partitions), self.job):
                    yield beam.pvalue.TaggedOutput("identity", ((source.name, part), rows))
            for view in views:
                for part, rows in split(connection, projection_sql(self.job, source, view), self.job):
                    yield (view.name, part), rows


def drop_later(connection: duckdb.DuckDBPyConnection, source: SourcePlan, cut: int, batch_end: int) -> dict[str, int]:
    """Drop the rows that an upload leaves to the stream or to the next upload, and count them."""
    later = f"__reason IS NULL AND (__arrival >= {cut} OR {DUCKDB.identifier(source.event_time)} >= {batch_end})"
    ((dropped,),) = connection.execute(f"DELETE FROM judged WHERE {later}").fetchall()
    return {"later": int(dropped)} if dropped else {}


def taken_sql(views: Sequence[ViewPlan]) -> str:
    """Return whether some view finds no null in its key."""
    return " OR ".join("(" + " AND ".join(f"{key} IS NOT NULL" for key in key_columns(each)) + ")" for each in views)


def account_of(connection: duckdb.DuckDBPyConnection, views: Sequence[ViewPlan]) -> dict[str, int]:
    """Count a piece's rows by fate; duplicates still stand under applied and filtered."""
    fate = f"CASE WHEN __late THEN 'late' WHEN {taken_sql(views)} THEN 'applied' ELSE 'filtered' END"
    query = f"SELECT coalesce('quarantined_' || __reason, {fate}), count(*) FROM judged GROUP BY 1"
    return dict(connection.sql(query).fetchall())


def identity_sql(source: SourcePlan, views: Sequence[ViewPlan], partitions: int) -> str:
    """Return each sound row's identity and what decides between its copies."""
    names = [DUCKDB.identifier(each) for each in (*source.event_id, source.event_time)]
    columns = ", ".join(f"{name} AS __id{index}" for index, name in enumerate(names))
    return (
        f"SELECT {columns}, __arrival, __position, __late, {taken_sql(views)} AS __taken, "
        f"hash({', '.join(names)}) % {partitions} AS __part FROM judged WHERE __reason IS NULL"
    )


def projection_sql(job: Job, source: SourcePlan, view: ViewPlan) -> str:
    """Return a view's rows: keys, instants, ids, knowledge, and the lift of each state field."""
    keys = key_columns(view)
    ids = [f"{DUCKDB.identifier(each)} AS __i{index}" for index, each in enumerate(source.event_id)]
    lifts = [f"{render(each.lift, DUCKDB)} AS __f{index}" for index, each in enumerate(view.fields)]
    known = [] if job.as_of == "event_time" else [f"{job.known_sql(source)} AS __known"]
    columns = [f"{key} AS __k{index}" for index, key in enumerate(keys)]
    present = " AND ".join(f"{key} IS NOT NULL" for key in keys)
    ts = DUCKDB.identifier(source.event_time)
    return (
        f"SELECT {', '.join([*columns, '__ts', '__position', *ids, *known, *lifts])}, "
        f"hash({', '.join(keys)}) % {job.partitions} AS __part "
        f"FROM (SELECT *, {ts} AS __ts FROM judged) WHERE __reason IS NULL AND {present}"
    )


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


class PartitionSpine(beam.DoFn):  # type: ignore[misc]
    """Slice of the spine's keys -> rows by (view, bucket)."""

    def __init__(self, job: Job) -> None:
        """Keep the job."""
        self.job = job

    def process(self, path: str) -> Iterator[tuple[tuple[str, int], Part]]:
        """Hand out each view's keys, t, what is known and row number."""
        with duckdb.connect() as connection:
            connection.register("spine", read_arrow(path))
            for view in self.job.plan.views:
                keys = key_columns(view)
                columns = ", ".join(f"{key} AS __k{index}" for index, key in enumerate(keys))
                part = f"coalesce(hash({', '.join(keys)}) % {self.job.partitions}, 0)"
                query = f"SELECT {columns}, __t, __asof, __row, {part} AS __part FROM spine"
                for bucket, found in split(connection, query, self.job):
                    yield (view.name, bucket), found


class ComputeBucket(beam.DoFn):  # type: ignore[misc]
    """Events and spine rows of one (view, bucket) -> features by block of spine rows."""

    def __init__(self, job: Job) -> None:
        """Keep the job."""
        self.job = job

    def process(
        self, element: tuple[tuple[str, int], dict[str, Iterable[Part]]], found: Sequence[tuple[str, bytes, Any]]
    ) -> Iterator[tuple[int, tuple[str, Part]]]:
        """Compute one bucket."""
        (name, _), inputs = element
        spine = take_over(inputs["spine"])
        if spine is None:
            return
        view = next(each for each in self.job.plan.views if each.name == name)
        source = self.job.plan.source(view.source)
        dropped = [np.frombuffer(each, np.int64) for owner, each, _ in found if owner == source.name]
        rows, features = compute_bucket(view, source, take_over(inputs["events"]), spine, dropped)
        block = rows // ROWS_PER_OUTPUT
        table = pa.table([pa.array(rows), *features], ["__row", *(each.name for each in view.features)])
        order = np.argsort(block, kind="stable")
        for each in np.unique(block):
            yield int(each), (name, hand_over(table.take(pa.array(order[block[order] == each])), self.job.shuffle))


def compute_bucket(
    view: ViewPlan,
    source: SourcePlan,
    events: pa.Table | None,
    spine: pa.Table,
    dropped: list[np.ndarray],  # type: ignore[type-arg]
) -> tuple[Any, list[pa.Array]]:
    """Sort a bucket, give entities and strings their codes, and run the kernels."""
    keys = [f"__k{index}" for index in range(len(view.keys))]
    t, asof, row = (numbers(spine[each]) for each in ("__t", "__asof", "__row"))
    if events is None:
        entity, _ = entity_codes([spine[key] for key in keys], [spine[key].slice(0, 0) for key in keys])
        rows = sorted_rows(entity, [t, asof, row])
        return row[rows], bucket_features(
            view, bucket_events(view, source, None), Spine(entity[rows], t[rows], asof[rows])
        )
    entity, owner = entity_codes([spine[key] for key in keys], [events[key] for key in keys])
    rows = sorted_rows(entity, [t, asof, row])
    events = without(events.drop_columns(keys).append_column("__entity", pa.array(owner)), dropped)
    found = bucket_events(view, source, sorted_events(source, events.filter(pc.greater_equal(events["__entity"], 0))))
    return row[rows], bucket_features(view, found, Spine(entity[rows], t[rows], asof[rows]))


def without(events: pa.Table, dropped: Sequence[np.ndarray]) -> pa.Table:  # type: ignore[type-arg]
    """Return the rows whose position is not among the dropped ones."""
    if not dropped:
        return events
    return events.filter(pa.array(~np.isin(numbers(events["__position"]), np.concatenate(dropped))))


def sorted_events(source: SourcePlan, events: pa.Table) -> pa.Table:
    """Return a bucket's rows by (entity, ts, id, position)."""
    ids = [ranks(events[f"__i{index}"]) for index in range(len(source.event_id))]
    order = sorted_rows(numbers(events["__entity"]), [numbers(events["__ts"]), *ids, numbers(events["__position"])])
    return events.combine_chunks().take(pa.array(order))


def bucket_events(view: ViewPlan, source: SourcePlan, events: pa.Table | None) -> Events:
    """Return sorted rows as the kernels take them."""
    if events is None:
        none = np.zeros(0, np.int64)
        columns = [empty_column(each.lift.type.kind == "string") for each in view.fields]
        return Events(none, none, None, columns)
    columns = [field_column(events[f"__f{index}"]) for index in range(len(view.fields))]
    known = numbers(events["__known"]) if "__known" in events.column_names else None
    tie = None
    if not source.deduplicate and any(each.kind in ORDERED for each in view.fields):
        tie = runs(events.select(["__entity", "__ts", *(f"__i{index}" for index in range(len(source.event_id)))]))
    return Events(numbers(events["__entity"]), numbers(events["__ts"]), known, columns, tie)


def empty_column(strings: bool) -> Column:
    """Return a field's column over no events."""
    return Column(np.zeros(0, np.int64), np.zeros(0, np.bool_), pa.array([], pa.string()) if strings else None)


def field_column(column: pa.ChunkedArray) -> Column:
    """Return a field's lifts; strings as codes."""
    valid = column.is_valid().to_numpy().astype(np.bool_, copy=False)
    if not pa.types.is_string(column.type):
        return Column(numbers(column), valid)
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return Column(numbers(pa.chunked_array([encoded.indices])), valid, encoded.dictionary)


def runs(keys: pa.Table) -> Any:
    """Return the number of each row's run of equal rows in a sorted table."""
    new = np.zeros(keys.num_rows, np.bool_)
    for each in keys.columns:
        codes = each.combine_chunks().dictionary_encode()
        codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
        values = codes.indices.to_numpy()
        new[1:] |= values[1:] != values[:-1]
    return np.cumsum(new).astype(np.int64)


class WriteBlock(beam.DoFn):  # type: ignore[misc]
    """Features of all views for one block of spine rows -> one Arrow file in the order of the rows."""

    def __init__(self, job: Job) -> None:
        """Keep the job."""
        self.job = job

    def process(self, element: tuple[int, Iterable[tuple[str, Part]]]) -> Iterator[str]:
        """Write one block."""
        block, parts = element
        by_view: dict[str, list[Part]] = {}
        for name, rows in parts:
            by_view.setdefault(name, []).append(rows)
        columns: dict[str, pa.ChunkedArray] = {}
        for view in self.job.plan.views:
            table = joined(by_view[view.name])
            table = table.take(pa.array(np.argsort(table["__row"].to_numpy(), kind="stable")))
            columns |= {each.name: table[each.name] for each in view.features}
        path = f"{self.job.output}/block-{block:06d}.arrow"
        write_file(pa.table(columns), path)
        yield path


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

    Features go to Arrow files by block of rows, the account to ``account.json``, both in `job.output`.
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
