"""What is told of a job: to people and scripts, and to Prometheus."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Lock

from unskew.online.live.control import Control
from unskew.online.live.fates import ApartCounts, unique_events
from unskew.online.live.flink_rest import RUNNING, ClusterDown
from unskew.online.live.jobs import Job
from unskew.online.store import NO_GENERATION
from unskew.pipelines.archive import belied
from unskew.pipelines.errors import UnskewError


def described(control: Control, job: Job) -> dict[str, object]:
    """Return what is known of a job, for people and for scripts."""
    store, pointer = control.store, control.store.pointer(job.source)
    try:
        found = control.status(job)
    except ClusterDown:
        found = None
    age = None if found is None else found.checkpoint_age
    return {
        "job": job.epoch,
        "recorded": job.state,
        "cluster": "unknown" if found is None else found.state,
        "read": pointer is not None and pointer.epoch == job.epoch,
        "restarts": None if found is None else found.restarts,
        "checkpoint_age_s": None if age is None else round(age, 1),
        "messages_waiting": sum(control.lag(job).values()),
        "rows_waiting": control.rows_waiting(job),
        "events_applied": {each: store.written(job.epoch, each).applied for each in job.views},
        "writes_rejected": store.written(job.epoch).rejected,
        "problem": "" if found is None else found.problem,
        "upload": upload_due(control, job.source) or "",
    }


def upload_due(control: Control, source: str) -> str | None:
    """Say that the upload that is read lacks a message, nothing where it does not; None where that is not seen from here."""
    archive, pointer = control.plan.source(source).archive, control.store.pointer(source)
    if not archive or not Path(archive).is_dir() or pointer is None or pointer.generation == NO_GENERATION:
        return None
    arrival = belied(Path(archive), pointer.cut)
    if arrival is None:
        return ""
    return f"lacks a message that arrived at {arrival}, before its cut {pointer.cut}, but came later; run `unskew upload` again"


def gauges(control: Control, source: str) -> dict[str, float]:
    """Return what Prometheus is told of a source's job; a part that does not answer tells nothing."""
    told = {"unskew_job_running": 0.0}
    with suppress(UnskewError):
        job = control.job(source)
        found = control.status(job)
        if found is not None:
            told["unskew_job_running"] = float(found.state == RUNNING)
            told["unskew_job_restarts"] = float(found.restarts)
            if found.checkpoint_age is not None:
                told["unskew_checkpoint_age_seconds"] = found.checkpoint_age
        with suppress(UnskewError):
            due = upload_due(control, source)
            told |= {} if due is None else {"unskew_upload_due": float(bool(due))}
        with suppress(UnskewError):
            told["unskew_job_messages_waiting"] = float(sum(control.lag(job).values()))
        duplicates = None if found is None else control.cluster.duplicates(job.job_id)
        if duplicates is not None:
            told["unskew_job_duplicates_total"] = float(duplicates)
    return told


class Fates:
    """Counts the events of a source's job by fate and reason; between two calls it keeps what was counted."""

    def __init__(self, control: Control, source: str) -> None:
        self.control, self.source = control, source
        self.apart: ApartCounts | None = None
        self.lock = Lock()  # several may ask at once

    def __call__(self) -> dict[tuple[str, str], int]:
        """Return how many events have which fate and reason; none where nobody can tell now.

        Duplicates are not among them: only an account over all messages, or the job itself, can tell them.
        """
        try:
            with self.lock:
                job = self.control.job(self.source)
                if self.apart is None or self.apart.job.epoch != job.epoch:
                    self.apart = ApartCounts(self.control.plan, job, self.control.settings.kafka)
                found = self.apart.read()
            unique = max(unique_events(job, self.control.store, found.skipped).values())
        except UnskewError:
            return {}
        apart = {(name, ""): found.fates.get(name, 0) for name in ("late", "archived", "filtered")}
        reasons = {("quarantined", each): n for each, n in found.reasons.items()}
        return {("applied", ""): unique - apart["filtered", ""], **apart, **reasons}
