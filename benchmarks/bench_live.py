"""The running system: rows a second of one materialiser, and freshness with everything on this machine.

The materialiser takes what the jobs of `fraud` have written of a simulated log, first into Redis, then into SQLite; broker and
store run beside it. The rest is `unskew live`: disorder, duplicates, lateness, reads, archivers, and parity of what was served.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from unskew.feature_defs import fraud
from unskew.online.live.control import Control
from unskew.online.live.jobs import FATES, Job
from unskew.online.live.local import Load, LocalSystem, take_folder
from unskew.online.live.processes import Process
from unskew.online.live.replay import ensure_topic
from unskew.online.live.settings import StoreSettings
from unskew.online.live.topics import end_offsets, topic_of
from unskew.online.store import Store
from unskew.online.stores import open_store
from unskew.pipelines.planner import plan

DEFINITIONS = Path(fraud.__file__)
TRANSACTIONS = 200_000
RATE, READS, WARM_UP, SECONDS = 2_000, 100, "45s", "120s"
PATIENCE = 600.0  # s
TICK = 0.1


def run(rows: int) -> list[dict[str, object]]:
    """Measure both.

    Parameters
    ----------
    rows
        At most so many transactions for the materialiser.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second`, `peak_mib`; of freshness and reads also `p50_ms` and `p99_ms`.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = materialised(Path(folder) / "rows", min(rows, TRANSACTIONS))
        return found + freshness(Path(folder) / "live")


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    last = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > last:
            raise TimeoutError
        time.sleep(TICK)


def materialised(folder: Path, transactions: int) -> list[dict[str, object]]:
    """Let the jobs write their rows, then measure how fast one process takes them."""
    compiled = plan(fraud.fraud)
    with take_folder(folder), ExitStack() as running:
        system = LocalSystem(folder, DEFINITIONS, compiled)
        for each in (system.kafka, system.redis):
            running.enter_context(each)
        with system.flink, open_store(system.settings.store) as store:
            jobs = computed(system, store, transactions)
        found = []
        for name, url in (("Redis", system.redis.address), ("SQLite", f"{folder}/store.sqlite")):
            with open_store(StoreSettings(url=url)) as store:
                for job in jobs:
                    store.put_job(job.epoch, job.as_("stopped").to_json())
                found.append({"system": f"unskew, {name}", **taken(system, url, store, jobs)})
    return [{"work": "materialise, one process", **each} for each in found]


def computed(system: LocalSystem, store: Store, transactions: int) -> list[Job]:
    """Compute the rows of a simulated log; return the jobs, which have ended."""
    compiled, settings = system.plan, system.settings
    done(system.simulate(Load({}, transactions))())
    control = Control(compiled, settings, store, system.folder)
    for each in compiled.sources:
        ensure_topic(settings.kafka, topic_of(each))
        done(system.command("producer", "replay", str(system.log(each.name)), "--source", each.name)())
    jobs = [control.start(each.name) for each in compiled.sources]
    for job in jobs:
        until(lambda job=job: not any(control.lag(job).values()))  # type: ignore[misc]
        control.stop(job.source)
    return jobs


def done(process: Process) -> None:
    """Wait for a command of ours."""
    if process.popen.wait(PATIENCE):
        raise RuntimeError(process.log.read_text(encoding="utf-8"))


def taken(system: LocalSystem, url: str, store: Store, jobs: list[Job]) -> dict[str, float]:
    """Return the rows a second of a materialiser, from its first row in the store to the last one."""
    topics = [topic for job in jobs for view, topic in job.topics.items() if view != FATES]
    wanted = sum(sum(end_offsets(system.settings.kafka, each).values()) for each in topics)
    counts: list[tuple[float, int]] = []

    def over() -> bool:
        counts.append((time.monotonic(), sum(sum(store.offsets(each).values()) for each in topics)))
        return counts[-1][1] >= wanted

    words = ["materialize", "--defs", str(DEFINITIONS), "--set", system.plan.name]
    words += ["--settings", str(system.settings_file)]
    command = [sys.executable, "-m", "unskew.pipelines.cli", *words]
    process = Process(
        "materialiser", command, system.folder, system.folder / "logs" / "materialiser.log", {"UNSKEW_STORE_URL": url}
    )
    own = psutil.Process(process.popen.pid)
    try:
        until(lambda: over() or not process.alive())
        if counts[-1][1] < wanted:
            raise RuntimeError(process.log.read_text(encoding="utf-8"))
        workers = [own, *own.children(recursive=True)]
        busy = sum(sum(each.cpu_times()[:2]) for each in workers)
        peak = max(each.memory_info().rss for each in workers)
    finally:
        process.end()
    began = next(place for place, (_, count) in enumerate(counts) if count)
    (then, before), (now, after) = counts[began], counts[-1]
    return {
        "rows_per_second": round((after - before) / (now - then)),
        "rows_per_second_of_processor": round(after / busy),
        "rows": after,
        "peak_mib": round(peak / 2**20),
    }


def freshness(folder: Path) -> list[dict[str, object]]:
    """Run everything for a while."""
    words = ["--rate", str(RATE), "--reads", str(READS), "--warm-up", WARM_UP, "--duration", SECONDS, "--plain"]
    command = [sys.executable, "-m", "unskew.pipelines.cli", "live", str(folder), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    found = json.loads((folder / "live.json").read_text(encoding="utf-8"))
    applied, reads = found["fates"]["applied"], found["reads"]
    lines: Mapping[str, tuple[float, list[float]]] = {
        f"freshness at {RATE:,} events/s": (found["rate"], found["freshness"]),
        f"one row over HTTP beside {RATE:,} events/s": (reads["done"] / found["seconds"], reads["seconds"]),
    }
    return [
        {
            "work": work, "system": "unskew live", "rows_per_second": round(rate), "peak_mib": 0,
            "p50_ms": round(p50 * 1_000, 1), "p99_ms": round(p99 * 1_000, 1), "applied": applied,
            "cells": found["parity"]["cells"], "unexplained": found["unexplained"],
        }
        for work, (rate, (p50, p99)) in lines.items()
    ]  # fmt: skip
