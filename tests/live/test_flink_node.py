"""A node of a cluster, as a container becomes it; `test_compose_natively` runs nodes together."""

from pathlib import Path

from unskew.online.live.flink_node import Node, become
from unskew.online.live.flink_settings import TaskManagerMemory


def test_memory_adds_up_and_settings_say_it(tmp_path: Path) -> None:
    memory = TaskManagerMemory(heap=1000, managed=500)
    assert memory.total == 2204
    assert memory.options()[:2] == ["-Xms1128m", "-Xmx1128m"]
    assert memory.options()[-1] == "-XX:+UseSerialGC"
    assert TaskManagerMemory(heap=2000).options()[-1] == "-XX:+UseG1GC"
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
