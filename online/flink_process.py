"""Starts the process that runs Flink, waits for it, and turns what goes wrong into one line."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

from unskew.online.java import LEAST_PROCESSOR, SHORT_WORK, java_home
from unskew.online.scratch import scratch
from unskew.pipelines.backends.flink import FlinkJob
from unskew.pipelines.errors import EngineError

LOGS = "_logs"
COLLECTOR = "-XX:+UseParallelGC"  # state lives on the heap: the default collector costs a quarter of the throughput
BRIEF_WORK, FEW = f"{LEAST_PROCESSOR} {SHORT_WORK}", 16  # for jobs of few statements: planning many is work enough
TICK = 0.1  # s between two looks at the process
LEAST_FREE, PATIENCE = 1 << 16, 10.0  # bytes below which a disk counts as full, s after which that ends a run


def execute(
    job: FlinkJob, settings: dict[str, str], out: Path, savepoints: Path, stop: Event | None, *, detached: bool = False,
    brief: bool = False,
) -> str:  # fmt: skip
    """Run a job in a process of its own, which ends with this one; return the job's id.

    Parameters
    ----------
    settings
        How it runs, beside the job's own settings.
    out
        Its output folder; Flink's log goes below it.
    savepoints
        Where a stopped job leaves its state.
    stop
        Set it to end a job that watches its input.
    detached
        Only hand it over to the cluster that the settings name.
    brief
        Whether its input is read before Java's second compiler has paid.

    Raises
    ------
    EngineError
        If there is no Java, the job fails or its process is killed.
    """
    logs = out / LOGS
    logs.mkdir(exist_ok=True)
    request = {
        "settings": {**dict(job.settings), **settings},
        "declarations": job.declarations,
        "inserts": job.inserts,
        "savepoints": savepoints.as_uri(),
        "detached": detached,
    }
    options = BRIEF_WORK if (brief or detached) and len(job.inserts) <= FEW else COLLECTOR
    with scratch("unskew-flink-") as work:  # Java is killed in the end, and leaves 70 MB of jars
        with (logs / "process.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "unskew.online.flink_child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
                env=environment(logs, work, options), start_new_session=True,
            )  # fmt: skip
        with process:
            try:
                answer = converse(process, json.dumps(request), stop, out)
            finally:
                end(process)
    return judge(job.source, answer, process.returncode, logs)


def environment(logs: Path, work: str, options: str) -> dict[str, str]:
    """Return the variables of the process: where its Java is, logs, and keeps temporary files."""
    further = f'{os.environ.get("JDK_JAVA_OPTIONS", "")} "-Djava.io.tmpdir={work}"'
    own = {"JAVA_HOME": str(java_home()), "FLINK_LOG_DIR": str(logs), "TMPDIR": work}
    return {"JVM_ARGS": options, **os.environ, **own, "JDK_JAVA_OPTIONS": further.strip()}


def converse(process: subprocess.Popen[str], request: str, stop: Event | None, out: Path) -> str:
    """Hand the job over and wait for the answer; pass the word to stop on, once.

    Raises
    ------
    EngineError
        If the disk of the output is full: Flink then waits for ever for a checkpoint that it cannot write.
    """
    say(process, request)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    told, full = False, 0
    while not select.select([process.stdout], [], [], TICK)[0]:
        if stop is not None and not told and stop.is_set():
            told = True
            say(process, "stop")
        full = full + 1 if shutil.disk_usage(out).free < LEAST_FREE else 0
        if full * TICK > PATIENCE:
            message = (
                f"disk of `{out}` is full; nothing that was committed is lost: free some room and resume, or start anew"
            )
            raise EngineError(message)
    return process.stdout.readline()


def say(process: subprocess.Popen[str], line: str) -> None:
    """Send one line; a process that is gone shows in its answer."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass


def end(process: subprocess.Popen[str]) -> None:
    """End the process and the Java below it: both are in the group that it leads."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def judge(source: str, answer: str, code: int, logs: Path) -> str:
    """Return the job's id; raise for one that failed or gave no answer."""
    if not answer:
        message = f"process of the flink job of source `{source}` ended with code `{code}`; resume it, or see `{logs}`"
        raise EngineError(message)
    found = json.loads(answer)
    if found["error"]:
        message = (
            f"flink job of source `{source}` failed: `{found['error']}`; correct that and resume it, or see `{logs}`"
        )
        raise EngineError(message)
    return str(found["job"])
