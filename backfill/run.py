"""Runs a Beam pipeline, and turns what fails in it into one line."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from unskew.backfill.place import Place, shared_folder
from unskew.pipelines.errors import EngineError, InputError, UnskewError, nearest

EVERY_CORE = ("--direct_running_mode=multi_threading", "--direct_num_workers=0")
ROWS_PER_BUCKET = 1 << 19  # of events and spine together; a bucket is what one worker holds at a time
IN_MEMORY = "--direct_running_mode=in_memory"
SHARED_ROWS = 50_000_000  # of events and spine: with more, names of shuffled files fill Beam's channels between workers
JOB_SERVERS = ("PortableRunner", "FlinkRunner", "SparkRunner", "DataflowRunner", "PrismRunner")
CAUSE = re.compile(
    r"^(?P<kind>[\w.]*(?:Error|Exception|Exit)): (?P<message>.*?)(?: \[while running .*)?$", re.MULTILINE
)


@contextmanager
def running(options: Sequence[str]) -> Iterator[Pipeline]:
    """Give a pipeline to build, and run it to its end.

    Parameters
    ----------
    options
        Flags of Beam, such as ``--runner=...``.

    Raises
    ------
    InputError
        If Beam does not know a flag, or refuses its value.
    EngineError
        If a worker fails; the message is the innermost cause.
    """
    checked = beam_options(options)
    try:
        with Pipeline(options=checked) as pipeline:
            yield pipeline
    except UnskewError:
        raise
    except Exception as error:  # a runner may wrap a worker's traceback into any class of its own
        raise EngineError(cause_of(f"{type(error).__name__}: {error}")) from error


def for_rows(options: Sequence[str], rows: int) -> Sequence[str]:
    """Return the options; one worker for more rows than workers share safely, unless the options choose.

    Examples
    --------
    >>> for_rows((), 100), for_rows((), 10**8), for_rows(("--direct_num_workers=2",), 10**8)
    ((), ('--direct_running_mode=in_memory',), ('--direct_num_workers=2',))
    """
    return options if rows <= SHARED_ROWS or chooses_runner(options) else (*options, IN_MEMORY)


def chooses_runner(options: Sequence[str]) -> bool:
    """Return whether the options say which runner, or how the direct one runs."""
    return any(each.startswith(("--runner", "--direct_")) for each in options)


def beam_options(options: Sequence[str]) -> PipelineOptions:
    """Return Beam's options; it would pass over a flag that it does not know.

    Raises
    ------
    InputError
        If Beam does not know a flag of its own runners, or refuses its value.
    """
    chosen = chooses_runner(options)
    found, said = PipelineOptions([*options, *(() if chosen else EVERY_CORE)]), StringIO()
    try:
        with redirect_stderr(said):  # argparse prints all flags before it exits
            every = found.get_all_options(drop_default=True, retain_unknown_options=True)
            known = found.get_all_options(drop_default=True)
    except SystemExit as error:
        message = f"beam's options `{' '.join(options)}` are refused: {said.getvalue().splitlines()[-1].split(': error: ')[-1]}"
        raise InputError(message) from error
    unknown = sorted(set(every) - set(known))
    # a job server may know flags that Beam does not
    if unknown and known.get("runner") not in JOB_SERVERS:
        message = f"beam has no flag `--{unknown[0]}`; {nearest(unknown[0], PipelineOptions().get_all_options())}"
        raise InputError(message)
    if options and not options[0].startswith("-"):
        message = f"`{options[0]}` is no flag of Beam; give it as `--name=value`, such as `--runner=DirectRunner`"
        raise InputError(message)
    return found


@contextmanager
def scratch_beside(target: Path | None) -> Iterator[Path]:
    """Give a hidden folder beside the output, on the same disk, that goes with the run.

    Raises
    ------
    EngineError
        If it cannot be written: a full disk, a folder without rights.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".unskew-", dir=target and target.absolute().parent) as scratch:
            yield Path(scratch)
    except OSError as error:
        message = f"output cannot be written: `{error}`; nothing was left; free some room or name another place"
        raise EngineError(message) from error


@contextmanager
def sharing(options: Sequence[str], scratch: Path) -> Iterator[Place]:
    """Give the folders of a run: workers read and write in Beam's ``--temp_location``, else in the scratch."""
    location = beam_options(options).get_all_options()["temp_location"]
    if location is None:
        yield Place(scratch, str(scratch))
        return
    with shared_folder(location) as folder:
        yield Place(scratch, folder)


def buckets(rows: int) -> int:
    """Return into how many buckets to part the entities of so many rows: enough for every core of this machine."""
    return max(os.cpu_count() or 1, -(-rows // ROWS_PER_BUCKET))


def cause_of(traceback: str) -> str:
    r"""Return the last cause that a traceback names; our own errors speak for themselves.

    Examples
    --------
    >>> cause_of("RuntimeError: Traceback\n  x\nOSError: [Errno 28] No space left on device [while running 'write']")
    'beam failed: `OSError: [Errno 28] No space left on device`; nothing was written; see it whole with --debug'
    """
    found = list(CAUSE.finditer(traceback))
    if not found:
        return f"beam failed: `{traceback.splitlines()[0]}`; nothing was written; see it whole with --debug"
    kind, message = found[-1]["kind"], found[-1]["message"]
    if kind.startswith("unskew."):
        return message
    return f"beam failed: `{kind}: {message}`; nothing was written; see it whole with --debug"
