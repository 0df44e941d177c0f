"""What became of every line, counted from what the job wrote.

``read = quarantined + late + archived + duplicates + filtered + applied``: the job writes the fate of each line
before deduplication; quarantined and late lines are kept, applied ones are the rows of the tiles. Each count is
compared with another of the same lines. Rows that were erased since count as they did (`ERASED` has how many a part held).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from unskew.online.changelog import parts, read_changelog, read_part
from unskew.pipelines.backends.flink import FlinkJob, Stream
from unskew.pipelines.errors import EngineError

ERASED = "erased.json"


@dataclass(frozen=True)
class Account:
    """How many lines had which fate.

    Parameters
    ----------
    reasons
        The quarantined ones.
    overtaken
        Of a job on a cluster: rows of tiles that an upload had closed before the store took them. Where there are
        some, `duplicates` may hold as many events that were applied, for the store does not count closed tiles.
    """

    read: int
    quarantined: int
    late: int
    archived: int
    duplicates: int
    filtered: int
    applied: int
    reasons: dict[str, int]
    overtaken: int = 0


def take_account(job: FlinkJob, out: Path, *, lines: int | None) -> Account:
    """Count every line once, and compare.

    Parameters
    ----------
    job, out
        What ran, and where it wrote.
    lines
        Lines of the input; None for a watched one, of which the job may have read less and whose state expires.

    Raises
    ------
    EngineError
        If two counts of the same lines differ.
    """
    named = {each.name: each for each in job.streams}
    fates = counts(read_changelog(out, named["fates"], ["fate"])["fate"])
    reasons = counts(read_changelog(out, named["quarantine"], ["reason"])["reason"])
    if erased := erased_rows(out, named["quarantine"]):
        reasons["erased"] = erased
    late = read_changelog(out, named["late"], ["seq"]).num_rows + erased_rows(out, named["late"])
    skipped = read_changelog(out, named["skipped"], ["view"])["view"]
    tiles = [each for each in job.streams if each.kind == "tiles"]
    applied = {each.view: applied_rows(out, each, bounded=lines is not None) for each in tiles}
    read, accepted = sum(fates.values()), fates.get("accepted", 0)
    if lines is not None:
        require_equal("lines", read, lines)
    require_equal("quarantined rows", sum(reasons.values()), fates.get("quarantined", 0))
    require_equal("late rows", late, fates.get("late", 0))
    without = counts(skipped.drop_null())
    unique = {view: n + without.get(view, 0) for view, n in applied.items()}
    first = next(iter(unique.values()))
    for view, n in unique.items():
        require_equal(f"rows of view {view}", n, first)
    if first > accepted:
        require_equal("accepted rows", first, accepted)
    filtered, archived = skipped.null_count, fates.get("archived", 0)
    return Account(
        read, sum(reasons.values()), late, archived, accepted - first, filtered, first - filtered, reasons
    )  # fmt: skip


def counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs."""
    return {each["values"]: each["counts"] for each in column.value_counts().to_pylist()}


def applied_rows(out: Path, stream: Stream, *, bounded: bool) -> int:
    """Count the rows of a view's tiles; without expiry the tiles' own counts must agree."""
    rows = read_changelog(out, stream, [*stream.key, "n"])
    erased = erased_rows(out, stream)
    if bounded and not erased:
        newest = rows.group_by(list(stream.key)).aggregate([("n", "max")])
        require_equal(f"rows of {stream.name}", rows.num_rows, pc.sum(newest["n_max"]).as_py() or 0)
    return int(rows.num_rows) + erased


def erased_rows(out: Path, stream: Stream) -> int:
    """Return how many rows were erased from the parts that count."""
    held = erased_parts(out).get(stream.name, {})
    own = [each for each in parts(out / stream.name) if each.name in held] if held else []
    schema = pa.schema([("seq", pa.int64())])
    return sum(held[each.name] - read_part(each, stream, schema).num_rows for each in own)


def erased_parts(out: Path) -> dict[str, dict[str, int]]:
    """Return for each stream how many rows its parts held before some were erased."""
    path = out / ERASED
    found: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def require_equal(what: str, found: int, expected: int) -> None:
    """Refuse an account that does not add up."""
    if found != expected:
        message = f"account does not add up: `{found}` {what}, but `{expected}` were counted; do not use the output"
        raise EngineError(message)
