"""A Kafka broker for a laptop and for tests: one node, broker and controller in one."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from unskew.online.java import LEAST_PROCESSOR, SHORT_WORK
from unskew.online.live.jars import broker_jars
from unskew.online.live.jvm import java
from unskew.online.live.processes import HOST, Process, free_port, listens, take_port
from unskew.online.live.server import Server
from unskew.pipelines.errors import EngineError

HEAP = ("-Xms512m", "-Xmx512m", LEAST_PROCESSOR)
PATIENCE = 60.0  # s
# what is replayed has timestamps of its past: the retention of a week would delete it within minutes
# a broker that was killed cannot join again before its session is over: 3 s instead of 9
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
log.message.timestamp.type=CreateTime
log.retention.ms=-1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""


class Broker(Server):
    """One Kafka broker, on the loopback address.

    Parameters
    ----------
    folder
        Settings, data and log; what is there is used again.
    port
        None takes any free one.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """Say where it will run."""
        super().__init__(folder)
        self.port = take_port(port)
        self.controller = free_port()
        self.process: Process | None = None

    @property
    def address(self) -> str:
        """``host:port``, as ``bootstrap_servers`` takes it."""
        return f"{HOST}:{self.port}"

    def come_up(self) -> None:
        """Start it, and wait until it answers."""
        settings = self.configure()
        if not (self.folder / "data" / "meta.properties").exists():
            self.format(settings)
        command = java(broker_jars(), self.folder, HEAP, ["kafka.Kafka", str(settings)])
        self.process = Process("kafka's broker", command, self.folder, self.folder / "broker.log", keeps=self.kept())
        self.process.wait_for(self.answers, PATIENCE)

    def configure(self) -> Path:
        """Write the settings; return their file."""
        path = self.folder / "server.properties"
        text = PROPERTIES.format(host=HOST, port=self.port, controller=self.controller, data=self.folder / "data")
        path.write_text(text, encoding="utf-8")
        return path

    def format(self, settings: Path) -> None:
        """Make the data folder."""
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        program = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings)]
        command = java(broker_jars(), self.folder, (SHORT_WORK,), program)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603 - our own
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
            message = f"data of kafka's broker cannot be made: `{said[-1][:300]}`; give an empty folder"
            raise EngineError(message)

    def answers(self) -> bool:
        """Return whether the broker has joined its cluster and speaks its protocol."""
        from kafka import KafkaAdminClient  # noqa: PLC0415 - only this needs it
        from kafka.errors import KafkaError  # noqa: PLC0415

        if not listens(self.port):
            return False
        try:
            client = KafkaAdminClient(
                bootstrap_servers=self.address, request_timeout_ms=1000, bootstrap_timeout_ms=1000
            )
        except KafkaError:
            return False
        try:
            return bool(client.describe_cluster()["brokers"])
        except KafkaError:
            return False
        finally:
            client.close()

    def processes(self) -> list[Process]:
        """Return its one process."""
        return [self.process] if self.process else []
