"""The processes of a cluster as containers run them, natively: the commands of docker-compose.yml with other ports."""

import json
import sys
import time
import urllib.request
from pathlib import Path

from tests.servers import wait_for_none_in
from unskew.online.live.flink_node import Node, become
from unskew.online.live.flink_settings import TaskManagerMemory
from unskew.online.live.processes import HOST, Process, free_port

UNSKEW = [sys.executable, "-m", "unskew.pipelines.cli"]


def fetch(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""


def test_two_nodes_find_each_other_and_answer_prometheus(tmp_path: Path) -> None:
    rpc, rest, manager, worker = (free_port() for _ in range(4))
    common = [f"--job-manager={HOST}", f"--bind={HOST}", f"--rpc-port={rpc}"]
    started = []
    for kind, own in {
        "jobmanager": [f"--port={rest}", f"--metrics-port={manager}"],
        "taskmanager": [f"--metrics-port={worker}", "--slots=3"],
    }.items():
        folder = tmp_path / kind
        folder.mkdir()
        command = [*UNSKEW, "cluster", kind, f"--folder={folder}", *common, *own]
        started.append(Process(kind, command, folder, folder / "log"))

    def complete() -> bool:
        answer = fetch(rest, "/overview")
        return bool(answer) and json.loads(answer)["slots-total"] == 3

    try:
        started[0].wait_for(complete, 90.0)
        started[1].wait_for(lambda: "flink_taskmanager_Status_JVM_CPU_Load" in fetch(worker, "/metrics"), 30.0)
        started[0].wait_for(lambda: "flink_jobmanager_numRegisteredTaskManagers" in fetch(manager, "/metrics"), 30.0)
        time.sleep(0.2)
        assert not json.loads(fetch(rest, "/config"))["features"]["web-submit"]
    finally:
        for each in reversed(started):
            each.end()
    wait_for_none_in(tmp_path)


def test_memory_adds_up_and_settings_say_it(tmp_path: Path) -> None:
    memory = TaskManagerMemory(heap=1000, managed=500)
    assert memory.total == 2204
    assert memory.options()[:2] == ["-Xms1128m", "-Xmx1128m"]
    seen: list[tuple[str, list[str], dict[str, str]]] = []
    become(Node("taskmanager", tmp_path, "jobs", memory=memory, metrics_port=None), lambda *given: seen.append(given))
    ((program, command, environment),) = seen
    assert program == command[0]
    assert program.endswith("bin/java")
    assert "-Xmx1128m" in command
    assert Path(environment["FLINK_PLUGINS_DIR"], "metrics-prometheus").is_dir()
    text = (tmp_path / "conf" / "config.yaml").read_text()
    assert 'taskmanager.memory.task.heap.size: "1000m"\n' in text
    assert 'jobmanager.rpc.address: "jobs"\n' in text
    assert "metrics" not in text
