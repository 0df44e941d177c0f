"""One run of a whole system on this machine: started, read from, checked and ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread

import httpx

from unskew.online.live.figures import Figures, Observer
from unskew.online.live.local import Load, LocalSystem
from unskew.online.live.parts import Parts
from unskew.online.live.processes import Process
from unskew.online.live.replay import ensure_topic
from unskew.online.live.server import each_of
from unskew.online.live.topics import topic_of
from unskew.online.live.traffic import READS, SENT
from unskew.online.stores import open_store
from unskew.pipelines.durable import show
from unskew.pipelines.errors import EngineError, UnskewError
from unskew.pipelines.plan import SetPlan

PATIENCE = 300.0  # s until a step of the start is done: machines may be slow
STARTING = 120.0  # s of events that flow until the figures count, at most by far
SETTLING = 60.0  # s until the last events have a fate
CHECKING = 300.0  # s for the last rows
GRACE = 8.0  # s until what does not end is killed
TICK = 0.2
MAIN = "transactions"  # the source whose rows are read for
LABELS = 0.1  # labels for each transaction: most of those that are known by now are older than the log


@dataclass(frozen=True)
class Options:
    """What a run is asked for.

    Parameters
    ----------
    rate, reads
        Transactions and reads a second.
    duration
        Of the traffic, s; None: until told.
    scale
        Transactions of the log.
    warm_up
        Of events before that, s, which the figures leave out.
    """

    rate: float = 300.0
    reads: float = 20.0
    duration: float | None = None
    scale: int | None = None
    warm_up: float = 0.0

    def load(self, plan: SetPlan) -> Load:
        """Return what is produced of each source."""
        wanted = int(self.rate * ((self.duration or 0.0) + self.warm_up + STARTING))
        rates = {each.name: self.rate * (1.0 if each.name == MAIN else LABELS) for each in plan.sources}
        return Load(rates, self.scale or max(300_000, wanted))


class Interrupted(Exception):
    """Somebody wants the run to end."""


class Session:
    """A run; `run` is meant for a thread, while another one shows `figures`.

    Parameters
    ----------
    folder
        As `take_folder` made it.
    """

    def __init__(self, folder: Path, defs: Path, plan: SetPlan, options: Options) -> None:
        self.options, self.plan = options, plan
        self.system = LocalSystem(folder, defs, plan)
        self.parts, self.observer = Parts(self.tell), Observer(self.system)
        self.load = options.load(plan)
        self.told: list[tuple[float, str]] = []
        self.phase, self.stop, self.over = "starting", Event(), Event()
        self.threads: dict[str, tuple[Thread, Event]] = {}
        self.began: float | None = None  # monotonic, of the traffic
        self.seconds, self.produced = 0.0, 0  # of the traffic
        self.error: BaseException | None = None

    @property
    def figures(self) -> Figures:
        """What is known of it."""
        return self.observer.figures

    @property
    def elapsed(self) -> float:
        """Seconds of traffic so far."""
        return self.seconds if self.seconds or self.began is None else time.monotonic() - self.began

    def tell(self, what: str) -> None:
        """Keep a line for the view."""
        self.told.append((time.time(), what))

    def interrupt(self) -> None:
        """End it: in order; a second time at once."""
        if self.stop.is_set():
            os._exit(130)  # the wardens end the processes
        self.stop.set()
        if self.phase == "starting":
            for server, _ in self.system.servers():
                each_of(server.processes(), Process.kill)

    def run(self) -> None:
        """Start all, let traffic flow until told or until it is time, check what was served, and end all."""
        try:
            self.start()
            self.flow()
            self.settle()
        except Interrupted:
            pass
        except UnskewError as error:
            if not self.stop.is_set():
                self.error = error
        except BaseException as error:  # the thread that waits raises it
            self.error = error
        finally:
            self.end()
            self.over.set()

    def start(self) -> None:
        """Start everything but the producers; wait until reads see the jobs."""
        simulator = self.parts.add("simulator", self.system.simulate(self.load), lasting=False, again=False)
        self.start_servers()
        self.phase = "starting the processes"
        for each in self.plan.sources:
            ensure_topic(self.system.settings.kafka, topic_of(each))
        self.system.start_processes(self.parts)
        self.thread("watch", self.parts.mind)
        self.phase = "waiting until reads see the jobs"
        self.until(lambda: simulator.state == "done", "the log")
        self.parts.all.remove(simulator)
        with open_store(self.system.settings.store) as store:
            self.until(lambda: all(store.pointer(each.name) is not None for each in self.plan.sources), "the jobs")
        self.until(self.ready, "the feature server")

    def start_servers(self) -> None:
        """Start the servers beside each other."""
        servers = self.system.servers()
        with ThreadPoolExecutor(len(servers)) as pool:
            for done in [pool.submit(server.start) for server, _ in servers]:
                done.result()
        for _, add in servers:
            add(self.parts)
        self.check()

    def ready(self) -> bool:
        """Return whether the feature server serves the set."""
        try:
            return httpx.get(f"{self.system.url}/readyz", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def flow(self) -> None:
        """Produce and read."""
        self.phase = "warming up"
        self.system.start_checker(self.parts)
        self.thread("figures", self.observer.run)
        self.system.start_reads(self.parts, self.system.log(MAIN), self.load.rates[MAIN], self.options.reads)
        self.until((self.system.folder / READS).exists, "the first read")
        self.system.start_producers(self.parts, self.load)
        self.until(lambda: self.observer.warm, "events in tiles")
        warm = time.monotonic() + self.options.warm_up
        self.until(lambda: time.monotonic() >= warm, "the end of the warm-up", self.options.warm_up)
        self.observer.begin()
        self.phase, self.began = "traffic", time.monotonic()
        with suppress(Interrupted):
            while self.options.duration is None or self.elapsed < self.options.duration:
                show(self.system.folder / SENT, str(self.sent()))
                self.check()
                time.sleep(TICK)
        self.seconds, self.produced = self.elapsed, self.figures.produced - self.observer.before
        if any(each.state == "done" for each in self.parts.named(f"producer {MAIN}")):
            self.tell("the log ended before the traffic did: give a larger --scale")

    def sent(self) -> int:
        """Return about how many of the rows that are read for were produced."""
        return int(self.figures.produced * self.load.rates[MAIN] / sum(self.load.rates.values()))

    def settle(self) -> None:
        """Stop the traffic, and check all that was served."""
        self.phase = "waiting for the last events"
        self.parts.end(self.parts.named("reads"), GRACE)
        self.parts.end(self.parts.named("producer"), GRACE)
        self.last_fates()
        self.phase = "checking the last rows"
        self.parts.end(self.parts.named("archiver"))
        (checker,) = self.parts.named("parity")
        self.parts.end([checker], CHECKING)
        if checker.code and checker.process:
            self.parts.lost = self.parts.lost or f"served rows could not be checked; see `{checker.process.log}`"
        self.observer.reported()

    def last_fates(self) -> None:
        """Wait until every message has its fate."""
        self.observer.eager = True
        last = time.monotonic() + SETTLING
        while not self.parts.lost and time.monotonic() < last:
            if self.observer.settled:
                return
            time.sleep(TICK)
        self.parts.lost = self.parts.lost or f"not all messages had a fate {SETTLING:.0f} s after the last one"

    def end(self) -> None:
        """End every process and thread."""
        self.phase = "ending"
        for each in self.threads:
            self.stop_thread(each)
        servers = [each for each in self.parts.all if each.name.startswith(("kafka", "flink", "redis"))]
        self.parts.end([each for each in self.parts.all if each not in servers], GRACE)
        self.parts.end(servers, GRACE)
        for server, _ in self.system.servers():  # those that had not become parts yet
            each_of(server.processes(), partial(Process.end, grace=GRACE))

    def until(self, holds: Callable[[], bool], what: str, more: float = 0.0) -> None:
        """Wait until something holds, `more` s longer than others."""
        last = time.monotonic() + PATIENCE + more
        while not holds():
            self.check()
            if time.monotonic() > last:
                message = (
                    f"{what} did not come within {PATIENCE:.0f} s; see the logs in `{self.system.folder / 'logs'}`"
                )
                raise EngineError(message)
            time.sleep(TICK)

    def check(self) -> None:
        """Raise where the run is to end."""
        if self.stop.is_set() or self.parts.lost:
            raise Interrupted

    def thread(self, name: str, work: Callable[[Event], None]) -> None:
        """Run something beside this until the end; what it fails of ends the run."""
        stop = Event()

        def run() -> None:
            try:
                work(stop)
            except BaseException as error:  # it is raised where it is waited for
                self.error = self.error or error
                self.stop.set()

        thread = Thread(target=run, name=name, daemon=True)
        self.threads[name] = thread, stop
        thread.start()

    def stop_thread(self, name: str) -> None:
        """End what runs beside this."""
        if name in self.threads:
            thread, stop = self.threads[name]
            stop.set()
            thread.join(GRACE)
