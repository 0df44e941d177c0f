"""Reads of the store in threads of their own: questions that wait together are answered by one read."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np

from unskew.online.asked import together
from unskew.online.blank import blank_store
from unskew.online.read import FeatureReader
from unskew.online.server.answer import Answers
from unskew.online.server.metrics import Metrics, TimedStore
from unskew.online.server.question import Part, Question, instants
from unskew.online.server.refusal import RETRY_SECONDS, Refusal, Reply, of_error
from unskew.online.server.served import ServedLog
from unskew.online.store import Store
from unskew.pipelines.errors import UnskewError

MOST_ROWS = 1_024  # of one read of several questions
MOST_READERS = 64  # parts of sets that a thread keeps ready
SWEEP_SECONDS = 0.05
LOG = logging.getLogger("unskew.server")
Found = TypeVar("Found")
Outcome = Reply | Refusal


class Waiting:
    """A question, or another use of the store, and the future of its outcome."""

    __slots__ = ("deadline", "future", "rows", "what")

    def __init__(self, what: Question | Callable[[Readers], Any], future: asyncio.Future[Any], deadline: float) -> None:
        self.what = what
        self.future = future
        self.deadline = deadline
        self.rows = what.asked.rows if isinstance(what, Question) else 1


class Readers:
    """A thread's connection, with the readers of the parts of sets that were asked for last."""

    def __init__(self, store: TimedStore, metrics: Metrics, max_age: int | None) -> None:
        self.store = store
        self.served: ServedLog | None = None  # once the server listens
        self.metrics = metrics
        self.max_age = max_age
        self.known: OrderedDict[Part, FeatureReader] = OrderedDict()

    def reader(self, part: Part) -> FeatureReader:
        """Return the reader of a part."""
        if part not in self.known:
            self.known[part] = FeatureReader(part.plan, self.store)  # type: ignore[arg-type]
            while len(self.known) > MOST_READERS:
                self.known.popitem(last=False)
        self.known.move_to_end(part)
        return self.known[part]

    def answer(self, questions: Sequence[Question]) -> list[Outcome]:
        """Answer questions of one part, in one read where none of them is at fault."""
        try:
            return self.read(questions)
        except UnskewError as error:
            if len(questions) == 1:
                return [of_error(error)]
            return [outcome for each in questions for outcome in self.answer([each])]

    def read(self, questions: Sequence[Question]) -> list[Outcome]:
        """Answer questions of one part in one read."""
        part = questions[0].part
        began = time.perf_counter()
        t = questions[0].t if len(questions) == 1 else np.concatenate([each.t for each in questions])
        asked = together([each.asked for each in questions])
        reading = self.reader(part).read_asked(asked, t, lenient=True)
        answers = Answers(part, reading, self.max_age)
        outcomes: list[Outcome] = []
        at = 0
        for each in questions:
            outcomes.append(answers.outcome(each, at))
            at += each.asked.rows
        self.metrics.read(part.whole.name, time.perf_counter() - began, at)
        if self.served is not None:
            self.served.offer(part, reading, asked, t)
        return outcomes


class Reads:
    """Answers questions in threads, within bounds.

    Parameters
    ----------
    open_store
        Opens a connection; each thread has its own.
    threads
        How many.
    max_waiting
        Rows that may wait or be read at a time.
    timeout
        Seconds that a question may wait.
    max_age
        Milliseconds after which what a row knows is stale; None: never.
    served
        Takes what is read; None: nobody does.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        metrics: Metrics,
        *,
        threads: int,
        max_waiting: int,
        timeout: float,
        max_age: int | None,
        served: ServedLog | None = None,
    ) -> None:
        self.served = served
        self.queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self.asked: deque[Waiting] = deque()
        self.rows = 0
        self.max_waiting = max_waiting
        self.timeout = timeout
        self.readers = [Readers(TimedStore(open_store(), metrics), metrics, max_age) for _ in range(threads)]
        self.threads: list[threading.Thread] = []

    def warm(self, parts: Iterable[Part]) -> None:
        """Read an unknown entity: kernels are loaded, or compiled, before anybody waits, and every thread is connected.

        The store may have nothing yet, so another one comes first that has what reads need.
        """
        one = self.readers[0]
        for part in parts:
            nobody = part.form.asked([dict.fromkeys(part.form.columns)])
            at, t = instants(None, 1)
            with blank_store(part.plan) as blank:
                for each in (Readers(TimedStore(blank, one.metrics), one.metrics, one.max_age), *self.readers):
                    each.answer([Question(part, nobody, at, t, arrow) for arrow in (False, True)])

    def start(self) -> None:
        """Start the threads; call it on the event loop."""
        self.loop = asyncio.get_running_loop()
        for each in self.readers:
            thread = threading.Thread(target=self.work, args=(each,), daemon=True, name="unskew-read")
            thread.start()
            self.threads.append(thread)
        self.loop.call_later(SWEEP_SECONDS, self.sweep)
        for each in self.readers:
            each.served = self.served
        if self.served is not None:
            self.served.start()

    def stop(self) -> None:
        """Let the threads end; one that the store does not answer is left behind."""
        for _ in self.threads:
            self.queue.put(None)
        for each in self.threads:
            each.join(timeout=1.0)
        if self.served is not None:
            self.served.stop()

    async def ask(self, question: Question) -> Reply:
        """Return the reply to a question.

        Raises
        ------
        Refusal
            503 where too many wait or the store does not answer in time; else what the question deserves.
        """
        outcome: Outcome = await self.enqueue(question, self.timeout)
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome

    async def use(self, what: Callable[[Readers], Found], timeout: float) -> Found:
        """Return what a function makes of a thread's readers."""
        future = self.enqueue(what, self.timeout)
        await asyncio.wait([future], timeout=timeout)
        if not future.done():
            raise self.too_late(timeout)
        found: Found | Refusal = future.result()
        if isinstance(found, Refusal):
            raise found
        return found

    def enqueue(self, what: Question | Callable[[Readers], Any], timeout: float) -> asyncio.Future[Any]:
        """Put a question to the others that wait."""
        waiting = Waiting(what, self.loop.create_future(), time.monotonic() + timeout)
        if self.rows and self.rows + waiting.rows > self.max_waiting:
            message = f"`{self.rows}` rows wait for the store already; ask again later, or start another server"
            raise Refusal(503, "overloaded", message, retry_after=RETRY_SECONDS)
        self.rows += waiting.rows
        self.asked.append(waiting)
        self.queue.put(waiting)
        return waiting.future

    def sweep(self) -> None:
        """Refuse questions that have waited too long."""
        now = time.monotonic()
        while self.asked and (self.asked[0].future.done() or self.asked[0].deadline < now):
            late = self.asked.popleft()
            if not late.future.done():
                self.deliver([(late, self.too_late(self.timeout))])
        self.loop.call_later(SWEEP_SECONDS, self.sweep)

    def too_late(self, timeout: float) -> Refusal:
        """Return the refusal of a question that the store has not answered."""
        message = f"the store has not answered within {timeout:g} seconds; ask again later"
        return Refusal(503, "store_timeout", message, retry_after=RETRY_SECONDS)

    def deliver(self, outcomes: Sequence[tuple[Waiting, Any]]) -> None:
        """Hand out outcomes, on the event loop."""
        for waiting, outcome in outcomes:
            if not waiting.future.done():
                self.rows -= waiting.rows
                waiting.future.set_result(outcome)

    def work(self, readers: Readers) -> None:
        """Answer questions until the end, in a thread."""
        while (first := self.queue.get()) is not None:
            for batch in batches([first, *self.others(first.rows)]):
                outcomes = list(zip(batch, outcomes_of(readers, batch), strict=True))
                with suppress(RuntimeError):  # the loop may have ended
                    self.loop.call_soon_threadsafe(self.deliver, outcomes)

    def others(self, rows: int) -> Iterator[Waiting]:
        """Yield what else waits, up to the rows of one read."""
        while rows < MOST_ROWS:
            try:
                found = self.queue.get_nowait()
            except Empty:
                return
            if found is None:  # the end, for after these
                self.queue.put(None)
                return
            rows += found.rows
            yield found


def batches(found: Sequence[Waiting]) -> list[list[Waiting]]:
    """Return questions by the part of a set that they are for; others one by one."""
    by_part: dict[object, list[Waiting]] = {}
    for each in found:
        if not each.future.done():  # else nobody waits for it any more
            by_part.setdefault(each.what.part if isinstance(each.what, Question) else each, []).append(each)
    return list(by_part.values())


def outcomes_of(readers: Readers, batch: Sequence[Waiting]) -> Sequence[Any]:
    """Return the outcome of each; what nobody expected is logged and refused."""
    try:
        questions = [each.what for each in batch if isinstance(each.what, Question)]
        if questions:
            return readers.answer(questions)
        return [each.what(readers) for each in batch if not isinstance(each.what, Question)]
    except UnskewError as error:
        return [of_error(error)] * len(batch)
    except Exception:
        LOG.exception("a read failed")
        message = "the read failed; the server's log says why"
        return [Refusal(500, "internal", message)] * len(batch)
