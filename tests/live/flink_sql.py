"""A Flink job on the cluster, handed over by a process of its own as the product does: PyFlink is not imported here."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unskew.online.flink_process import end, say
from unskew.online.java import java_home
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.jars import connector_jar


@contextmanager
def running_job(
    cluster: FlinkCluster, folder: Path, declarations: list[str], inserts: list[str], settings: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run statements on the cluster; the process ends with the block, the job does not."""
    host, port = cluster.address.split(":")
    remote = {"execution.target": "remote", "rest.address": host, "rest.port": port}
    remote |= {"pipeline.jars": connector_jar().as_uri()}
    request = {"settings": remote | settings, "declarations": declarations, "inserts": inserts}
    environment = {"JAVA_HOME": str(java_home()), "FLINK_LOG_DIR": str(folder), "PATH": "/usr/bin:/bin"}
    with (folder / "client.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "unskew.online.flink_child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env=environment, cwd=folder, start_new_session=True,
        )  # fmt: skip
    with process:
        try:
            say(process, json.dumps(request | {"savepoints": (folder / "savepoints").as_uri()}))
            yield process
        finally:
            end(process)


def kafka_table(name: str, topic: str, address: str) -> str:
    """Declare a topic of JSON as a table."""
    return f"""
        CREATE TABLE `{name}` (k STRING, v BIGINT) WITH (
            'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{address}',
            'scan.startup.mode' = 'earliest-offset', 'format' = 'json'
        )
    """
