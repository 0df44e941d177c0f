"""Parts of a system on this machine: each is a process that is watched, and started again when it dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

from unskew.online.live.processes import GRACE, Process, how_ended
from unskew.pipelines.errors import EngineError

LIVES = 3  # times that a part is started again
LOOK, PAUSE = 0.5, 1.0  # s between two looks, s before a part is started again
Launch = Callable[[], Process]
Tell = Callable[[str], None]


@dataclass
class Part:
    """One process.

    Parameters
    ----------
    launch
        Starts it, and starts it again; None: a part that died is dead for good.
    lasting
        Whether it runs until it is told to end; else it ends by itself, with code 0, when its work is done.
    process
        What runs, or ran last.
    since
        When it was started, s since the epoch.
    deaths
        How often it died.
    """

    name: str
    launch: Launch | None
    lasting: bool = True
    process: Process | None = None
    since: float = field(default_factory=time.time)
    deaths: int = 0
    lost: bool = False
    ended: bool = False

    @property
    def pid(self) -> int:
        """Its process group; 0 before it runs."""
        return self.process.pid if self.process else 0

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.popen.poll() if self.process else None

    @property
    def state(self) -> str:
        """What it does, one word."""
        if self.process is None:
            return "starting"
        if self.code is None:
            return "running"
        if self.ended:
            return "ended"
        if self.code == 0 and not self.lasting:
            return "done"
        return "died"


class Parts:
    """All parts, in the order in which they were started.

    Parameters
    ----------
    tell
        Is told, in one line each, of parts that died.
    """

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.all: list[Part] = []
        self.lost = ""  # what died for good

    def add(
        self, name: str, launch: Launch | None, *, first: Launch | None = None, lasting: bool = True, again: bool = True
    ) -> Part:
        """Start a part.

        Parameters
        ----------
        first
            What starts it the first time, where that is something else than `launch`.
        again
            Whether it is started again when it dies.
        """
        part = Part(name, launch if again else None, lasting)
        self.all.append(part)
        start = first or launch
        part.process = start() if start else None
        part.since = time.time()
        return part

    def named(self, start: str) -> list[Part]:
        """Return the parts whose names begin so."""
        return [each for each in self.all if each.name.startswith(start)]

    def mind(self, stop: Event) -> None:
        """Look at all parts until told to stop."""
        while not stop.wait(LOOK):
            for each in self.all:
                if each.state == "died" and not each.lost:
                    self.revive(each, stop)

    def revive(self, part: Part, stop: Event) -> None:
        """Say how a part died, and start it again if it may be."""
        if part.process is None:
            return
        part.deaths += 1
        what = f"{part.name} {how_ended(part.code or 0, part.process.log)}"
        if part.launch is None or part.deaths > LIVES:
            part.lost = True
            self.lost = self.lost or f"{what}; see `{part.process.log}`"
            self.tell(what)
            return
        self.tell(f"{what}; starting it again")
        if stop.wait(PAUSE):
            return
        try:
            part.process, part.since = part.launch(), time.time()
        except EngineError as error:
            part.lost, self.lost = True, self.lost or str(error)

    def end(self, parts: list[Part], grace: float = GRACE) -> None:
        """End some parts together."""
        running = [each for each in parts if each.process is not None and each.process.alive()]
        for each in running:
            each.ended = True
        with ThreadPoolExecutor(max(len(running), 1)) as pool:
            list(pool.map(lambda each: each.process.end(grace), running))
