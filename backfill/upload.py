"""Uploads: the closed tiles of an archive, for the online store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from unskew.backfill.events import Piece, judge, open_events, reaching, staged
from unskew.backfill.frames import events_of
from unskew.backfill.run import buckets, for_rows, running, scratch_beside, sharing
from unskew.backfill.training import checked_account, new_output
from unskew.pipelines.archive import CLOCK_SLACK, COMMITS, cut_of
from unskew.pipelines.backends.beam_sql import Job
from unskew.pipelines.backends.beam_upload import expand_upload, records_of
from unskew.pipelines.errors import InputError
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.manifest import digests, write_manifest
from unskew.pipelines.plan import SetPlan, SourcePlan
from unskew.pipelines.planner import plan as compile_plan
from unskew.pipelines.types import Timestamp


def upload(
    feature_set: FeatureSet | SetPlan,
    events: Any,
    *,
    output: str | Path,
    cut: int | None = None,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Pack the closed tiles of an archive.

    Parameters
    ----------
    feature_set
        Definitions, or their plan.
    events
        The archive, as `backfill` takes events.
    output
        New folder: for each view a folder of Parquet files with the key columns and ``_record``, and
        ``_manifest.json``; written aside and renamed.
    cut
        Instant (ms) up to which the archive is complete by arrival, of every source; by default what its commits say
        (`pipelines.archive.cut_of`), or each source's largest arrival less a minute where it has none.
    options
        Flags of Beam, such as ``--runner=...``.

    Returns
    -------
    dict
        The manifest: the set, fingerprints of views and features, cut and ``batch_end`` of each source, the account.

    Raises
    ------
    InputError
        If events cannot be used as given, or the output exists.
    EngineError
        If the account of the rows read does not add up, or a sum could overflow.
    """
    plan = compile_plan(feature_set) if isinstance(feature_set, FeatureSet) else feature_set
    target = new_output(output)
    # before the files are listed: what a commit says is complete is among them
    given = {
        each.name: cut_of_commits(events_of(plan, events, each.name)) if cut is None else cut for each in plan.sources
    }
    pieces = {each.name: open_events(each, events_of(plan, events, each.name)) for each in plan.sources}
    first, last = Timestamp.bounds
    if cut is not None and not first <= cut <= last:
        message = f"cut `{cut}` is outside the years 1 to 9999; give ms since 1970"
        raise InputError(message)
    known = {name: at for name, at in given.items() if at is not None}
    cuts = {each.name: default_cut(each, pieces[each.name]) for each in plan.sources if each.name not in known} | known
    ends = {each.name: (cuts[each.name], each.batch_end(cuts[each.name])) for each in plan.sources}
    within = {each.name: reaching(each, pieces[each.name], oldest(plan, each, ends)) for each in plan.sources}
    unread = {
        name: sum(each.rows() for each in pieces[name]) - sum(each.rows() for each in within[name]) for name in pieces
    }
    with scratch_beside(target) as scratch, sharing(options, scratch) as place:
        read = [each for own in within.values() for each in own]
        rows = sum(each.rows() for each in read)
        job = Job(plan, place.at("upload"), ends=ends, shuffle=place.shared, partitions=buckets(rows))
        with running(for_rows(options, rows)) as pipeline:
            expand_upload(pipeline, job, staged(read, place))
        folder = place.fetch("upload")
        account = checked_account(folder, rows, records_in(folder, plan))
        manifest = {
            "set": plan.name,
            "fingerprints": plan.fingerprints(),
            "views": {each.name: each.fingerprint for each in plan.views},
            "sources": {name: {"cut": at, "batch_end": end} for name, (at, end) in ends.items()},
            "account": account,
            "unread": unread,
            "files": digests(folder),
        }
        write_manifest(folder, manifest)
        folder.rename(target)
    return manifest


def records_in(folder: Path, plan: SetPlan) -> dict[str, int]:
    """Return how many records of each view an upload has, as workers count them; make the folders of views that have none."""
    found = {}
    for view in plan.views:
        own = folder / view.name
        own.mkdir(exist_ok=True)
        found[records_of(view)] = sum(pq.read_metadata(each).num_rows for each in own.glob("part-*.parquet"))
    return found


def oldest(plan: SetPlan, source: SourcePlan, ends: Mapping[str, tuple[int, int]]) -> int:
    """Return where the oldest tile begins that windows can still reach once an upload is live, ms."""
    windows = [each.window for view in plan.views if view.source == source.name for each in view.features]
    return min(each.tail(ends[source.name][1]) for each in windows)


def cut_of_commits(events: Any) -> int | None:
    """Return up to when an archive is complete by arrival, ms; None where events have no commits."""
    if isinstance(events, str | Path) and (Path(events) / COMMITS).is_dir():
        return cut_of(Path(events))
    return None


def default_cut(source: SourcePlan, pieces: Sequence[Piece]) -> int:
    """Return the largest arrival in the archive less the slack of clocks, ms."""
    newest = []
    for piece in pieces:
        with judge(source, piece.read([each.name for each in source.columns]), piece.first) as connection:
            newest += [
                row[0] for row in connection.sql("SELECT max(__arrival) FROM judged").fetchall() if row[0] is not None
            ]
    if not newest:
        message = f"source `{source.name}` has no sound event; give an archive with events, or a cut"
        raise InputError(message)
    return int(max(newest)) - CLOCK_SLACK
