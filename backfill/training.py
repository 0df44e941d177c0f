"""Training sets: the features of a set at each row of a spine, point-in-time correct."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from unskew.backfill.events import Piece, open_events, reaching, staged, write_arrow
from unskew.backfill.frames import events_of
from unskew.backfill.reuse import Reused, events_digest, reused, table_digest
from unskew.backfill.run import buckets, for_rows, running, scratch_beside, sharing
from unskew.backfill.spine import block_sizes, earliest, require_writable, spine_slices, stage_spine
from unskew.pipelines.backends.beam import expand, write_block
from unskew.pipelines.backends.beam_judge import SHUFFLED
from unskew.pipelines.backends.beam_shuffle import joined
from unskew.pipelines.backends.beam_sql import AsOf, Flip, Job
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.manifest import write_manifest
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan as compile_plan
from unskew.pipelines.timegrid import parse_duration


@overload
def backfill(
    feature_set: FeatureSet | SetPlan,
    events: Any,
    spine: Any,
    *,
    as_of: AsOf = ...,
    lag: str | None = ...,
    flips: Sequence[Flip] = ...,
    sequence: str = ...,
    t: str = ...,
    asof: str = ...,
    output: None = None,
    options: Sequence[str] = ...,
) -> pa.Table: ...


@overload
def backfill(
    feature_set: FeatureSet | SetPlan,
    events: Any,
    spine: Any,
    *,
    as_of: AsOf = ...,
    lag: str | None = ...,
    flips: Sequence[Flip] = ...,
    sequence: str = ...,
    t: str = ...,
    asof: str = ...,
    output: str | Path,
    reuse: str | Path | None = ...,
    options: Sequence[str] = ...,
) -> dict[str, Any]: ...


def backfill(
    feature_set: FeatureSet | SetPlan,
    events: Any,
    spine: Any,
    *,
    as_of: AsOf = "event_time",
    lag: str | None = None,
    flips: Sequence[Flip] = (),
    sequence: str = "",
    t: str = "t",
    asof: str = "asof",
    output: str | Path | None = None,
    reuse: str | Path | None = None,
    options: Sequence[str] = (),
) -> pa.Table | dict[str, Any]:
    """Compute a training set.

    Parameters
    ----------
    feature_set
        Definitions, or their plan.
    events
        For each source by name, or alone where the set has one source: a Parquet file, a folder of
        them, an Arrow table, or a pandas or Polars frame, in order of arrival. Or one folder that has a folder
        of Parquet files for each source.
    spine
        The rows to compute at, in the same forms: the key columns, `t`, the request's columns; others are kept.
    as_of
        ``event_time``: all events before the window's head. ``arrival``: those that serving could have
        known at `t`. ``position``: those that it could have known once it had read the log up to `asof`.
    lag
        With ``arrival``: from an event's arrival to its being served.
    flips
        The uploads by which late events became known; their `instant` is a position with ``position``.
    sequence
        With ``position``: int64 column of the events that numbers all sources' rows in order of arrival; by
        default the position in the input.
    t, asof
        Columns of the spine: the instant, a timestamp or int64 ms; with ``position`` the last position known.
    output
        New folder for the training set (Parquet) and its manifest; written aside and renamed. By default the
        training set is returned.
    reuse
        Earlier output over the same spine and events: features whose fingerprints it holds are taken over, not computed.
    options
        Flags of Beam, such as ``--runner=...``.

    Returns
    -------
    pyarrow.Table or dict
        The spine's columns, then the features by full name, then the derived features; rows as in the spine.
        With `output` the manifest instead: the set, its fingerprints, the number of rows, the account.

    Raises
    ------
    InputError
        If events or spine cannot be used as given.
    EngineError
        If the account of the rows read does not add up, or a sum could overflow.
    """
    plan = compile_plan(feature_set) if isinstance(feature_set, FeatureSet) else feature_set
    target = None if output is None else new_output(output)
    how = [as_of, lag or "", [list(vars(each).values()) for each in flips], sequence]
    with scratch_beside(target) as scratch, sharing(options, scratch) as place:
        table = stage_spine(plan, spine, t, scratch / "spine.arrow")
        if target is not None:
            require_writable(table.schema)
        inputs = {} if target is None and reuse is None else digests_of(plan, events, table, t) | {"how": how}
        blocks = block_sizes(table.num_rows)
        old = Reused() if reuse is None else reused(plan, reuse, inputs, blocks)
        needed = {view.source for view in plan.reads for each in view.features if each.name not in old.columns}
        pieces, unread = pieces_within_reach(plan, events, table[t], needed)
        read = sum(each.rows() for each in pieces)
        job = Job(
            plan,
            place.at("training-set"),
            as_of,
            parse_duration(lag) if lag else 0,
            tuple(flips),
            sequence,
            shuffle=place.shared,
            partitions=buckets(read + table.num_rows),
            spine=place.put("spine.arrow"),
            format="arrow" if target is None else "parquet",
            reuse=tuple(place.lend(old.parts).values()),
            kept=old.columns,
        )
        slices = spine_slices(plan, table, t, asof if as_of == "position" else t)
        spine_files = [write_arrow(each, place, f"spine-{number:06d}.arrow") for number, each in enumerate(slices)]
        account: dict[str, dict[str, int]] = {}
        if job.groups:
            with running(for_rows(options, read + table.num_rows)) as pipeline:
                expand(pipeline, job, staged(pieces, place), spine_files)
        if not (job.groups and table.num_rows):  # no worker meets a row to write
            for block in range(len(blocks)):
                write_block(job, block, {})
        folder = place.fetch("training-set")
        if job.groups:
            account = checked_account(folder, read)  # first: it says why a part may be missing
        require_parts(folder, job.format, blocks)
        account = {name: account.get(name, old.account.get(name, {})) for name in (each.name for each in plan.sources)}
        if target is None:
            return joined([(str(each), 0, each.stat().st_size) for each in sorted(folder.glob("part-*.arrow"))])
        manifest = manifest_of(plan, table.num_rows, account) | {
            "unread": unread,
            "inputs": inputs,
            "reused": len(old.columns),
        }
        write_manifest(folder, manifest)
        folder.rename(target)
        return manifest


def digests_of(plan: SetPlan, events: Any, spine: pa.Table, t: str) -> dict[str, Any]:
    """Return the digests of what a training set is made of: all columns of the spine, and each source's events."""
    return {
        "spine": table_digest(spine),
        "t": t,
        "events": {each.name: events_digest(events_of(plan, events, each.name)) for each in plan.sources},
    }


def pieces_within_reach(
    plan: SetPlan, events: Any, instants: pa.ChunkedArray, needed: Collection[str]
) -> tuple[list[Piece], dict[str, int]]:
    """Return the pieces of all sources that a window of the spine can reach, and how many rows of each are left out.

    A new day's rows cost the windows before them, not the history: archives are written in the order of time, and the
    statistics of their row groups say what lies before.
    """
    first = earliest(instants)
    pieces, unread = [], {}
    for source in (each for each in plan.sources if each.name in needed):
        given = events_of(plan, events, source.name)
        windows = [each.window for view in plan.reads if view.source == source.name for each in view.features]
        every = open_events(source, given)
        own = every if first is None else reaching(source, every, min(each.tail(first) for each in windows))
        pieces += own
        unread[source.name] = sum(each.rows() for each in every) - sum(each.rows() for each in own)
    return pieces, unread


def require_parts(folder: Path, form: str, rows: Sequence[int]) -> None:
    """Raise an EngineError unless a training set has all its parts: a worker may have written on a disk of its own."""
    paths = [folder / f"part-{number:06d}.{form}" for number in range(len(rows))]
    missing = [each.name for each in paths if not each.is_file()]
    if missing:
        raise EngineError(unreached(f"`{missing[0]}`"))


def unreached(what: str) -> str:
    """Return what to say of a file that a worker wrote and nobody else sees."""
    return (
        f"a worker wrote {what} where only its own machine sees it; give --temp_location a folder that every worker "
        "and this process reach; nothing was written"
    )


def new_output(output: str | Path) -> Path:
    """Return the path of an output that does not exist yet, its parent made."""
    target = Path(output)
    try:
        if target.exists() or target.is_symlink():
            message = f"output `{target}` exists; name a new folder"
            raise InputError(message)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"output `{target}` cannot be made: {error.strerror}; name a folder that can"
        raise InputError(message) from error
    return target


def checked_account(folder: Path, read: int, fetched: Mapping[str, int] | None = None) -> dict[str, dict[str, int]]:
    """Return the fates by source; together they must be all rows that were read.

    Parameters
    ----------
    fetched
        Rows in the output of what workers counted as they wrote it.

    Raises
    ------
    EngineError
        If a row is lost or comes twice.
    """
    path = folder / "account.json"
    if not path.is_file():
        raise EngineError(unreached("the account"))
    account: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    shuffled = account.pop(SHUFFLED, {})
    for what, rows in (fetched or {}).items():
        if shuffled.pop(what, 0) != rows:
            raise EngineError(unreached(what))
    lost = {what: rows for what, rows in shuffled.items() if rows}
    if lost:
        what, rows = next(iter(lost.items()))
        message = (
            f"{abs(rows)} of the {what} were {'lost' if rows > 0 else 'repeated'} between Beam's workers; "
            "run again with --direct_running_mode=in_memory, and please report this"
        )
        raise EngineError(message)
    found = sum(sum(each.values()) for each in account.values())
    if found != read:
        message = f"the account has {found} fates for {read} rows read; please report this"
        raise EngineError(message)
    return account


def manifest_of(plan: SetPlan, rows: int, account: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands beside a training set."""
    return {
        "set": plan.name,
        "fingerprint": plan.fingerprint,
        "fingerprints": plan.fingerprints(),
        "rows": rows,
        "account": account,
    }
