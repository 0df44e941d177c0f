"""Options that several commands share, and how they are read."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from unskew.pipelines.errors import InputError, nearest
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.types import Timestamp

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
STORE_HELP = "The online store: an SQLite file, or redis://HOST:PORT/0 (password: UNSKEW_STORE_PASSWORD)."
Store = Annotated[str, typer.Option(help=STORE_HELP)]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="TOML file with the addresses of the parts; default: unskew.toml.")
]
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
    known = [each.name for each in plan.sources]
    named: dict[str, str] = {}
    for each in given:
        source, equals, path = each.partition("=")
        if not equals or not source.isidentifier():
            if len(given) == 1:
                return Path(each)
            message = (
                f"events `{each}` name no source; write SOURCE=PATH for each: {', '.join(f'`{n}`' for n in known)}"
            )
            raise InputError(message)
        if source in named or source not in known:
            reason = "has two paths; give one folder" if source in named else f"is unknown; {nearest(source, known)}"
            message = f"source `{source}` of --events {reason}"
            raise InputError(message)
        named[source] = path
    return named


def instant(text: str) -> int:
    """Return an instant in ms: epoch milliseconds, or ISO 8601 (UTC where it names no offset).

    Raises
    ------
    InputError
        If the text is neither.
    """
    if text.isascii() and text.removeprefix("-").isdigit():
        found = int(text[:40])
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            message = f"instant `{text}` is neither epoch milliseconds nor ISO 8601; write e.g. 2025-03-01T12:00:00"
            raise InputError(message) from None
        found = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
    first, last = Timestamp.bounds
    if not first <= found <= last:
        message = f"instant `{text[:40]}` is outside the years 1 to 9999; give ms since 1970, or ISO 8601"
        raise InputError(message)
    return found


def print_json(value: Any) -> None:
    """Print one JSON object on one line."""
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))


@contextmanager
def quiet_engines() -> Iterator[None]:
    """Keep the engines' own chatter off standard error; errors still get through as ours."""
    import logging  # noqa: PLC0415 - only where an engine runs

    if not STATE["debug"]:  # a worker's traceback would stand before our one line, logged and printed
        from apache_beam.runners.worker import sdk_worker  # noqa: PLC0415

        vars(sdk_worker)["print"] = lambda *_, **__: None
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    yield


def until_told() -> Event:
    """Return what is set by SIGTERM and Ctrl-C."""
    stop = Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    return stop
