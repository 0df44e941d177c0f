"""Where the files of a run are: in a scratch of the one who starts it, and in a folder that all workers reach."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from unskew.pipelines.archive import read_current
from unskew.pipelines.errors import InputError

BYTES_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class Place:
    """The folders of one run.

    Parameters
    ----------
    own
        Scratch of this process, on the disk of the output.
    shared
        Folder of any of Beam's filesystems that workers read and write in; the scratch where none was named.
    """

    own: Path
    shared: str

    def at(self, name: str) -> str:
        """Return where workers find what has that name."""
        return f"{self.shared}/{name}"

    def put(self, name: str) -> str:
        """Let workers have a file of the scratch; return where they find it."""
        if self.shared != str(self.own):
            copy(str(self.own / name), self.at(name))
        return self.at(name)

    def lend(self, paths: Collection[str]) -> dict[str, str]:
        """Return where workers find Parquet files that are not ours: where they are, or beside a URL's folder as copies."""
        found = {}
        for each in paths:
            path = str(Path(each).absolute())  # workers have other working folders
            found[each] = self.at(f"lent-{uuid.uuid4().hex}.parquet") if is_remote(self.shared) else path
            if found[each] != path:
                read_current(Path(path), partial(copy, target=found[each]))
        return found

    def fetch(self, name: str) -> Path:
        """Return a folder of the scratch with all that workers wrote into the one of that name."""
        folder = self.own / name
        folder.mkdir(parents=True, exist_ok=True)
        if self.shared != str(self.own):
            for each in files_below(self.at(name)):
                target = folder / each.removeprefix(f"{self.at(name)}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                copy(each, str(target))
        return folder


@contextmanager
def shared_folder(location: str) -> Iterator[str]:
    """Give a new folder in a folder or below a URL; it goes with the run.

    Raises
    ------
    InputError
        If Beam has no filesystem of that kind.
    """
    try:
        root = location if is_remote(location) else str(Path(location).absolute())
        folder = FileSystems.join(root, f"unskew-{uuid.uuid4().hex}")
        FileSystems.mkdirs(folder)
    except ValueError as error:  # Beam's word for a scheme that it does not know
        message = f"temp_location `{location}` is of no kind that Beam can reach: {str(error).splitlines()[0]}"
        raise InputError(message) from error
    try:
        yield folder
    finally:
        remove(folder)


def is_remote(path: str) -> bool:
    """Return whether a path is a URL."""
    return "://" in path


def files_below(folder: str) -> list[str]:
    """Return all files of a folder and the folders in it."""
    if not is_remote(folder):
        return [str(each) for each in Path(folder).rglob("*") if each.is_file()]
    return [each.path for each in FileSystems.match([f"{folder}/**"])[0].metadata_list]


def remove(folder: str) -> None:
    """Remove a folder and all in it; what a dying worker still writes may stay."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        FileSystems.delete(files_below(folder))
    except BeamIOError:  # an object store has lifecycle rules for what stays
        pass


def copy(source: str | Path, target: str) -> None:
    """Copy a file between any of Beam's filesystems."""
    with reading(str(source)) as from_, FileSystems.create(target, compression_type="uncompressed") as to:
        shutil.copyfileobj(from_, to, BYTES_AT_ONCE)


def parquet_file(path: str) -> pq.ParquetFile:
    """Open a Parquet file of an archive, or of any of Beam's filesystems."""
    if not is_remote(path):
        return read_current(Path(path), pq.ParquetFile)
    return pq.ParquetFile(pa.PythonFile(FileSystems.open(path, compression_type="uncompressed"), mode="r"))


@contextmanager
def reading(path: str) -> Iterator[pa.NativeFile]:
    """Give a file of any of Beam's filesystems to read: a local one is mapped."""
    if not is_remote(path):
        with pa.memory_map(path) as file:
            yield file
        return
    with FileSystems.open(path, compression_type="uncompressed") as file:
        yield pa.PythonFile(file, mode="r")
