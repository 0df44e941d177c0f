"""A folder for checkpoints that can be full."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

ROOM = 64 << 20  # bytes; the checkpoints of a world take a few MB


class SmallDisk:
    """A folder on a file system of its own; where mounting is not permitted, a file takes its place while it is full."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler, self.away = folder, folder / "filler", folder.with_suffix(".away")
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
        self.mounted = (
            shutil.which("mount") is not None
            and subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode == 0
        )

    def fill(self) -> None:
        """Leave no byte; again, where something was deleted since."""
        if self.mounted:
            with self.filler.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(1 << 20))
        elif not self.away.exists():
            self.folder.rename(self.away)
            self.folder.touch()

    @contextmanager
    def kept_full(self) -> Iterator[None]:
        """Keep it full: what fails to be written is deleted, and the room that leaves is taken."""
        over = Event()

        def fill() -> None:
            while not over.wait(0.05):
                self.fill()

        thread = Thread(target=fill)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def free(self) -> None:
        """Leave all the room there was."""
        if self.away.exists():
            self.folder.unlink()
            self.away.rename(self.folder)
        self.filler.unlink(missing_ok=True)

    def end(self) -> None:
        """Unmount it, whoever still has files of it."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
