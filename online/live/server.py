"""What the servers here have in common: each is started, answers, and is ended with the block that it is used in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from unskew.online.live.held import hold
from unskew.online.live.processes import Process
from unskew.pipelines.errors import InputError

LOCK = ".unskew.lock"


class Server(ABC):
    """A server on the loopback address, made of one or several programs; ``with`` starts and stops it.

    Parameters
    ----------
    folder
        Its own: no other server can use it until this one is stopped.
    """

    def __init__(self, folder: Path) -> None:
        """Say where it will run."""
        self.folder = folder.absolute()
        self.held: IO[str] | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it answers, as the settings take it."""

    def start(self) -> None:
        """Take its folder, start it, and wait until it answers.

        Raises
        ------
        InputError
            If the folder cannot be written, or another server uses it.
        EngineError
            If something that it needs is missing, or it does not come up.
        """
        if self.held is None:
            self.held = take(self.folder)
        self.come_up()

    @abstractmethod
    def come_up(self) -> None:
        """Start it in its folder, and wait until it answers."""

    def kept(self) -> list[int]:
        """Return the lock of the folder, for its programs to keep: they may outlive this one for a moment."""
        return [self.held.fileno()] if self.held else []

    @abstractmethod
    def processes(self) -> list[Process]:
        """Return what runs for it, or ran last."""

    def alive(self) -> bool:
        """Return whether all of it runs."""
        return bool(self.processes()) and all(each.alive() for each in self.processes())

    def stop(self) -> None:
        """End it; it can be started again in the same place."""
        each_of(self.processes(), Process.end)
        if self.held is not None:
            self.held.close()
            self.held = None

    def kill(self) -> None:
        """Kill it, as a crash would; it can be started again in the same place."""
        each_of(self.processes(), Process.kill)

    def watch(self) -> None:
        """Wait for as long as it runs.

        Raises
        ------
        EngineError
            When a part of it ends.
        """
        while True:
            for each in self.processes():
                each.watch()

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        """End it."""
        self.stop()


def take(folder: Path) -> IO[str]:
    """Make a folder and hold it."""
    try:
        return hold(folder / LOCK, f"folder `{folder}` is used", "end that one, or name another folder")
    except OSError as error:
        message = f"folder `{folder}` cannot be written: {error.strerror}; name another"
        raise InputError(message) from error


def each_of(processes: list[Process], ending: Callable[[Process], None]) -> None:
    """End all processes, the last one first."""
    for each in reversed(processes):
        ending(each)
