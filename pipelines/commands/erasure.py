"""`erase`: forget an entity."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from unskew.pipelines.commands.online import open_store, parse_cell
from unskew.pipelines.commands.options import (
    STORE_HELP,
    Defs,
    Json,
    SetName,
    events_by_source,
    load_plan,
    print_json,
)
from unskew.pipelines.erasure import Place, Subject, subject
from unskew.pipelines.errors import InputError

ELSEWHERE = (
    "what streams read and write outside of folders (Kafka topics, JSON lines), copies, backups and models: not reached from here",
    "training sets, uploads, outputs of streams and served rows that were not given",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: unskew erase --defs feature_defs/fraud.py --set fraud --key customer_id=3 --events build/archive "
        "--upload build/upload --stream build/stream --store build/store.sqlite --dry-run"
    )(erase)


def erase(
    defs: Defs,
    key: Annotated[list[str], typer.Option("--key", help="COLUMN=VALUE, once for each key of the entity.")],
    name: SetName = None,
    events: Annotated[
        list[str] | None,
        typer.Option("--events", help="Archive: Parquet file or folder; SOURCE=PATH where the set has several."),
    ] = None,
    upload: Annotated[list[Path] | None, typer.Option(help="Folder of an upload; repeatable.")] = None,
    training_set: Annotated[list[Path] | None, typer.Option(help="Folder of a training set; repeatable.")] = None,
    stream: Annotated[list[Path] | None, typer.Option(help="Output folder of a stream; repeatable.")] = None,
    served: Annotated[list[Path] | None, typer.Option(help="Archive of rows that were served; repeatable.")] = None,
    store: Annotated[str | None, typer.Option(help=STORE_HELP)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Erase an entity from archives, uploads, training sets, outputs of streams, served rows and the store.

    Nothing else may write them meanwhile. A run that was cut off is completed by running it again.
    """
    plan = load_plan(defs, name)
    who = subject(plan, words(key), parse_cell)
    with ExitStack() as stack:
        places = [
            *parquet_places(who, events, upload or [], training_set or [], served or []),
            *online_places(who, stream or [], store, stack),
        ]
        if not places:
            message = "nothing was given to erase from; give --events, --upload, --training-set, --stream, --served or --store"
            raise InputError(message)
        found = {each.name: each.find() for each in places}
        if not dry_run:
            for each in places:
                each.erase()
        kept = [*(line for each in places for line in each.remains()), *who.traces(), *foreign(who), *ELSEWHERE]
    if as_json:
        print_json({"key": dict(who.given), "dry_run": dry_run, "erased": found, "not_erased": kept})
        return
    for line in report(" ".join(key), found, dry_run=dry_run):
        typer.echo(line)
    typer.echo("not erased:\n" + "\n".join(f"  {each}" for each in kept))


def words(given: Sequence[str]) -> dict[str, str]:
    """Return COLUMN=VALUE words by column."""
    found: dict[str, str] = {}
    for word in given:
        column, equals, text = word.partition("=")
        if not equals or not column:
            message = f"`{word}` is no COLUMN=VALUE; write e.g. --key card_id=42"
            raise InputError(message)
        if column in found:
            message = f"key `{column}` is given twice; give it once"
            raise InputError(message)
        found[column] = text
    return found


def parquet_places(
    who: Subject,
    events: Sequence[str] | None,
    uploads: Sequence[Path],
    training_sets: Sequence[Path],
    served: Sequence[Path],
) -> Iterator[Place]:
    """Yield what Beam reads and writes, and the archives beside."""
    from unskew.backfill.erase_messages import ServedPlace, quarantines  # noqa: PLC0415 - `--help` needs none of it
    from unskew.backfill.erase_upload import UploadPlace  # noqa: PLC0415
    from unskew.backfill.erasure import archives, training_set  # noqa: PLC0415

    if events:
        yield from archives(who, events_by_source(who.plan, events))
        yield from quarantines(who, events_by_source(who.plan, events))
    yield from (UploadPlace(who, each) for each in uploads)
    yield from (training_set(who, each) for each in training_sets)
    yield from (ServedPlace(who, each) for each in served)


def online_places(who: Subject, streams: Sequence[Path], store: str | None, stack: ExitStack) -> Iterator[Place]:
    """Yield what Flink writes, and the store."""
    from unskew.online.erase_output import OutputPlace  # noqa: PLC0415 - compiles the kernels
    from unskew.online.erasure import StorePlace  # noqa: PLC0415

    yield from (OutputPlace(who, each) for each in streams)
    if store is not None:
        yield StorePlace(who, stack.enter_context(open_store(store)))


def foreign(who: Subject) -> list[str]:
    """Return the columns of the key's name that hold something else."""
    return [f"rows of `{each}`: its type does not take the value" for each in who.foreign]


def report(key: str, found: Mapping[str, Mapping[str, int]], *, dry_run: bool) -> Iterator[str]:
    """Yield a line for each place with what it held."""
    if not any(count for each in found.values() for count in each.values()):
        yield f"{key}: nothing was found, nothing {'would be' if dry_run else 'was'} erased"
        return
    yield f"{key}: {'would be erased' if dry_run else 'erased'}"
    for name, held in found.items():
        counts = [f"{count} {one(what) if count == 1 else what}" for what, count in held.items() if count]
        yield f"  {name}: {', '.join(counts) or 'nothing'}"


def one(what: str) -> str:
    """Return the singular of what is counted: rows, lines, records."""
    return re.sub(r"\b(row|line|record)s\b", r"\1", what, count=1)
