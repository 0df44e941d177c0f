"""Keeps the job of a source running: `unskew stream run`."""

from __future__ import annotations

from threading import Event

from unskew.online.live.beginnings import resuming_point
from unskew.online.live.catching_up import CatchingUp
from unskew.online.live.control import ACTIVE, Control, Say, now
from unskew.online.live.flink_rest import ENDED, RUNNING
from unskew.online.live.jobs import Job
from unskew.online.upload import GRACE, drop_superseded
from unskew.pipelines.errors import EngineError, InputError, StoreDown
from unskew.pipelines.timegrid import MINUTE

TICK, BACKOFF = 1.0, 5.0  # s between two looks; s after a part has failed
TIDYING = MINUTE  # ms between two looks for uploads that nobody reads any more
SUBMITTING = MINUTE  # ms that a first submission may take


class Supervisor:
    """Watches a source's job, and resumes it from its newest checkpoint whenever the cluster has lost it.

    Parameters
    ----------
    control
        Of the job's definitions.
    say
        Is told what happens, one line each.
    """

    def __init__(self, control: Control, source: str, say: Say) -> None:
        self.control, self.source, self.say = control, source, say
        self.job: Job | None = None
        self.waiting: CatchingUp | None = None
        self.said = ""
        self.tidied = 0  # ms since the epoch

    def run(self, stop: Event) -> None:
        """Watch until told to stop; a part that does not answer is waited for.

        Raises
        ------
        InputError
            If the job has become one of other definitions, its state has expired, or the store knows nothing of it.
        """
        while not stop.is_set():
            try:
                self.look()
                self.tidy()
                self.said = ""
            except (EngineError, StoreDown) as error:
                self.once(str(error))
                stop.wait(BACKOFF)
            stop.wait(TICK)

    def once(self, text: str) -> None:
        """Say something, if it was not the last thing said."""
        if text != self.said:
            self.say(text)
        self.said = text

    def look(self) -> None:
        """Find the job, and do what it needs."""
        job = self.current()
        if job.state not in ACTIVE:
            return
        if job.state == "starting" and now() - job.created < SUBMITTING and not self.control.named(job.epoch):
            return  # another process is about to submit it
        state = self.control.state(job)
        if state is None or state in ENDED:
            self.control.require_same(job)
            self.say(f"{job.epoch}: {state or 'unknown to the cluster'}; resuming")
            self.control.run(job, resuming_point(job, now()))
        elif state == RUNNING:
            self.flip(job)

    def tidy(self) -> None:
        """Drop the uploads that reads have not seen for the grace time."""
        if now() - self.tidied >= TIDYING:
            drop_superseded(self.control.store, [each.name for each in self.control.plan.sources], now() - GRACE)
            self.tidied = now()

    def current(self) -> Job:
        """Return the source's job as it is recorded now; start one where there is none."""
        if all(each.state == "replaced" for each in self.control.jobs(self.source)):
            unknown = list(self.control.unknown(self.source).values())
            if unknown:
                message = f"cluster runs `{unknown[0]}`, which store `{self.control.store.address}` does not know; correct [store] url, or run `unskew stream rebuild` if the store was lost"
                raise InputError(message)
            self.control.first(self.source)
        job = self.control.job(self.source)
        if self.job is None or job.epoch != self.job.epoch:
            self.waiting = None
            for each in self.control.changed(job)[:1]:
                self.say(
                    f"{job.epoch}: computes other definitions of view `{each}`, so it is watched but cannot be resumed from here; run `unskew stream upgrade`, or start this with the definitions of the job"
                )
        self.job = job
        return job

    def flip(self, job: Job) -> None:
        """Let reads see the job once it has caught up."""
        pointer = self.control.store.pointer(self.source)
        if pointer is None or pointer.epoch != job.epoch:
            self.waiting = self.waiting or self.control.catching_up(job)
            if not self.waiting.over():
                return
            self.control.store.start_epoch(self.source, job.epoch)
            self.say(f"{job.epoch}: reads see it")
        self.control.replace_older(self.source)
