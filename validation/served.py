"""What serving would have answered at each probe: uploads, the stream and reads replayed along the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from unskew.backfill.upload import upload
from unskew.online.kernels import AHEAD
from unskew.online.materialise import Changelog, Materialiser
from unskew.online.read import FeatureReader, Reading
from unskew.online.store_sqlite import SqliteStore
from unskew.online.stream import run_stream
from unskew.online.upload import load_upload
from unskew.pipelines.backends.flink_streams import Stream
from unskew.pipelines.backends.sql import DUCKDB
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.timegrid import DAY
from unskew.validation.compare import Bools
from unskew.validation.explain import Key, Restarts
from unskew.validation.log import Log, write_lines
from unskew.validation.probes import Flip

VERSION_LIFE = 365 * DAY  # ms; a replayed log has no clock, so versions are kept as long as tiles are open
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """What was read.

    Parameters
    ----------
    table
        Features in the order of the probes.
    ahead
        For each view (n,): whether the tile of the instant had only versions with later events.
    rejected
        Writes that the store's guard refused.
    restarts
        Tiles and values that the job started again, with the position from which on.
    """

    table: pa.Table
    ahead: Mapping[str, Bools]
    rejected: int
    restarts: Restarts


def run_engines(
    plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], folder: Path, progress: Progress
) -> None:
    """Write the uploads with Beam and the changelogs with Flink into `folder`."""
    for number, flip in enumerate(flips):
        progress(f"upload {number + 1} of {len(flips)}")
        archive = {name: log.table.filter(pa.array(log.arrival < flip.cut)) for name, log in logs.items()}
        upload(plan, archive, cut=flip.cut, output=upload_folder(folder, number))
    for name, log in logs.items():
        progress(f"stream {name}")
        lines = folder / f"{name}-lines"
        lines.mkdir()
        write_lines(log, lines / "000000000000.jsonl")
        run_stream(plan, name, lines, stream_folder(folder, name), since=log.source.batch_end(flips[0].cut))


def upload_folder(folder: Path, number: int) -> Path:
    """Return where an upload is."""
    return folder / f"upload-{number}"


def stream_folder(folder: Path, source: str) -> Path:
    """Return where a source's changelog is."""
    return folder / f"{source}-stream"


def replay(plan: SetPlan, flips: Sequence[Flip], probes: pa.Table, folder: Path, progress: Progress) -> Served:
    """Apply the log to a store position by position, and read each probe at its own.

    Parameters
    ----------
    probes
        As `choose_probes` returns them, ascending by position.
    """
    asof = probes["asof"].to_numpy()
    readings: list[Reading] = []
    with SqliteStore(folder / "store.sqlite") as store:
        reader = FeatureReader(plan, store)
        logs = {each.name: Changelog(plan, each.name, stream_folder(folder, each.name)) for each in plan.sources}
        writers: dict[str, Materialiser] = {}
        waiting = list(enumerate(flips))
        for position in np.unique(asof).tolist():
            while waiting and waiting[0][1].position <= position:
                number, flip = waiting.pop(0)
                load_upload(store, plan, upload_folder(folder, number), flip.cut)
            for name, log in logs.items():
                if name not in writers:
                    writers[name] = Materialiser(store, plan, name, "parity", version_life=VERSION_LIFE)
                writers[name].apply(log.until(position))
            lo, hi = np.searchsorted(asof, [position, position + 1])
            progress(f"reads {hi} of {len(asof)}")
            readings.append(read(reader, probes.slice(lo, hi - lo)))
    table = pa.concat_tables([each.table() for each in readings])
    ahead = {
        view.name: np.concatenate([each.knowledge[view.name][:, AHEAD] for each in readings]) > 0 for view in plan.reads
    }
    found: dict[tuple[str, int], Mapping[Key, int]] = {}
    for log in logs.values():
        found |= {
            (each.view, each.field): restarts(each, rows) for batch in log.streams.values() for each, rows in batch
        }
    return Served(table, ahead, sum(each.applied.rejected for each in writers.values()), found)


def restarts(stream: Stream, rows: pa.Table) -> dict[Key, int]:
    """Return by key the sequence of the first row that does not count one more event than the row before.

    Each row of a tile, or of a value in a tile, counts one more; where it does not, the state had been lost.
    """
    if not stream.key:
        return {}
    keys = ", ".join(DUCKDB.identifier(each) for each in stream.key)
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("log", rows.append_column("_row", pa.array(np.arange(rows.num_rows))))
        found = connection.sql(
            f"SELECT {keys}, arg_min(seq, _row) FROM (SELECT {keys}, seq, _row, {'n' if stream.kind == 'tiles' else 'count'} "
            f"- row_number() OVER (PARTITION BY {keys} ORDER BY _row) AS gone FROM log) WHERE gone <> 0 GROUP BY ALL"
        ).fetchall()
    return {tuple(key): int(seq) for *key, seq in found}


def read(reader: FeatureReader, probes: pa.Table) -> Reading:
    """Read a few probes at once."""
    rows: list[dict[str, Any]] = probes.drop_columns(["t", "asof"]).to_pylist()
    return reader.read(rows or [{}] * probes.num_rows, probes["t"].to_pylist())
