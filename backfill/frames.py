"""What users hand over: tables, data frames, Parquet files and folders of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.folders import parquet_files
from unskew.pipelines.plan import SetPlan

__all__ = ["parquet_files"]  # with what is defined below


def as_table(frame: object) -> pa.Table:
    """Return an Arrow table, a pandas or a Polars frame as an Arrow table."""
    if isinstance(frame, pa.Table):
        return frame
    if hasattr(frame, "to_arrow"):
        return frame.to_arrow()
    if hasattr(frame, "columns") and hasattr(frame, "dtypes"):
        return pa.Table.from_pandas(frame, preserve_index=False)
    message = f"events of type `{type(frame).__name__}` cannot be read; give a path, an Arrow table or a data frame"
    raise InputError(message)


def events_of(plan: SetPlan, events: Any, source: str) -> Any:
    """Return the events of one source."""
    if isinstance(events, str | Path) and (Path(events) / source).is_dir():
        return Path(events) / source
    if isinstance(events, Mapping):
        if source not in events:
            message = f"events of source `{source}` are missing; {nearest(source, events)}"
            raise InputError(message)
        return events[source]
    if len(plan.sources) > 1:
        if isinstance(events, str | Path):
            message = (
                f"folder `{events}` has no folder `{source}`; give a folder with one of Parquet files for each source"
            )
            raise InputError(message)
        names = ", ".join(f"`{each.name}`" for each in plan.sources)
        message = (
            f"set `{plan.name}` has several sources; give events for each by name, or a folder of folders: {names}"
        )
        raise InputError(message)
    return events


def check_once(schema: pa.Schema, names: Sequence[str], where: str) -> None:
    """Refuse a column that stands twice."""
    twice = [each for each in names if schema.names.count(each) > 1]
    if twice:
        message = f"column `{twice[0]}` stands twice in {where}; drop or rename one"
        raise InputError(message)


def plain(table: pa.Table) -> pa.Table:
    """Return the table with instants as counts of their unit: DuckDB takes the ends of int64 for infinities."""
    for index, each in enumerate(table.schema):
        if pa.types.is_dictionary(each.type) and pa.types.is_timestamp(each.type.value_type):
            table = table.set_column(index, each.name, table.column(index).cast(each.type.value_type).cast(pa.int64()))
        elif pa.types.is_timestamp(each.type):
            table = table.set_column(index, each.name, table.column(index).cast(pa.int64()))
    return table
