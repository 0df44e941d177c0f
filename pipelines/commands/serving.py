"""`serve` and `keygen`: the feature server, and keys for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from unskew.pipelines.commands.options import Defs, Json, print_json
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SetPlan


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: unskew serve --defs feature_defs/fraud.py --set fraud --store build/store.sqlite --port 8080"
    )(serve)
    app.command(epilog="Example: unskew keygen --name scoring --set fraud")(keygen)


def serve(
    defs: Defs,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Feature set; repeatable. Default: all.")] = None,
    store: Annotated[
        str | None, typer.Option(help="SQLite file, or redis://HOST:PORT/0, instead of the settings'.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="Settings; default: unskew.toml, where it is there.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: the settings', 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0: a free one. Default: the settings', 8080.", min=0, max=65_535)
    ] = None,
    max_age: Annotated[
        str | None, typer.Option(help="Flag what is known of a row as stale after this duration, e.g. 36h.")
    ] = None,
    max_rows: Annotated[int | None, typer.Option(help="Rows of a request, at most.", min=1)] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Bytes of a request, at most.", min=1)] = None,
    served_share: Annotated[
        str | None, typer.Option(help="Log the served rows of this share of the entities to Kafka, e.g. 0.01.")
    ] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Without keys, let everybody in who reaches it.")] = False,
) -> None:
    """Serve features over HTTP until SIGTERM; running requests finish before it ends."""
    plans = planned(defs, sets or [])
    from unskew.online.live.settings import load_settings  # noqa: PLC0415
    from unskew.online.server.process import bound, check_open, check_there, made_server  # noqa: PLC0415
    from unskew.online.server.process import serve as run  # noqa: PLC0415

    found = load_settings(settings)
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "max_age": max_age,
        "max_rows": max_rows,
        "max_bytes": max_bytes,
        "served_share": served_share,
    }
    server = replace(found.server, **{name: value for name, value in given.items() if value is not None})
    found = replace(found, server=server, store=found.store if store is None else replace(found.store, url=store))
    local = check_open(server, is_open=is_open)
    check_there(found)
    made = made_server(plans, found, local=local)
    address = bound(server.host, server.port)
    host_text, bound_port = address.getsockname()[:2]
    shown = f"[{host_text}]" if ":" in host_text else host_text
    line = f"serving {', '.join(each.name for each in plans)} on http://{shown}:{bound_port}"
    run(made, address, server.drain, lambda: typer.echo(line))


def planned(defs: Path, names: list[str]) -> list[SetPlan]:
    """Return the plans of the sets that are served."""
    from unskew.pipelines.loading import choose_set, load_sets  # noqa: PLC0415 - `--help` needs none of it
    from unskew.pipelines.planner import plan  # noqa: PLC0415

    known = load_sets(defs)
    repeated = [each for each in names if names.count(each) > 1]
    if repeated:
        message = f"set `{repeated[0]}` is given twice; give it once"
        raise InputError(message)
    return [plan(choose_set(known, each)) for each in names or known]


def keygen(
    name: Annotated[str, typer.Option(help="Whose key it is.")] = "client",
    sets: Annotated[list[str] | None, typer.Option("--set", help="Feature set that it may read; repeatable.")] = None,
    events: Annotated[
        list[str] | None, typer.Option("--events", help="Source whose events it may post; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a new API key, and what to put into the settings for it; the key is not kept anywhere."""
    from unskew.online.server.keys import new_key  # noqa: PLC0415

    key, digest = new_key()
    if as_json:
        print_json({"key": key, "name": name, "sha256": digest, "sets": sets or [], "events": events or []})
        return
    typer.echo(f"key, shown this once: {key}\n")
    typer.echo(f'[[server.keys]]\nname = {quoted(name)}\nsha256 = "{digest}"')
    typer.echo(f"sets = [{', '.join(map(quoted, sets or []))}]\nevents = [{', '.join(map(quoted, events or []))}]")


def quoted(text: str) -> str:
    """Write a text as TOML does."""
    import json  # noqa: PLC0415 - a JSON string is a TOML one

    return json.dumps(text, ensure_ascii=False)
