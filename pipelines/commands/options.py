"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SetPlan

CHECK_FAILED, WRONG_USE = 1, 2
STATE = {"debug": False}
Defs = Annotated[Path, typer.Option(help="Python file with the definitions.")]
SetName = Annotated[str | None, typer.Option("--set", help="Feature set, where the file defines several.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Events = Annotated[
    list[str],
    typer.Option(
        "--events", help="Parquet file or folder; SOURCE=PATH, once for each source, where the set has several."
    ),
]
At = Annotated[str, typer.Option(help="Instant: epoch ms or ISO 8601.")]
Cells = Annotated[list[str] | None, typer.Argument(help="COLUMN=VALUE for each key and request column.")]
Rows = Annotated[
    Path | None, typer.Option(help="JSON lines with keys and request columns, one row a line, instead of COLUMN=VALUE.")
]
Store = Annotated[Path, typer.Option(help="SQLite file of the online store.")]
BeamOptions = Annotated[
    list[str] | None, typer.Option("--beam", help="A flag of Beam, e.g. --beam=--runner=DirectRunner; repeatable.")
]


def load_plan(defs: Path, name: str | None) -> SetPlan:
    """Return the plan of the set that a command means."""
    from unskew.pipelines.loading import choose_set, load_sets  # noqa: PLC0415 - `--help` needs none of it
    from unskew.pipelines.planner import plan  # noqa: PLC0415

    return plan(choose_set(load_sets(defs), name))


def events_by_source(plan: SetPlan, given: Sequence[str]) -> Any:
    """Return what `--events` names: one path, or a path for each source.

    Raises
    ------
    InputError
        If several paths are given without their sources' names.
    """
    named = dict(each.split("=", 1) for each in given if "=" in each and each.split("=", 1)[0].isidentifier())
    if named:
        return named
    if len(given) > 1:
        message = f"events `{given[1]}` name no source; write SOURCE=PATH for each: " + ", ".join(
            f"`{each.name}`" for each in plan.sources
        )
        raise InputError(message)
    return Path(given[0])


def instant(text: str) -> int:
    """Return an instant in ms: epoch milliseconds, or ISO 8601 (UTC where it names no offset).

    Raises
    ------
    InputError
        If the text is neither.
    """
    if text.removeprefix("-").isdigit():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"instant `{text}` is neither epoch milliseconds nor ISO 8601; write e.g. 2025-03-01T12:00:00"
        raise InputError(message) from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000)


def print_json(value: Any) -> None:
    """Print one JSON object on one line."""
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))


@contextmanager
def quiet_engines() -> Iterator[None]:
    """Keep the engines' own chatter off standard error; errors still get through as ours."""
    import logging  # noqa: PLC0415 - only where an engine runs

    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    yield
