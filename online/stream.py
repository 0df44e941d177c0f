"""Runs a compiled Flink job over a folder of JSON lines, and checks its account."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from threading import Event

from unskew.online.account import Account, take_account
from unskew.online.changelog import read_changelog
from unskew.online.checkpoints import CHECKPOINTS, newest_checkpoint, require_living
from unskew.online.flink_process import execute
from unskew.online.stream_input import STAGED, input_files, lines_of, one_file
from unskew.pipelines.backends.flink import compile_source
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SetPlan

__all__ = ["Account", "read_changelog", "run_stream"]
ACCOUNT = "account.json"
RUN = "run.json"
BRIEF = 8 << 20  # bytes of input up to which a run is over before Java's second compiler has paid


def run_stream(
    plan: SetPlan,
    source: str,
    input_folder: str | Path,
    output_folder: str | Path,
    *,
    since: int | None = None,
    watch: bool = False,
    stop: Event | None = None,
    resume: bool = False,
    checkpoint_interval: str = "10s",
) -> Account:
    """Run all views of a source in an embedded Flink, to the end of the input.

    The rows are read in the order of the files' names and of their lines. The job runs in a process of its own,
    which ends with this one.

    Parameters
    ----------
    plan, source
        What to compute.
    input_folder
        JSON lines; hidden files are not read.
    output_folder
        A folder for each stream, the checkpoints, ``account.json``. New or empty unless `resume`.
    since
        First event time (ms) to keep: the upload's `batch_end`.
    watch
        Read files as they appear, until `stop` is set. Files that are found by the same look, one a second, are
        read in Flink's order.
    stop
        Set it to end a watched run: what was read is committed, and `resume` goes on there.
    resume
        Continue from the newest complete checkpoint.
    checkpoint_interval
        Flink's notation, e.g. ``10s``.

    Raises
    ------
    InputError
        If a folder cannot be used, or the checkpoint is older than its state may be.
    EngineError
        If Java or Flink fail, or the account does not add up.
    """
    given, out = Path(input_folder).resolve(), Path(output_folder).resolve()
    files = [] if watch and given.is_dir() else input_files(given)
    prepare_output(out, resume=resume)
    if not (out / RUN).exists():
        write_aside(out / RUN, json.dumps({"id": uuid.uuid4().hex}) + "\n")
    start = newest_checkpoint(out / CHECKPOINTS) if resume else None
    if resume and start is None:
        message = f"folder `{out / CHECKPOINTS}` holds no complete checkpoint; run without resume into a new folder"
        raise InputError(message)
    if watch and start is not None:
        instead = "replay the log since the upload's batch_end into a new folder"
        require_living(start, time.time_ns() // 1_000_000, instead)
    origin = given if watch else one_file(files, out)
    job = compile_source(plan, source, origin, out, watch=watch, since=since)
    brief = not watch and sum(each.stat().st_size for each in files) < BRIEF
    execute(job, runtime_settings(out, checkpoint_interval, start), out, out / CHECKPOINTS, stop, brief=brief)
    account = take_account(job, out, lines=None if watch else sum(lines_of(each) for each in files))
    shutil.rmtree(out / STAGED, ignore_errors=True)
    write_aside(out / ACCOUNT, json.dumps(asdict(account), indent=2) + "\n")
    return account


def run_id(folder: str | Path) -> str:
    """Return the name of a run, which its resumptions share: the job epoch of its tiles in a store."""
    path = Path(folder) / RUN
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"folder `{folder}` is no stream's output: its {RUN} cannot be read; run `unskew stream`"
        raise InputError(message) from error


def prepare_output(out: Path, *, resume: bool) -> None:
    """Make the output folder; refuse one that another run has written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        full = any(out.iterdir())
    except OSError as error:
        message = f"output folder `{out}` cannot be made: {error.strerror}; name a folder that can"
        raise InputError(message) from error
    if full and not resume:
        message = f"output folder `{out}` is not empty; choose a new one or resume"
        raise InputError(message)


def runtime_settings(out: Path, interval: str, start: Path | None) -> dict[str, str]:
    """Return how the job runs; what it means is in the job's own settings."""
    settings = {
        "execution.checkpointing.interval": interval,
        "execution.checkpointing.storage": "filesystem",  # the default keeps 5 MB in the JobManager
        "execution.checkpointing.dir": (out / CHECKPOINTS).as_uri(),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "3",
        "restart-strategy.fixed-delay.delay": "1 s",
    }
    if start is not None:
        settings["execution.state-recovery.path"] = start.as_uri()
    return settings


def write_aside(path: Path, content: str) -> None:
    """Write a file under another name and rename it: a reader sees all of it or none."""
    aside = path.with_name(f".{path.name}.aside")
    aside.write_text(content, encoding="utf-8")
    aside.replace(path)
