"""Files that one program holds at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from unskew.pipelines.errors import InputError


def hold(path: Path, what: str, advice: str) -> IO[str]:
    """Hold a file that only one program can, for as long as it is open.

    Raises
    ------
    InputError
        If another program has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        who = file.read().strip() or "unknown"
        file.close()
        message = f"{what} by process `{who}`; {advice}"
        raise InputError(message) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
