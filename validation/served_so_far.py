"""Parity so far: checks served rows against an archive that still grows, at low priority, until told to stop.

``python -m unskew.validation.served_so_far FOLDER DEFS SET`` reads ``FOLDER/served.jsonl`` as it grows and the archives
``FOLDER/<source>``, and keeps ``FOLDER/parity.json``. SIGTERM says that all archivers have ended: it checks what is left.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import orjson

from unskew.online.served_rows import PARITY, SERVED
from unskew.pipelines.archive import CLOCK_SLACK, cut_of
from unskew.pipelines.durable import show
from unskew.pipelines.errors import InputError
from unskew.pipelines.loading import choose_set, load_sets
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan
from unskew.validation.parity import Report
from unskew.validation.served_log import ANSWERED, check_served

EVERY = 20.0  # s between two checks
SLICE, REST = 0.02, 9.0  # s of processor time at a stretch, and how many times as long it rests after each
MOST_DEFECTS = 100


@dataclass
class Totals:
    """The cells of all checks; `features` counts those that are unexplained."""

    rows: int = 0
    cells: int = 0
    equal: int = 0
    unexplained: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    defects: list[dict[str, Any]] = field(default_factory=list)
    waiting: int = 0

    def add(self, report: Report) -> None:
        """Add a check's cells."""
        self.rows += report.probes
        self.unexplained += report.unexplained
        self.causes += report.causes
        for name, each in report.features.items():
            self.cells += each.cells
            self.equal += each.equal
            self.features += Counter({name: each.unexplained})
        self.defects += [vars(each) for each in report.defects][: MOST_DEFECTS - len(self.defects)]


class Checker:
    """Checks rows once the archive has all that they can know.

    Parameters
    ----------
    folder
        With the served rows and the archives.
    """

    def __init__(self, definitions: SetPlan, folder: Path) -> None:
        self.plan, self.folder = definitions, folder
        self.place = 0
        self.rows: list[dict[str, Any]] = []
        self.totals = Totals()

    def read(self) -> None:
        """Take the rows that were written since."""
        path = self.folder / SERVED
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self.place)
            for line in file:
                if not line.endswith(b"\n"):  # it is being written
                    break
                self.rows.append(orjson.loads(line))
                self.place += len(line)

    def check(self, until: int) -> None:
        """Check the rows that were read before an instant, ms."""
        due = [each for each in self.rows if each["at"] + ANSWERED < until]
        if due:
            archives = {each.name: self.folder / each.name for each in self.plan.sources}
            self.totals.add(check_served(self.plan, due, archives))
        self.rows = [each for each in self.rows if each["at"] + ANSWERED >= until]
        self.totals.waiting = len(self.rows)
        show(self.folder / PARITY, json.dumps(vars(self.totals), default=str, ensure_ascii=False) + "\n")

    def archived(self) -> int:
        """Return up to when all archives are complete, ms; one machine has one clock."""
        try:
            return min(cut_of(self.folder / each.name) for each in self.plan.sources) + CLOCK_SLACK
        except InputError:  # one has no commit yet
            return 0


def main() -> None:
    """Check until told to stop."""
    folder, defs, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    stop = Event()
    rest_between_slices(stop)
    checker = Checker(plan(choose_set(load_sets(defs), name)), folder)
    while not stop.wait(EVERY):
        until = checker.archived()
        checker.read()
        checker.check(until)
    checker.read()
    checker.check(sys.maxsize)


def rest_between_slices(stop: Event) -> None:
    """Rest after each slice of work, whatever is at work, until SIGTERM, which also sets `stop`.

    Cores share caches and units: even a process that runs only when nobody else wants to slows the others, for as long as
    it runs.
    """

    def end(*_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        stop.set()

    signal.signal(signal.SIGPROF, lambda *_: time.sleep(REST * SLICE))
    signal.signal(signal.SIGTERM, end)
    signal.setitimer(signal.ITIMER_PROF, SLICE, SLICE)


if __name__ == "__main__":
    main()
