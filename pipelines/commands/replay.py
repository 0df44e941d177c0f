"""`replay`: a log produced to a source's topic."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from unskew.pipelines.commands.options import Defs, Json, SetName, SettingsFile, load_plan, print_json
from unskew.pipelines.commands.stream import choose_source
from unskew.pipelines.errors import InputError
from unskew.pipelines.timegrid import parse_duration


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: unskew replay --defs feature_defs/fraud.py --set fraud --source transactions build/log/transactions "
        "--now --rate 1000"
    )(replay)


def replay(
    defs: Defs,
    log: Annotated[Path, typer.Argument(help="Events: Parquet or JSON lines, a file or a folder.")],
    name: SetName = None,
    source: Annotated[str | None, typer.Option(help="Source, where the set has several.")] = None,
    settings: SettingsFile = None,
    speed: Annotated[str, typer.Option(help="Times as fast as the log went, or max.")] = "max",
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many messages a second.")] = None,
    disorder: Annotated[str | None, typer.Option(help="Send messages up to so much later, e.g. 5s.")] = None,
    duplicates: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share that comes twice.")] = 0.0,
    late: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share whose event time is moved back, to be late.")
    ] = 0.0,
    now: Annotated[
        bool, typer.Option("--now", help="Move each event to arrive now; timestamps are the clock's, not the log's.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed disturbs the same events.")] = 7,
    key: Annotated[
        str | None, typer.Option(help="Columns of the messages' keys; default: the first view's entity.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Produce a log to a source's topic, made if it is missing; each entity stays in one partition."""
    plan = load_plan(defs, name)
    chosen = plan.source(choose_source(plan, source))
    from unskew.online.live.replay import Disturbance, Tempo, arriving, disturbed, ensure_topic, paced, produce  # noqa: PLC0415
    from unskew.online.live.replay_log import Shape, key_columns, messages  # noqa: PLC0415 - starts Kafka's client
    from unskew.online.live.settings import load_settings  # noqa: PLC0415
    from unskew.online.live.topics import topic_of  # noqa: PLC0415

    kafka, topic, tempo = load_settings(settings).kafka, topic_of(chosen), Tempo(faster(speed), rate)
    keys = key_columns(plan, chosen.name, key)
    how = Disturbance(parse_duration(disorder) if disorder else 0, duplicates, seed)
    arrives = arriving(tempo, time.time_ns() // 1_000_000) if now else None
    log_messages = messages(Shape(chosen, keys, arrives, late, seed), log)
    made = ensure_topic(kafka, topic)
    sent = produce(kafka, topic, paced(disturbed(log_messages, how), tempo, moved=now), clock=now)
    if as_json:
        print_json(
            {"topic": topic, "made": made, "messages": sent.messages, "seconds": sent.seconds, "rate": sent.rate}
        )
        return
    new = ", which is new" if made else ""
    typer.echo(f"{sent.messages} messages are in topic `{topic}`{new}: {sent.rate:.0f} a second")


def faster(given: str) -> float | None:
    """Read a speed; None for the fastest."""
    if given == "max":
        return None
    try:
        found = float(given)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        message = f"speed `{given}` is neither max nor a number above 0; write e.g. --speed 60"
        raise InputError(message)
    return found
