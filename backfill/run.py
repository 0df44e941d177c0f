"""Runs a Beam pipeline, and turns what fails in it into one line."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from unskew.pipelines.errors import EngineError, UnskewError

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
    EngineError
        If a worker fails; the message is the innermost cause.
    """
    try:
        with Pipeline(options=PipelineOptions([*options])) as pipeline:
            yield pipeline
    except UnskewError:
        raise
    except Exception as error:  # a runner may wrap a worker's traceback into any class of its own
        raise EngineError(cause_of(f"{type(error).__name__}: {error}")) from error


@contextmanager
def scratch_beside(target: Path | None) -> Iterator[Path]:
    """Give a hidden folder beside the output, on the same disk, that goes with the run.

    Raises
    ------
    EngineError
        If it cannot be written: a full disk, a folder without rights.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".unskew-", dir=target and target.parent) as scratch:
            yield Path(scratch)
    except OSError as error:
        message = f"output cannot be written: `{error}`; nothing was left; free some room or name another place"
        raise EngineError(message) from error


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
