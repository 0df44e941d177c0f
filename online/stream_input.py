"""The input of a job: one file, for Flink reads several in no order.

Flink's file source hands out the files of a folder from a hash set. So a bounded run over several files reads
one that holds them all, in the order of their names.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from unskew.online.changelog import visible
from unskew.pipelines.errors import InputError

STAGED = "_input"
BLOCK = 1 << 24


def input_files(folder: Path) -> list[Path]:
    """Return the files of a folder in the order of their names.

    Raises
    ------
    InputError
        If the folder is missing or holds no file.
    """
    if not folder.is_dir():
        reason = "is a file" if folder.exists() else "does not exist"
        message = f"input folder `{folder}` {reason}; give a folder of JSON lines"
        raise InputError(message)
    found = visible(folder)
    if not found:
        message = f"input folder `{folder}` holds no file; give a folder of JSON lines"
        raise InputError(message)
    return found


def one_file(files: list[Path], out: Path) -> Path:
    """Return one file with all lines: the only one, or a copy below the output that a resumed run uses again.

    Raises
    ------
    InputError
        If the files are not those of the run that is resumed.
    """
    if len(files) == 1:
        return files[0]
    staged = out / STAGED / "lines.jsonl"
    size = sum(each.stat().st_size + (not ends_a_line(each)) for each in files)
    if staged.exists() and staged.stat().st_size != size:
        message = f"input `{files[0].parent}` is not what the run began with; restore it, or run into a new folder"
        raise InputError(message)
    if not staged.exists():
        join(files, staged)
    return staged


def ends_a_line(path: Path) -> bool:
    """Return whether a file is empty or its last line has an end."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read() == b"\n"


def join(files: list[Path], target: Path) -> None:
    """Write all files into one; it appears whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.aside")
    with aside.open("wb") as together:
        for each in files:
            with each.open("rb") as file:
                shutil.copyfileobj(file, together, BLOCK)
            if not ends_a_line(each):
                together.write(b"\n")
    aside.replace(target)


def lines_of(path: Path) -> int:
    """Count the lines of a file; a last line needs no end."""
    ends = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            ends += block.count(b"\n")
    return ends + (not ends_a_line(path))
