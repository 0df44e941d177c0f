"""The engines that a case can run on: events and reads in, values out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from unskew.pipelines.backends import oracle
from unskew.pipelines.plan import ColumnPlan, SetPlan

Rows = Sequence[Mapping[str, Any]]
Engine = Callable[[SetPlan, Mapping[str, Rows], Rows], list[dict[str, Any]]]
PHYSICAL = {
    "int": pa.int64(),
    "timestamp": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
MOST_DIGITS = 38


def on_oracle(plan: SetPlan, events: Mapping[str, Rows], reads: Rows) -> list[dict[str, Any]]:
    """Compute in plain Python, in milliseconds: the contract's plainest reading."""
    return [dict(each) for each in oracle.features(plan, events, reads)]


def on_beam(plan: SetPlan, events: Mapping[str, Rows], reads: Rows) -> list[dict[str, Any]]:
    """Compute a training set."""
    from unskew.backfill.training import backfill  # noqa: PLC0415 - starts Beam

    table = backfill(plan, tables(plan, events), spine_of(plan, reads))
    return values_of(table, list(plan.fingerprints()))


def on_flink(plan: SetPlan, events: Mapping[str, Rows], reads: Rows) -> list[dict[str, Any]]:
    """Run each source's job over the events in order of arrival, and read the store once all are in it."""
    from unskew.online.materialise import Changelog, Materialiser  # noqa: PLC0415 - starts Flink
    from unskew.online.read import FeatureReader  # noqa: PLC0415
    from unskew.online.store_sqlite import SqliteStore  # noqa: PLC0415
    from unskew.online.stream import run_stream  # noqa: PLC0415
    from unskew.validation.log import read_logs, write_lines  # noqa: PLC0415
    from unskew.validation.served import VERSION_LIFE  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder, SqliteStore(":memory:") as store:
        for name, log in read_logs(plan, tables(plan, events)).items():
            lines, out = Path(folder) / f"{name}-lines", Path(folder) / f"{name}-stream"
            lines.mkdir()
            write_lines(log, lines / "0.jsonl")
            run_stream(plan, name, lines, out)
            writer = Materialiser(store, plan, name, "case", version_life=VERSION_LIFE)
            for batch in Changelog(plan, name, out).batches():
                writer.apply(batch)
        reading = FeatureReader(plan, store).read(reads, [each["t"] for each in reads])
        return values_of(reading.table(), list(plan.fingerprints()))


ENGINES: dict[str, Engine] = {"oracle": on_oracle, "beam": on_beam, "flink": on_flink}


def arrow_type(column: ColumnPlan) -> pa.DataType:
    """Return the type of a column of events; decimals have room for values that are out of range."""
    if column.type.kind == "decimal":
        return pa.decimal128(MOST_DIGITS, len(str(column.type.units)) - 1)
    return PHYSICAL[column.type.kind]


def table_of(columns: Sequence[ColumnPlan], rows: Rows) -> pa.Table:
    """Return rows as a table of these columns."""
    return pa.table({each.name: pa.array([row.get(each.name) for row in rows], arrow_type(each)) for each in columns})


def tables(plan: SetPlan, events: Mapping[str, Rows]) -> dict[str, pa.Table]:
    """Return the events of each source as a table."""
    return {each.name: table_of(each.columns, events[each.name]) for each in plan.sources}


def spine_of(plan: SetPlan, reads: Rows) -> pa.Table:
    """Return the reads as a spine."""
    keys = plan.spine_keys()
    named = [*keys.values(), *(each for each in plan.request if each.name not in keys)]
    return table_of(named, reads).append_column("t", pa.array([each["t"] for each in reads], pa.int64()))


def values_of(table: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the features of each row as Python values."""
    from unskew.pipelines.arrow import python_values  # noqa: PLC0415 - only engines with tables need it

    columns = {name: python_values(table[name]) for name in names}
    return [{name: columns[name][row] for name in names} for row in range(table.num_rows)]
