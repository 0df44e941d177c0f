"""A Flink cluster's REST interface: what its jobs do, and how they are stopped.

Paths and fields: https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/rest_api/
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from unskew.pipelines.errors import EngineError

TIMEOUT = 10.0  # s of one request
STOP_PATIENCE = 300.0  # s until a savepoint is written
TICK = 0.25
NO_KEEPING = httpx.Limits(max_keepalive_connections=0)  # a JobManager that was restarted closes what was kept
DEDUPLICATION, IN, OUT = "Deduplicate", "numRecordsIn", "numRecordsOut"  # an operator, and its metrics
RUNNING = "RUNNING"
ENDED = ("FAILED", "CANCELED", "FINISHED", "SUSPENDED")
MILLISECONDS = 1_000


class ClusterDown(EngineError):
    """The JobManager does not answer."""


@dataclass(frozen=True)
class JobStatus:
    """What the cluster says of a job.

    Parameters
    ----------
    state
        Flink's word: ``RUNNING``, ``RESTARTING``, ``FAILED``, ...
    restarts
        How often it was restarted since it was submitted.
    checkpoint
        Path of the newest complete checkpoint; empty before the first.
    checkpoint_age
        Since it was complete, s; None before the first.
    problem
        What made it restart or fail last, one line.
    """

    state: str
    restarts: int
    checkpoint: str
    checkpoint_age: float | None
    problem: str


class FlinkRest:
    """One cluster, by the ``host:port`` of its REST interface."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.http = httpx.Client(timeout=TIMEOUT, limits=NO_KEEPING)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send one request.

        Raises
        ------
        ClusterDown
            If nobody answers.
        EngineError
            If the answer is an error.
        """
        try:
            answer = self.http.request(method, f"http://{self.target}{path}", json=body)
        except httpx.HTTPError as error:
            message = f"flink at `{self.target}` does not answer: `{str(error) or type(error).__name__}`; start the cluster, or correct [flink] target or --target"
            raise ClusterDown(message) from error
        if answer.is_error:
            message = f"flink at `{self.target}` refused `{method} {path}`: `{first_line(answer)}`"
            raise EngineError(message)
        return answer.json() if answer.content else {}

    def jobs(self) -> dict[str, str]:
        """Return the state of each job by its id, also of those that ended lately."""
        return {each["id"]: each["status"] for each in self.ask("GET", "/jobs")["jobs"]}

    def running(self) -> dict[str, str]:
        """Return the name of each job that has not ended, by its id."""
        jobs = self.ask("GET", "/jobs/overview")["jobs"]
        return {each["jid"]: each["name"] for each in jobs if each["state"] not in ENDED}

    def status(self, job: str) -> JobStatus | None:
        """Return what the cluster knows of a job; None where it does not know it."""
        if job not in self.jobs():
            return None
        found = self.ask("GET", f"/jobs/{job}")
        checkpoints = self.ask("GET", f"/jobs/{job}/checkpoints")
        newest = checkpoints.get("latest", {}).get("completed") or {}
        restored = checkpoints.get("latest", {}).get("restored") or {}
        at = newest.get("latest_ack_timestamp")
        return JobStatus(
            found["state"],
            self.restarts(job),
            newest.get("external_path") or restored.get("external_path") or "",
            None if at is None else max(time.time() - at / MILLISECONDS, 0.0),
            self.problem(job),
        )

    def restarts(self, job: str) -> int:
        """Return how often the job was restarted."""
        found = self.ask("GET", f"/jobs/{job}/metrics?get=numRestarts")
        return int(found[0]["value"]) if found else 0

    def duplicates(self, job: str) -> int | None:
        """Return how many copies the job has dropped since it was last started; None where that is not known yet.

        It is what goes into Flink's deduplication less what comes out; the cluster asks its parts every 10 s.
        """
        vertices = self.ask("GET", f"/jobs/{job}").get("vertices", [])
        own = [each["id"] for each in vertices if DEDUPLICATION in each["name"]]
        if not own:
            return None
        path = f"/jobs/{job}/vertices/{own[0]}/subtasks/metrics"
        names = [each["id"] for each in self.ask("GET", path)]
        wanted = [each for each in names if each.startswith(DEDUPLICATION) and each.endswith((IN, OUT))]
        if not wanted:  # asked for no names, Flink lists them again
            return None
        sums = self.ask("GET", f"{path}?agg=sum&get={quote(','.join(wanted))}")
        counted = {each["id"].rpartition(".")[2]: int(each["sum"]) for each in sums}
        return counted[IN] - counted[OUT] if counted.keys() == {IN, OUT} else None

    def problem(self, job: str) -> str:
        """Return the last cause of a failure, one line."""
        entries = self.ask("GET", f"/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        lines = (entries[0].get("stacktrace") or "").splitlines() if entries else []
        causes = [each.removeprefix("Caused by: ") for each in lines if each.startswith("Caused by: ")]
        return (causes or lines[:1] or [""])[-1]

    def checkpoint(self, job: str) -> None:
        """Have a job make a checkpoint now, beside those that it makes by itself."""
        self.ask("POST", f"/jobs/{job}/checkpoints", {"checkpointType": "CONFIGURED"})

    def cancel(self, job: str) -> None:
        """End a job at once; its checkpoints stay."""
        self.ask("PATCH", f"/jobs/{job}?mode=cancel")

    def stop(self, job: str, folder: str) -> str:
        """End a job with a savepoint below a folder; return its path.

        Raises
        ------
        EngineError
            If the savepoint fails, or is not there in time.
        """
        body = {"targetDirectory": folder, "drain": False}
        trigger = self.ask("POST", f"/jobs/{job}/stop", body)["request-id"]
        deadline = time.monotonic() + STOP_PATIENCE
        while time.monotonic() < deadline:
            found = self.ask("GET", f"/jobs/{job}/savepoints/{trigger}")
            if found["status"]["id"] == "COMPLETED":
                return location(found["operation"])
            time.sleep(TICK)
        message = f"savepoint of job `{job}` was not there after {STOP_PATIENCE:.0f} s; look at the cluster's log"
        raise EngineError(message)


def location(operation: dict[str, Any]) -> str:
    """Return where a savepoint is; raise what it failed of."""
    if "location" in operation:
        return str(operation["location"])
    cause = operation.get("failure-cause", {}).get("stack-trace", "").splitlines()
    causes = [each.removeprefix("Caused by: ") for each in cause if each.startswith("Caused by: ")]
    message = f"savepoint failed: `{(causes or cause[:1] or ['no reason given'])[-1]}`; the job goes on"
    raise EngineError(message)


def first_line(answer: httpx.Response) -> str:
    """Return the first line of an error that the cluster answered with."""
    try:
        errors = [line for each in answer.json().get("errors", []) for line in str(each).splitlines() if line]
    except ValueError:
        errors = []
    return errors[0] if errors else f"status {answer.status_code}"
