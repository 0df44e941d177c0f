"""The whole path on one log: archive, training set, upload, stream, reads, parity, model, scores."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.model.network import Settings
from unskew.model.scoring import Scorer
from unskew.model.training import Trained, train
from unskew.online.materialise import materialise
from unskew.online.read import FeatureReader
from unskew.online.store_sqlite import SqliteStore
from unskew.online.stream import run_stream
from unskew.online.upload import load_upload
from unskew.pipelines.backends.beam_sql import Flip
from unskew.pipelines.commands.model import model_inputs
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.timegrid import DAY
from unskew.validation.compare import same_cells
from unskew.validation.log import Log, read_logs, write_lines
from unskew.validation.parity import Report, parity
from unskew.validation.report import summary

ARCHIVED = 0.85  # share of the log's time that the archive holds
SCORED = 1_000  # transactions scored at the end
WARM_UP = 30 * DAY  # ms before the first row of the training set: the longest window


@dataclass(frozen=True)
class Scenario:
    """What a demo runs on.

    Parameters
    ----------
    plan, events
        The set, and its events as `backfill` takes them.
    main
        Source whose rows are scored.
    spine
        SQL over the table ``main`` (and ``labels``) for the training set's rows: keys, request columns, ``t``, ``label``.
    """

    plan: SetPlan
    events: Any
    main: str
    spine: str


@dataclass
class Result:
    """What a demo left behind, and what it measured: seconds by step, figures by name."""

    folder: Path
    report: Report
    trained: Trained
    seconds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


Progress = Callable[[str], None]


def simulated(plan: SetPlan, log: Path) -> Scenario:
    """Return the scenario of a simulated log with labels as a stream of their own."""
    spine = (
        "SELECT m.transaction_id, m.customer_id, m.terminal_id, m.amount, m.event_time AS t, l.is_fraud AS label "
        "FROM main AS m JOIN (SELECT transaction_id, any_value(is_fraud) AS is_fraud FROM labels GROUP BY ALL) AS l "
        "USING (transaction_id) QUALIFY row_number() OVER (PARTITION BY m.transaction_id ORDER BY m._seq) = 1"
    )
    return Scenario(plan, {each.name: log / each.name for each in plan.sources}, "transactions", spine)


def handbook_like(plan: SetPlan, data: Path) -> Scenario:
    """Return the scenario of a table like the fraud handbook's, with the label as a column."""
    columns = ["TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_DATETIME", "TX_FRAUD"]
    spine = f"SELECT {', '.join(columns)}, TX_DATETIME AS t, TX_FRAUD AS label FROM main"
    return Scenario(plan, data, plan.sources[0].name, spine)


def handbook_training_set(plan: SetPlan, data: Path) -> pa.Table:
    """Backfill a set of the handbook's transactions at one millisecond after each (its windows include the transaction).

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if not data.is_file():
        message = f"data `{data}` does not exist; give the handbook's transactions as one Parquet file"
        raise InputError(message)
    columns = ["TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_DATETIME", "TX_FRAUD"]
    table = pq.read_table(data, columns=columns)
    return backfill(plan, data, table.append_column("t", pc.add(table["TX_DATETIME"], pa.scalar(1, pa.duration("ms")))))


def run_demo(scenario: Scenario, folder: Path, probes: int, progress: Progress = lambda _: None) -> Result:
    """Run the whole path and leave its outputs in `folder`.

    Parameters
    ----------
    folder
        New or empty.
    probes
        Of the parity check.
    progress
        Called with each step.

    Raises
    ------
    EngineError
        If the features that were scored are not the backfill's, bit for bit.
    """
    plan, seconds = scenario.plan, {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        progress(name)
        began = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - began, 2)

    folder.mkdir(parents=True, exist_ok=True)
    with step("archive"):
        logs = read_logs(plan, scenario.events)
        cut = cut_of(logs)
        archive = write_archive(logs, cut, folder / "archive")
    with step("training set"):
        spine = labelled_spine(scenario, logs)
        made = backfill(plan, {name: each.table for name, each in logs.items()}, spine, output=folder / "training-set")
    with step("upload"):
        upload(plan, archive, cut=cut, output=folder / "upload")
    with SqliteStore(folder / "store.sqlite") as store:
        load_upload(store, plan, folder / "upload", cut)
        fates = {}
        for name, log in logs.items():
            with step(f"stream {name}"):
                fates[name] = stream_rest(plan, store, log, cut, folder)
        with step("parity"):
            report = parity(plan, scenario.events, probes=probes, progress=progress)
            write_report(report, folder)
        with step("train"):
            trained = train(
                folder / "training-set",
                plan,
                label="label",
                label_delay="7d",
                output=folder / "model",
                settings=Settings(members=3),
            )
        with step("score"):
            figures = score(scenario, store, logs, folder)
    figures |= {"fates": fates, "training_rows": made["rows"]}
    return Result(folder, report, trained, seconds, figures)


def cut_of(logs: dict[str, Log]) -> int:
    """Return up to when the archive is complete by arrival, ms."""
    first = min(int(each.arrival[0]) for each in logs.values())
    last = max(int(each.arrival[-1]) for each in logs.values())
    return first + int((last - first) * ARCHIVED)


def write_archive(logs: dict[str, Log], cut: int, folder: Path) -> dict[str, Path]:
    """Write what had arrived before the cut, as Parquet by source."""
    found = {}
    for name, log in logs.items():
        found[name] = folder / name
        found[name].mkdir(parents=True)
        pq.write_table(
            log.table.filter(pa.array(log.arrival < cut)), found[name] / "part-000000.parquet", compression="zstd"
        )
    return found


def labelled_spine(scenario: Scenario, logs: dict[str, Log]) -> pa.Table:
    """Return the training set's rows: labelled transactions once the windows have filled."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, log in logs.items():
            connection.register("main" if name == scenario.main else name, log.table.filter(pa.array(log.sound)))
        table = connection.sql(scenario.spine).to_arrow_table()
    first = int(logs[scenario.main].arrival[0]) + WARM_UP
    return table.filter(pc.greater_equal(table["t"].cast(pa.int64()), first))


def stream_rest(plan: SetPlan, store: SqliteStore, log: Log, cut: int, folder: Path) -> dict[str, Any]:
    """Stream what the upload does not hold, and write it into the store."""
    since = log.source.batch_end(cut)
    lines = folder / "lines" / log.source.name
    lines.mkdir(parents=True)
    write_lines(log.rest(since - log.source.max_future_skew), lines / "000000000000.jsonl")
    account = run_stream(plan, log.source.name, lines, folder / "stream" / log.source.name, since=since)
    materialise(store, plan, log.source.name, folder / "stream" / log.source.name, "demo")
    return vars(account)


def write_report(report: Report, folder: Path) -> None:
    """Write the parity report."""
    content = json.dumps(report.to_json(), indent=1, default=str, ensure_ascii=False)
    (folder / "parity.json").write_text(content + "\n", encoding="utf-8")
    (folder / "parity.txt").write_text(summary(report), encoding="utf-8")


def score(scenario: Scenario, store: SqliteStore, logs: dict[str, Log], folder: Path) -> dict[str, Any]:
    """Read the newest transactions' entities online just after the log's end, and score them.

    Raises
    ------
    EngineError
        If a feature differs from the backfill's at the same instant.
    """
    plan = scenario.plan
    scorer = Scorer.load(folder / "model")
    scorer.check(plan.fingerprints())
    now = 1 + max(int(each.ts[each.sound & ~each.late].max()) for each in logs.values())
    wanted = [*plan.spine_keys(), *(each.name for each in plan.request)]
    newest = logs[scenario.main].table.filter(pa.array(logs[scenario.main].sound))
    rows = newest.slice(max(newest.num_rows - SCORED, 0)).select(list(dict.fromkeys(wanted)))
    reader, asked = FeatureReader(plan, store), rows.to_pylist()
    began = time.perf_counter()
    reading = reader.read(asked, now)
    milliseconds = (time.perf_counter() - began) * 1_000
    found = reading.table()
    probabilities = scorer.score(model_inputs(reading, asked))
    flips = [flip for each in plan.sources for flip in known_flips(store, each.name)]
    spine = rows.append_column("t", pa.array(np.full(rows.num_rows, now)))
    events = {name: each.table for name, each in logs.items()}
    spine = spine.append_column("asof", pa.array(np.full(rows.num_rows, 2**62)))
    expected = backfill(plan, events, spine, as_of="position", sequence="_seq", flips=flips)
    for name in plan.fingerprints():
        wrong = int((~same_cells(found[name], expected[name])).sum())
        if wrong:
            message = f"feature `{name}` of {wrong} scored rows is not the backfill's; run `unskew parity` to see why"
            raise EngineError(message)
    pq.write_table(found.append_column("score", pa.array(probabilities)), folder / "scores.parquet")
    return {"scored": rows.num_rows, "read_ms": round(milliseconds, 2), "highest_score": float(probabilities.max())}


def known_flips(store: SqliteStore, source: str) -> list[Flip]:
    """Return a source's recorded flips, known from the first position on."""
    return [Flip(each.cut, each.batch_end, 0, source) for each in store.flips(source)]
