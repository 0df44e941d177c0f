"""The Beam job in DuckDB's SQL: what a group of views takes of each judged event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from unskew.pipelines.backends.sql import DUCKDB, render
from unskew.pipelines.plan import ColumnPlan, SetPlan, SourcePlan, ViewPlan

NEVER = 2**63 - 1
ROWS_PER_BLOCK = 1 << 18  # of the spine, and so of each part of a training set
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
        Number of buckets for each group.
    spine
        Arrow file of the spine as given, `ROWS_PER_BLOCK` rows in a batch.
    format
        Of the training set's parts: ``parquet`` or ``arrow``.
    reuse, kept
        Folder of an earlier training set, and its column of each feature that is taken over.
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
    spine: str = ""
    format: Literal["parquet", "arrow"] = "arrow"
    reuse: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of the set's views, each named by its first view."""
        found: dict[tuple[str, tuple[ColumnPlan, ...], tuple[ColumnPlan, ...]], list[ViewPlan]] = {}
        for view in self.plan.views if self.ends else self.computed():
            found.setdefault((view.source, view.keys, view.spine_keys), []).append(view)
        return tuple(
            Group(views[0].name, self.plan.source(source), keys, tuple(views), asked)
            for (source, keys, asked), views in found.items()
        )

    def computed(self) -> list[ViewPlan]:
        """Return the views of a training set with the features that are not taken over."""
        if not self.kept:
            return list(self.plan.reads)
        rest = [(view, {each.name for each in view.features} - set(self.kept)) for view in self.plan.reads]
        return [view.only(names) for view, names in rest if names]

    def group(self, name: str) -> Group:
        """Return the group of that name."""
        return next(each for each in self.groups if each.name == name)


@dataclass(frozen=True)
class Group:
    """Views of one source with the same keys, asked for by the same columns: they share events and rows of the spine."""

    name: str
    source: SourcePlan
    keys: tuple[ColumnPlan, ...]
    views: tuple[ViewPlan, ...]
    asked: tuple[ColumnPlan, ...]

    @cached_property
    def lifts(self) -> tuple[str, ...]:
        """The SQL of all state fields' lifts, each once; columns ``__f0``, ``__f1`` ..."""
        lifts = (lift for view in self.views for each in view.fields for lift in each.lifts())
        return tuple(dict.fromkeys(render(each, DUCKDB) for each in lifts))

    def fields(self, view: ViewPlan) -> list[list[str]]:
        """Return the columns of the lifts of each of a view's fields."""
        return [[f"__f{self.lifts.index(render(lift, DUCKDB))}" for lift in each.lifts()] for each in view.fields]

    def key_columns(self) -> list[str]:
        """Return the quoted key columns of the source."""
        return [DUCKDB.identifier(each.name) for each in self.keys]

    def asked_columns(self) -> list[str]:
        """Return the quoted columns of the spine that hold the keys."""
        return [DUCKDB.identifier(each.name) for each in self.asked]

    def present(self) -> str:
        """Return whether an event is there for the group: no key is null."""
        return present(self.source, self.keys)


def known_sql(job: Job, source: SourcePlan) -> str:
    """Return the instant or position from which on an event counts."""
    at_once = f"__arrival + {job.lag}" if job.as_of == "arrival" else "__sequence"
    return f"CAST(CASE WHEN __late THEN {uploaded_sql(job, source)} ELSE {at_once} END AS BIGINT)"


def uploaded_sql(job: Job, source: SourcePlan) -> str:
    """Return the instant or position from which on an upload that is read holds an event."""
    flips = [
        f"CASE WHEN __arrival < {each.cut} AND __ts < {each.batch_end} THEN {each.instant} END"
        for each in job.flips
        if each.source in ("", source.name)
    ]
    first = f"coalesce(least({', '.join(flips)}), {NEVER})" if flips else str(NEVER)
    return f"CAST({first} AS BIGINT)"


def taken_sql(plan: SetPlan, source: SourcePlan) -> str:
    """Return whether some view of a source finds no null in its key, whichever features are computed now."""
    return " OR ".join(f"({present(source, each.keys)})" for each in plan.views if each.source == source.name)


def present(source: SourcePlan, keys: Sequence[ColumnPlan]) -> str:
    """Return whether no key is null, and the row deletes nothing."""
    there = [f"{DUCKDB.identifier(each.name)} IS NOT NULL" for each in keys]
    if source.deleted is not None:
        there.append(f"NOT coalesce({render(source.deleted, DUCKDB)}, FALSE)")
    return " AND ".join(there)


def identity_sql(job: Job, source: SourcePlan) -> str:
    """Return each sound row's identity, what decides between its copies, and each group's bucket (null: in none)."""
    names = [DUCKDB.identifier(each) for each in (*source.event_id, source.event_time)]
    columns = [f"{name} AS __id{index}" for index, name in enumerate(names)]
    groups = [each for each in job.groups if each.source == source]
    columns += [
        f"CAST(CASE WHEN {each.present()} THEN {bucket_sql(each.key_columns(), job)} END AS USMALLINT) AS __g{index}"
        for index, each in enumerate(groups)
    ]
    if source.amended:  # all is known at once where knowledge does not count
        ideal = job.as_of == "event_time"
        columns += [
            f"{0 if ideal else known_sql(job, source)} AS __known",
            f"{0 if ideal else uploaded_sql(job, source)} AS __uploaded",
        ]
    return (
        f"SELECT {', '.join(columns)}, __arrival, __position, __late, {taken_sql(job.plan, source)} AS __taken, "
        f"{bucket_sql(names, job)} AS __part FROM {timed_sql(source)} WHERE __reason IS NULL"
    )


def timed_sql(source: SourcePlan) -> str:
    """Return the judged rows with the event time as ``__ts``."""
    return f"(SELECT *, {DUCKDB.identifier(source.event_time)} AS __ts FROM judged)"


def bucket_sql(keys: Sequence[str], job: Job) -> str:
    """Return the bucket of some columns."""
    return f"hash({', '.join(keys)}) % {job.partitions}"


def projection_sql(job: Job, group: Group) -> str:
    """Return a group's rows: keys, instants, ids, knowledge, and the lifts of all state fields."""
    keys = group.key_columns()
    columns = [f"{key} AS __k{index}" for index, key in enumerate(keys)]
    ids = [f"{DUCKDB.identifier(each)} AS __i{index}" for index, each in enumerate(group.source.event_id)]
    known = [] if job.as_of == "event_time" else [f"{known_sql(job, group.source)} AS __known"]
    lifts = [f"{each} AS __f{index}" for index, each in enumerate(group.lifts)]
    return (
        f"SELECT {', '.join([*columns, '__ts', '__position', *ids, *known, *lifts])}, "
        f"{bucket_sql(keys, job)} AS __part "
        f"FROM {timed_sql(group.source)} WHERE __reason IS NULL AND {group.present()}"
    )
