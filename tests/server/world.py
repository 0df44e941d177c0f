"""A store of an upload and a stream, and what to ask of it."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.conformance.test_batch import table
from tests.online.stream_rows import stream_rows
from tests.server.defs import cards, everything
from tests.strategies import POOL, STRINGS, decoded
from unskew.backfill.upload import upload
from unskew.online.materialise import Materialiser
from unskew.online.store import Store
from unskew.online.upload import load_upload
from unskew.pipelines import plan
from unskew.pipelines.plan import ColumnPlan, SetPlan

DAY, HOUR = 86_400_000, 3_600_000
END = 1_700_006_400_000  # the upload's batch_end, a midnight
PLANS = {each.name: each for each in (plan(everything), plan(cards))}
CUT = END + DAY + 5_000  # the sources allow a day of lateness
BIG = 2**63 - 1 - 2**12


def value(column: ColumnPlan, rng: random.Random) -> Any:
    """Return a value that a column takes, or null."""
    kind = column.type.kind
    if rng.random() < 0.1:
        return None
    if kind == "string":
        return rng.choice(STRINGS)
    if kind == "bool":
        return rng.random() < 0.5
    lo = -BIG if column.type.lo is None else column.type.lo
    hi = BIG if column.type.hi is None else column.type.hi
    return decoded(column, rng.choice([*(each for each in POOL if lo <= each <= hi), rng.randint(lo, hi)]))


def events(made: SetPlan, rng: random.Random, count: int) -> dict[str, list[dict[str, Any]]]:
    """Return events by source around the end of the upload, in order of arrival."""
    found = {}
    for source in made.sources:
        rows = []
        for number in range(count):
            ts = END + rng.choice([rng.randrange(-3 * DAY, 0), rng.randrange(0, 3 * HOUR), rng.randrange(0, 600_000)])
            row = {each.name: value(each, rng) for each in source.columns}
            row |= {"ts": ts, "seen": ts + rng.randrange(3_000), "id": number}
            rows.append(row)
        found[source.name] = sorted(rows, key=lambda row: row["seen"])
    return found


def logs(count: int = 40) -> dict[str, list[dict[str, Any]]]:
    """Return the events of all sources; the same each time."""
    rng = random.Random(7)  # noqa: S311
    return {name: log for made in PLANS.values() for name, log in events(made, rng, count).items()}


def make_uploads(folder: Path) -> None:
    """Write the uploads of both sets."""
    for made in PLANS.values():
        tables = {each.name: table(each.columns, logs()[each.name]) for each in made.sources}
        upload(made, tables, output=folder / made.name, cut=CUT)


def fill(store: Store, uploads: Path, sets: Sequence[str] = tuple(PLANS)) -> None:
    """Let a store hold closed and open tiles."""
    for made in (PLANS[name] for name in sets):
        load_upload(store, made, uploads / made.name, CUT)
        for each in made.sources:
            writer = Materialiser(store, made, each.name, f"{each.name}-job", version_life=2**60)
            writer.apply(stream_rows(made, each.name, logs()[each.name], END))


def question(made: SetPlan, rng: random.Random) -> tuple[dict[str, Any], int]:
    """Return a row to ask for, and an instant."""
    row = {name: value(column, rng) for name, column in made.spine_keys().items()}
    row |= {each.name: value(each, rng) for each in made.request}
    return row, END + rng.choice([rng.randrange(600_000), rng.randrange(3 * HOUR), rng.randrange(2 * DAY)])


def stream(batches: Iterable[pa.RecordBatch], **options: object) -> bytes:
    """Return batches of one schema as a stream."""
    found, sink = list(batches), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for each in found:
            writer.write_batch(each)
    written: bytes = sink.getvalue().to_pybytes()
    return written
