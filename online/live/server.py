"""What the servers here have in common: each is started, answers, and is ended with the block that it is used in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

from unskew.online.live.processes import Process


class Server(ABC):
    """A server on the loopback address, made of one or several programs; ``with`` starts and stops it."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it answers, as the settings take it."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises
        ------
        EngineError
            If something that it needs is missing, or it does not come up.
        """

    @abstractmethod
    def processes(self) -> list[Process]:
        """Return what runs for it, or ran last."""

    def alive(self) -> bool:
        """Return whether all of it runs."""
        return bool(self.processes()) and all(each.alive() for each in self.processes())

    def stop(self) -> None:
        """End it; it can be started again in the same place."""
        each_of(self.processes(), Process.end)

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


def each_of(processes: list[Process], ending: Callable[[Process], None]) -> None:
    """End all processes, the last one first."""
    for each in reversed(processes):
        ending(each)
