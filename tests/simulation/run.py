"""Runs many schedules: ``python -m tests.simulation.run --seeds 100000 --workers 2``; a failing seed is printed small.

With ``--store redis`` the stores are in a redis-server that is started for it.
"""

import argparse
import multiprocessing
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.redis_process import redis_server
from tests.simulation.world import InRedis, Interrupted, Schedule, Simulation, draw, in_memory
from unskew.validation.shrink import smallest

CHUNK = 250  # seeds that a worker takes at once
Fresh = Callable[[], Interrupted]


def failure(schedule: Schedule, fresh: Fresh = in_memory) -> str:
    """Return what went wrong in a schedule, or nothing."""
    try:
        Simulation(schedule, fresh).run()
    except Exception as error:  # whatever it is, it is a failure of this schedule
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {where.name}:{where.lineno}: {str(error).partition(chr(10))[0]}"
    return ""


def small(schedule: Schedule, fresh: Fresh = in_memory) -> Schedule:
    """Return a part of a failing schedule that still fails: few steps, then few events."""
    ops: list[Any] = smallest(
        list(schedule.ops), lambda part: bool(failure(replace(schedule, ops=tuple(part)), fresh)), lambda: False
    )
    fewer = replace(schedule, ops=tuple(ops))
    rows: list[Any] = smallest(
        list(schedule.rows), lambda part: bool(failure(replace(fewer, rows=tuple(part)), fresh)), lambda: False
    )
    return replace(fewer, rows=tuple(rows))


def report(seed: int, fresh: Fresh) -> str:
    """Return a failing seed's smallest schedule as text."""
    found = small(draw(seed), fresh)
    lines = [
        f"seed {seed}: {failure(found, fresh)}",
        *(f"  event {row}" for row in found.rows),
        *(f"  {op}" for op in found.ops),
    ]
    return "\n".join(lines)


def failing(seeds: Sequence[int], fresh: Fresh = in_memory) -> tuple[int, list[int]]:
    """Return how many schedules were run, and the seeds of those that failed."""
    return len(seeds), [seed for seed in seeds if failure(draw(seed), fresh)]


@dataclass
class Worker:
    """A worker's part: with Redis each has a database of its own, the first is the main process's."""

    fresh: Fresh = in_memory

    def start(self, port: int, numbers: Any) -> None:
        if port:
            with numbers.get_lock():
                numbers.value += 1
                self.fresh = InRedis(port, numbers.value)

    def failing(self, seeds: Sequence[int]) -> tuple[int, list[int]]:
        return failing(seeds, self.fresh)


WORKER = Worker()


def start(port: int, numbers: Any) -> None:
    WORKER.start(port, numbers)


def run_chunk(seeds: Sequence[int]) -> tuple[int, list[int]]:
    return WORKER.failing(seeds)


@contextmanager
def port_of(store: str) -> Iterator[int]:
    """Return the port of a new Redis, or 0."""
    if store == "sqlite":
        yield 0
        return
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        yield server.port


def main() -> None:
    """Run the seeds and print what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    given = parser.parse_args()
    chunks = [
        range(at, min(at + CHUNK, given.first + given.seeds))
        for at in range(given.first, given.first + given.seeds, CHUNK)
    ]
    began, done = time.monotonic(), 0
    wrong: list[int] = []
    context = multiprocessing.get_context("spawn")
    with port_of(given.store) as port:
        with context.Pool(given.workers, start, (port, context.Value("i", 0))) as pool:
            for number, seeds in pool.imap_unordered(run_chunk, chunks):
                done, wrong = done + number, [*wrong, *seeds]
        spent = time.monotonic() - began
        print(f"{done:,} schedules in {spent:.0f} s, {60 * done / spent:,.0f} a minute: {len(wrong)} failed")  # noqa: T201
        for seed in sorted(wrong)[:3]:
            print(report(seed, InRedis(port) if port else in_memory))  # noqa: T201
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
