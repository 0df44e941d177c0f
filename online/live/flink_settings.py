"""Settings of a Flink cluster that unskew runs, on a laptop and in containers alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unskew.online.java import COMPILE_LATER, LEAST_PROCESSOR, SHORT_WORK, SHORTEST_PAUSES

LARGE = 2048  # MiB of heap from which on the pauses of the collector that takes the least processor would be felt
JOB_MANAGER_MEMORY = ["-Xms256m", "-Xmx512m", "-XX:MaxMetaspaceSize=256m", LEAST_PROCESSOR, SHORT_WORK]
FRAMEWORK_HEAP, OFF_HEAP, NETWORK, METASPACE, OVERHEAD = 128, 128, 64, 256, 128  # MiB
# a TaskManager that was killed counts as there for the heartbeat's timeout: fixed restarts run out before that
FAILURES = {
    "cluster.registration.error-delay": "500ms",  # else a TaskManager that is up first waits 10 s
    "heartbeat.interval": "2s",
    "heartbeat.timeout": "8s",
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "1s",
    "restart-strategy.exponential-delay.max-backoff": "10s",
}
STATE = {
    "state.backend.type": "rocksdb",
    "execution.checkpointing.incremental": "true",
    "execution.checkpointing.storage": "filesystem",
}


@dataclass(frozen=True)
class TaskManagerMemory:
    """What Flink's scripts would work out from one size; a TaskManager that is started without them needs each by name.

    Parameters
    ----------
    heap
        Of the tasks, MiB.
    managed
        RocksDB's, MiB.
    """

    heap: int = 320
    managed: int = 256

    @property
    def total(self) -> int:
        """What the process takes in all, MiB."""
        return self.heap + self.managed + FRAMEWORK_HEAP + OFF_HEAP + NETWORK + METASPACE + OVERHEAD

    def options(self) -> list[str]:
        """Return the JVM's options."""
        size = self.heap + FRAMEWORK_HEAP
        collector = SHORTEST_PAUSES if size >= LARGE else LEAST_PROCESSOR
        direct = f"-XX:MaxDirectMemorySize={OFF_HEAP + NETWORK}m"
        return [f"-Xms{size}m", f"-Xmx{size}m", direct, f"-XX:MaxMetaspaceSize={METASPACE}m", *COMPILE_LATER, collector]

    def settings(self) -> dict[str, str]:
        """Return Flink's settings."""
        sizes = {
            "framework.heap.size": FRAMEWORK_HEAP,
            "task.heap.size": self.heap,
            "framework.off-heap.size": OFF_HEAP,
            "task.off-heap.size": 0,
            "network.min": NETWORK,
            "network.max": NETWORK,
            "managed.size": self.managed,
            "jvm-metaspace.size": METASPACE,
            "jvm-overhead.min": OVERHEAD,
            "jvm-overhead.max": OVERHEAD,
        }
        found = {f"taskmanager.memory.{name}": f"{size}m" for name, size in sizes.items()}
        return {"taskmanager.cpu.cores": "1.0", **found}


def write_settings(folder: Path, places: Mapping[str, str], memory: TaskManagerMemory) -> Path:
    """Write ``conf/config.yaml`` below a folder; return ``conf``.

    Parameters
    ----------
    places
        Addresses and folders; what is said there takes the place of ours.
    """
    conf = folder / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    settings = {**memory.settings(), **FAILURES, **STATE, **places}
    lines = [f'{name}: "{value}"\n' for name, value in settings.items()]
    (conf / "config.yaml").write_text("".join(lines), encoding="utf-8")
    return conf
