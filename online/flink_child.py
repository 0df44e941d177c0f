"""The process that runs Flink: PyFlink and Beam register the same protobuf files, so they cannot share one.

`flink_process` starts it with ``python -m`` and talks to it over pipes. It reads one line of JSON with the
settings and statements of a job, runs it, and answers with one line of JSON. A job for a cluster (`detached`) is
only handed over, and the answer has its id. A further line ``stop`` ends a job that watches its input; the end of
the input means that the parent is gone, and ends everything.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from typing import Any

STOP_ATTEMPTS = 60  # one a second: a job that is still starting cannot be stopped yet


def main() -> None:
    """Run the job that the first line describes."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed belongs to the log
    request = json.loads(sys.stdin.readline())
    stop = threading.Event()
    threading.Thread(target=listen, args=(stop,), daemon=True).start()
    job, error = "", ""
    try:
        job = run(request, stop)
    except Exception as caught:
        error = str(caught) or repr(caught)
        sys.stderr.write(error + "\n")
    answer.write(json.dumps({"error": innermost(error), "job": job}) + "\n")
    answer.flush()
    os._exit(0)  # Java ends with this process; PyFlink's own end can hang after a failure


def listen(stop: threading.Event) -> None:
    """Wait for the parent's word, or its end."""
    for line in sys.stdin:
        if line.strip() == "stop":
            stop.set()
    os._exit(1)


def innermost(error: str) -> str:
    r"""Return the line that names the last cause of a Java error.

    Examples
    --------
    >>> innermost("x\nCaused by: a.B: first\n\tat c\nCaused by: java.io.IOException: No space left on device\n")
    'java.io.IOException: No space left on device'
    """
    lines = [each.strip() for each in error.splitlines() if each.strip()]
    causes = [each.removeprefix("Caused by: ") for each in lines if each.startswith("Caused by: ")]
    first = [each.removeprefix(": ") for each in lines if each.startswith(": ")]  # py4j's own line stands before it
    return (causes or first or lines[:1] or [""])[-1]


def run(request: dict[str, Any], stop: threading.Event) -> str:
    """Declare the tables, run the inserts as one job, wait for its end unless it is detached; return its id."""
    from pyflink.common import Configuration  # noqa: PLC0415 - the import starts a JVM's classpath
    from pyflink.table import EnvironmentSettings, TableEnvironment  # noqa: PLC0415

    warnings.simplefilter("ignore")  # py4j's and PyFlink's own
    configuration = Configuration()
    for name, value in request["settings"].items():
        configuration.set_string(name, value)
    mode = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    environment = TableEnvironment.create(mode)
    for each in request["declarations"]:
        environment.execute_sql(each)
    together = environment.create_statement_set()
    for each in request["inserts"]:
        together.add_insert_sql(each)
    result = together.execute()
    client = result.get_job_client()
    job = str(client.get_job_id())
    if request.get("detached"):
        return job
    threading.Thread(target=end_when_told, args=(stop, client, request["savepoints"]), daemon=True).start()
    result.wait()
    return job


def end_when_told(stop: threading.Event, client: Any, savepoints: str) -> None:
    """End the job with a savepoint: what it has read is committed, and a later run resumes there."""
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415 - it starts Java

    stop.wait()
    # PyFlink's own method does not know the third argument that Java has needed since Flink 2.
    java, kind = client._j_job_client, get_gateway().jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
    for _ in range(STOP_ATTEMPTS):
        try:
            java.stopWithSavepoint(False, savepoints, kind).get()
            return
        except Exception as caught:  # it may still be starting
            sys.stderr.write(f"not stopped yet: {innermost(str(caught))}\n")
            time.sleep(1)
    client.cancel()  # the last checkpoint stays


if __name__ == "__main__":
    main()
