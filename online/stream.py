"""Runs a compiled Flink job over a folder of JSON lines, and checks its account.

``read = quarantined + late + duplicates + filtered + applied``: `read` is counted here from the
files, quarantined and late from the rows that the job wrote, applied and filtered from the tiles
and the rows that a view has no key for; each is compared with the job's own counts.
"""

from __future__ import annotations

import base64
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from unskew.online.java import java_home
from unskew.pipelines.backends.flink import FlinkJob, Stream, compile_source
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.plan import SetPlan

ARROW_TYPES = {"BIGINT": pa.int64(), "STRING": pa.string(), "BOOLEAN": pa.bool_(), "BYTES": pa.binary()}
CHECKPOINTS = "_checkpoints"
ACCOUNT = "account.json"
BLOCK = 1 << 20


@dataclass(frozen=True)
class Account:
    """How many lines had which fate; `reasons` splits the quarantined."""

    read: int
    quarantined: int
    late: int
    duplicates: int
    filtered: int
    applied: int
    reasons: dict[str, int]


def run_stream(
    plan: SetPlan,
    source: str,
    input_folder: str | Path,
    output_folder: str | Path,
    *,
    parallelism: int = 1,
    watch: bool = False,
    resume: bool = False,
    checkpoint_interval: str = "10s",
) -> Account:
    """Run all views of a source in an embedded Flink, to the end of the input.

    Parameters
    ----------
    plan, source
        What to compute.
    input_folder
        JSON lines; hidden files are not read.
    output_folder
        A folder for each stream, the checkpoints, ``account.json``. New or empty unless `resume`.
    parallelism
        Above 1 the order of copies of an identity is Flink's choice.
    watch
        Wait for further files, until the job is cancelled.
    resume
        Continue from the newest complete checkpoint.
    checkpoint_interval
        Flink's notation, e.g. ``10s``.

    Raises
    ------
    InputError
        If a folder cannot be used.
    EngineError
        If Java or Flink fail, or the account does not add up.
    """
    given, out = Path(input_folder).resolve(), Path(output_folder).resolve()
    check_folders(given, out, resume=resume)
    job = compile_source(plan, source, given, out, watch=watch)
    execute(job, runtime_settings(out, parallelism, checkpoint_interval, resume=resume))
    account = take_account(job, given, out)
    write_aside(out / ACCOUNT, json.dumps(asdict(account), indent=2) + "\n")
    return account


def check_folders(given: Path, out: Path, *, resume: bool) -> None:
    """Refuse a missing input, and an output that another run has written."""
    if not given.is_dir():
        message = f"input folder `{given}` does not exist; give a folder of JSON lines"
        raise InputError(message)
    if not resume and out.exists() and any(out.iterdir()):
        message = f"output folder `{out}` is not empty; choose a new one or resume"
        raise InputError(message)
    out.mkdir(parents=True, exist_ok=True)


def runtime_settings(out: Path, parallelism: int, interval: str, *, resume: bool) -> dict[str, str]:
    """Return how the job runs; what it means is in the job's own settings."""
    settings = {
        "parallelism.default": str(parallelism),
        "execution.checkpointing.interval": interval,
        "execution.checkpointing.storage": "filesystem",  # the default keeps 5 MB in the JobManager
        "execution.checkpointing.dir": (out / CHECKPOINTS).as_uri(),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "3",
        "restart-strategy.fixed-delay.delay": "1 s",
    }
    if resume:
        settings["execution.state-recovery.path"] = newest_checkpoint(out / CHECKPOINTS).as_uri()
    return settings


def newest_checkpoint(folder: Path) -> Path:
    """Return the newest checkpoint that is complete: its metadata is written last."""
    complete = sorted(folder.glob("*/chk-*/_metadata"), key=lambda each: each.stat().st_mtime_ns)
    if not complete:
        message = f"folder `{folder}` holds no complete checkpoint; run without resume into a new folder"
        raise InputError(message)
    return complete[-1].parent


def execute(job: FlinkJob, settings: dict[str, str]) -> None:
    """Submit the statement set and wait for its end."""
    os.environ["JAVA_HOME"] = str(java_home())
    from pyflink.common import Configuration  # noqa: PLC0415 - the import starts a JVM's classpath
    from pyflink.table import EnvironmentSettings, TableEnvironment  # noqa: PLC0415

    configuration = Configuration()
    for name, value in (*job.settings, *settings.items()):
        configuration.set_string(name, value)
    mode = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # py4j's and PyFlink's own
        submit(job, TableEnvironment, mode)


def submit(job: FlinkJob, table_environment: Any, mode: Any) -> None:
    """Declare the tables, run the inserts as one job; name the innermost cause of a failure."""
    try:
        environment = table_environment.create(mode)
        for each in job.declarations:
            environment.execute_sql(each)
        together = environment.create_statement_set()
        for each in job.inserts:
            together.add_insert_sql(each)
        together.execute().wait()
    except Exception as error:  # py4j has one class for all that Java throws
        causes = [each.strip() for each in str(error).splitlines() if each.strip().startswith("Caused by")]
        message = f"flink job of source `{job.source}` failed: `{(causes or str(error).splitlines())[-1]}`; see its log"
        raise EngineError(message) from error


# Reading what the job wrote


def parts(folder: Path) -> list[Path]:
    """Return the committed files of a folder: by subtask, then in the order they were written."""
    found = [each for each in folder.rglob("*") if each.is_file() and not each.name.startswith((".", "_"))]

    def order(path: Path) -> tuple[int, int, int]:
        *_, task, number = path.name.split("-")
        return int(task), path.stat().st_mtime_ns, int(number)

    return sorted(found, key=order)


def read_rows(folder: Path, *, updating: bool) -> Iterator[dict[str, Any]]:
    """Yield the upserts of a stream in order."""
    for path in parts(folder):
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                row = json.loads(line)
                if not updating:
                    yield row
                elif row["op"] == "c":
                    yield row["after"]


def read_changelog(folder: str | Path, stream: Stream) -> pa.Table:
    """Read a stream's rows, in the order in which the job wrote them.

    Parameters
    ----------
    folder
        Output folder of a run.
    stream
        One of the job's streams; of an updating one the upserts are read, not the deletes before them.

    Returns
    -------
    pyarrow.Table
        The stream's columns.
    """
    rows = list(read_rows(Path(folder) / stream.name, updating=stream.updating))
    for row in rows:
        for name, kind in stream.columns:
            if kind == "BYTES" and row[name] is not None:
                row[name] = base64.b64decode(row[name])
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in stream.columns])
    return pa.Table.from_pylist(rows, schema)


def final_rows(folder: Path, stream: Stream) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the last upsert of each key."""
    rows = read_rows(folder / stream.name, updating=stream.updating)
    return {tuple(row[each] for each in stream.key): row for row in rows}


# The account


def count_lines(folder: Path) -> int:
    """Count the lines of all files that Flink reads; a last line needs no end."""
    found = 0
    for path in folder.rglob("*"):
        if path.is_file() and not any(each.startswith((".", "_")) for each in path.relative_to(folder).parts):
            found += lines_of(path)
    return found


def lines_of(path: Path) -> int:
    """Count the lines of a file."""
    ends, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            ends += block.count(b"\n")
            last = block[-1:]
    return ends + (last != b"\n")


def take_account(job: FlinkJob, given: Path, out: Path) -> Account:
    """Count every line once, from what the job wrote, and compare with its own counts."""
    named = {each.name: each for each in job.streams}
    counted = {row["fate"]: row["n"] for row in final_rows(out, named["fates"]).values()}
    reasons = Counter(row["reason"] for row in read_rows(out / "quarantine", updating=False))
    late = sum(1 for _ in read_rows(out / "late", updating=False))
    skipped = list(read_rows(out / "skipped", updating=False))
    tiles = [each for each in job.streams if each.kind == "tiles"]
    applied = {each.view: sum(row["n"] for row in final_rows(out, each).values()) for each in tiles}
    without = Counter(row["view"] for row in skipped)
    unique = {view: n + without[view] for view, n in applied.items()}
    accepted = counted.get("accepted", 0)
    require_equal("lines", count_lines(given), sum(counted.values()))
    require_equal("quarantined rows", sum(reasons.values()), counted.get("quarantined", 0))
    require_equal("late rows", late, counted.get("late", 0))
    first = next(iter(unique.values()))
    for view, n in unique.items():
        require_equal(f"rows of view {view}", n, first)
    filtered = sum(1 for row in skipped if row["view"] is None)
    if first > accepted:
        require_equal("accepted rows", first, accepted)
    return Account(
        sum(counted.values()), sum(reasons.values()), late, accepted - first, filtered, first - filtered, dict(reasons)
    )


def require_equal(what: str, found: int, expected: int) -> None:
    """Refuse an account that does not add up."""
    if found != expected:
        message = f"account does not add up: `{found}` {what}, but the job counted `{expected}`; do not use the output"
        raise EngineError(message)


def write_aside(path: Path, content: str) -> None:
    """Write a file under another name and rename it: a reader sees all of it or none."""
    aside = path.with_name(f".{path.name}.aside")
    aside.write_text(content, encoding="utf-8")
    aside.replace(path)
