"""Runs many schedules: ``python -m tests.simulation.run --seeds 100000 --workers 2``; a failing seed is printed small."""

import argparse
import multiprocessing
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.simulation.world import Schedule, Simulation, draw
from unskew.validation.shrink import smallest

CHUNK = 250  # seeds that a worker takes at once


def failure(schedule: Schedule) -> str:
    """Return what went wrong in a schedule, or nothing."""
    try:
        Simulation(schedule).run()
    except Exception as error:  # whatever it is, it is a failure of this schedule
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {where.name}:{where.lineno}: {str(error).partition(chr(10))[0]}"
    return ""


def small(schedule: Schedule) -> Schedule:
    """Return a part of a failing schedule that still fails: few steps, then few events."""
    ops: list[Any] = smallest(
        list(schedule.ops), lambda part: bool(failure(replace(schedule, ops=tuple(part)))), lambda: False
    )
    fewer = replace(schedule, ops=tuple(ops))
    rows: list[Any] = smallest(
        list(schedule.rows), lambda part: bool(failure(replace(fewer, rows=tuple(part)))), lambda: False
    )
    return replace(fewer, rows=tuple(rows))


def report(seed: int) -> str:
    """Return a failing seed's smallest schedule as text."""
    found = small(draw(seed))
    lines = [
        f"seed {seed}: {failure(found)}",
        *(f"  event {row}" for row in found.rows),
        *(f"  {op}" for op in found.ops),
    ]
    return "\n".join(lines)


def failing(seeds: Sequence[int]) -> tuple[int, list[int]]:
    """Return how many schedules were run, and the seeds of those that failed."""
    return len(seeds), [seed for seed in seeds if failure(draw(seed))]


def main() -> None:
    """Run the seeds and print what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    chunks = [
        range(at, min(at + CHUNK, given.first + given.seeds))
        for at in range(given.first, given.first + given.seeds, CHUNK)
    ]
    start, done = time.monotonic(), 0
    wrong: list[int] = []
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for number, seeds in pool.imap_unordered(failing, chunks):
            done, wrong = done + number, [*wrong, *seeds]
    spent = time.monotonic() - start
    print(f"{done:,} schedules in {spent:.0f} s, {60 * done / spent:,.0f} a minute: {len(wrong)} failed")  # noqa: T201
    for seed in sorted(wrong)[:3]:
        print(report(seed))  # noqa: T201
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
