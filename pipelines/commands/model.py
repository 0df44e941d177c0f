"""`train` and `score`: the fraud model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unskew.pipelines.commands.online import asked_rows, open_store
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
    quiet_engines,
)
from unskew.pipelines.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from unskew.online.read import Reading


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: unskew train --defs feature_defs/fraud.py --set fraud --training-set build/training-set "
        "--label is_fraud --output build/model"
    )(train)
    app.command(
        epilog="Example: unskew score --model build/model --defs feature_defs/fraud.py --set fraud "
        "--store build/store.sqlite --at 2025-03-20 customer_id=7 terminal_id=3 amount=12.5"
    )(score)


def train(
    defs: Annotated[Path, typer.Option(help="Python file with the definitions.")] = Path("feature_defs/handbook.py"),
    name: SetName = None,
    training_set: Annotated[Path | None, typer.Option(help="Folder that `unskew backfill` wrote.")] = None,
    label: Annotated[str, typer.Option(help="Column of the label: booleans, or 0 and 1.")] = "is_fraud",
    time: Annotated[str, typer.Option(help="Column of the instant.")] = "t",
    label_delay: Annotated[
        str | None, typer.Option(help="How long a label takes to be known, e.g. 7d: a gap before the judged rows.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="New folder for the model.")] = None,
    protocol: Annotated[
        Literal["handbook"] | None, typer.Option(help="Judge the network instead, by this protocol.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="With --protocol: the handbook's transactions, Parquet.")] = None,
    as_json: Json = False,
) -> None:
    """Train a model on a training set and export it; or judge the network by the fraud handbook's protocol."""
    if protocol is not None:
        judge(defs, name, data, as_json=as_json)
        return
    if training_set is None or output is None:
        message = "give --training-set and --output, or --protocol handbook with --data"
        raise InputError(message)
    plan = load_plan(defs, name)
    from unskew.model.training import train as run  # noqa: PLC0415 - starts torch

    trained = run(training_set, plan, label=label, time=time, label_delay=label_delay, output=output)
    if as_json:
        print_json({"output": str(trained.folder), "metrics": trained.metrics, "ignored": trained.ignored})
        return
    for key, value in trained.metrics.items():
        typer.echo(f"{key}  {value:.6g}")
    typer.echo(f"the model is in {trained.folder}")


def judge(defs: Path, name: str | None, data: Path | None, *, as_json: bool) -> None:
    """Backfill the handbook's features and run its prequential test."""
    if data is None:
        message = "the protocol needs the handbook's transactions; give --data FILE"
        raise InputError(message)
    plan = load_plan(defs, name)
    from unskew.model.training import handbook  # noqa: PLC0415 - starts torch
    from unskew.pipelines.commands.walkthrough import handbook_training_set  # noqa: PLC0415 - starts Beam

    with quiet_engines():
        table = handbook_training_set(plan, data)
    outcome = handbook(table, plan)
    rows = {str(start): vars(each) for start, each in outcome.starts.items()}
    rows |= {"mean": vars(outcome.mean), "std": vars(outcome.std)}
    if as_json:
        print_json(rows)
        return
    for key, row in rows.items():
        typer.echo(f"{key:<12}" + "".join(f"  {metric} {value:.4f}" for metric, value in row.items()))


def model_inputs(reading: Reading, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return what a model reads: the features, and the request's columns as they were given."""
    import pyarrow as pa  # noqa: PLC0415 - `--help` needs none of it

    table = reading.table()
    for each in reading.plan.request:
        table = table.append_column(each.name, pa.array([row[each.name] for row in rows]))
    return table


def score(
    model: Annotated[Path, typer.Option(help="Folder of the model.")],
    defs: Defs,
    store: Store,
    at: At,
    cells: Cells = None,
    rows: Rows = None,
    name: SetName = None,
    as_json: Json = False,
) -> None:
    """Read features online and score them; refused if the model was trained on other definitions."""
    plan = load_plan(defs, name)
    asked, when = asked_rows(plan, cells, rows), instant(at)
    from unskew.model.scoring import Scorer  # noqa: PLC0415 - starts ONNX Runtime
    from unskew.online.read import FeatureReader  # noqa: PLC0415

    scorer = Scorer.load(model)
    scorer.check(plan.fingerprints())
    with open_store(store) as opened:
        reading = FeatureReader(plan, opened).read(asked, when)
    found = scorer.score(model_inputs(reading, asked)).tolist()
    if as_json:
        print_json({"at": when, "fingerprint": scorer.description.fingerprint, "scores": found})
        return
    for each in found:
        typer.echo(f"{each:.6f}")
