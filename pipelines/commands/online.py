"""`get`: what the store answers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from unskew.pipelines.commands.options import (
    At,
    Cells,
    Defs,
    Json,
    Rows,
    SetName,
    Store,
    instant,
    load_plan,
    print_json,
)
from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.plan import ColumnPlan, SetPlan

if TYPE_CHECKING:
    import pyarrow as pa

    from unskew.online.store import Store as OnlineStore


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: unskew get --defs feature_defs/retail.py --store build/store.sqlite --at 2011-12-01 CustomerID=17850"
    )(get)


def get(
    defs: Defs,
    store: Store,
    at: At,
    cells: Cells = None,
    rows: Rows = None,
    name: SetName = None,
    as_json: Json = False,
) -> None:
    """Read the features of one or many entities at an instant."""
    plan = load_plan(defs, name)
    asked, when = asked_rows(plan, cells, rows), instant(at)
    from unskew.online.read import FeatureReader  # noqa: PLC0415 - compiles the kernels

    with open_store(store) as opened:
        reading = FeatureReader(plan, opened).read(asked, when)
    found = [dict(zip(reading.columns, row, strict=True)) for row in zip(*readable(reading.table()), strict=True)]
    if as_json:
        print_json({"at": when, "fingerprint": plan.fingerprint, "rows": found})
        return
    for row in found:
        for key, value in row.items():
            typer.echo(f"{key}  {'null' if value is None else value}")


def readable(table: pa.Table) -> list[list[Any]]:
    """Return the columns as Python values, maps as dictionaries."""
    columns = [each.to_pylist() for each in table.columns]
    maps = [str(each.type).startswith("map") for each in table.columns]
    return [
        [value if value is None or not is_map else dict(value) for value in column]
        for column, is_map in zip(columns, maps, strict=True)
    ]


def made_store(store: str) -> OnlineStore:
    """Open a store; an SQLite file is made where there is none."""
    from unskew.online.live.settings import StoreSettings, load_settings  # noqa: PLC0415
    from unskew.online.stores import is_redis, open_store  # noqa: PLC0415

    settings = load_settings().store if is_redis(store) else StoreSettings()
    return open_store(replace(settings, url=store))


def open_store(store: str) -> OnlineStore:
    """Open a store that must be there."""
    from unskew.online.stores import is_redis  # noqa: PLC0415

    if not is_redis(store) and not Path(store).exists():
        message = f"store `{store}` does not exist; run `unskew upload --store {store}`"
        raise InputError(message)
    return made_store(store)


def asked_rows(plan: SetPlan, cells: Sequence[str] | None, rows: Path | None) -> list[dict[str, Any]]:
    """Return the rows that a read is for: of a file, or of COLUMN=VALUE words."""
    if rows is not None and cells:
        message = f"both --rows and `{cells[0]}` were given; give one of them"
        raise InputError(message)
    return [parse_cells(plan, cells or [])] if rows is None else read_rows(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read rows from JSON lines."""
    try:
        lines = [each for each in path.read_text(encoding="utf-8").split("\n") if each.strip()]
        found = [json.loads(each) for each in lines]
    except (OSError, ValueError, RecursionError) as error:
        message = f"rows `{path}` cannot be read: {error}; give a file with one JSON object a line"
        raise InputError(message) from error
    for number, each in enumerate(found):
        if not isinstance(each, dict):
            message = f"row {number + 1} of `{path}` is `{lines[number][:40]}`; give one JSON object a line"
            raise InputError(message)
    return found


def parse_cells(plan: SetPlan, given: Sequence[str]) -> dict[str, Any]:
    """Read COLUMN=VALUE words by the columns' types; a column that is not given is null."""
    columns = plan.spine_keys() | {each.name: each for each in plan.request}
    found: dict[str, Any] = dict.fromkeys(columns)
    seen: set[str] = set()
    for word in given:
        column, equals, text = word.partition("=")
        if not equals and column in columns:
            message = f"`{word}` has no value; write {column}=VALUE"
            raise InputError(message)
        if not equals or column not in columns:
            message = f"`{word}` is no COLUMN=VALUE of the set; {nearest(column, columns)}"
            raise InputError(message)
        if column in seen:
            message = f"column `{column}` is given twice; give it once"
            raise InputError(message)
        seen.add(column)
        found[column] = parse_cell(columns[column], text)
    return found


def parse_cell(column: ColumnPlan, text: str) -> Any:
    """Read one value by its column's type."""
    kind = column.type.kind
    if kind == "string":
        return text
    if kind == "timestamp":
        return instant(text)
    try:
        value = json.loads(text, parse_constant=float)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
    except ValueError:
        message = f"value `{text}` of column `{column.name}` is not of type `{column.type}`; convert it"
        raise InputError(message) from None
    return value
