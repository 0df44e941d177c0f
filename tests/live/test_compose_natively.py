"""docker-compose.yml as it runs, but for the images: its commands, environments and health checks, on this machine's ports."""

import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pyarrow.dataset as ds
import pytest

from tests.live.test_compose import ONCE, OURS, ROOT, SERVICES, TRAFFIC, read
from tests.live.world import wait
from tests.required import missing
from tests.servers import wait_for_none_in
from unskew.online.live.broker import Broker
from unskew.online.live.processes import HOST, Process, free_port, listens
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import make_topics
from unskew.online.server.client import Client

PASSWORD = "native secret"  # noqa: S105
PATIENCE = 240.0  # s
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what containers listen on
PORTS = {"jobmanager": {"--rpc-port": 6123, "--port": 8081, "--metrics-port": 9249}}
PORTS["taskmanager"] = {"--rpc-port": 6123, "--metrics-port": 9249}  # the first one is the JobManager's


class Containers:
    """Runs the services natively: names and ports become those of this machine, paths those of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running = ExitStack()
        self.ports: dict[tuple[str, int], int] = defaultdict(free_port)
        settings = (ROOT / "deploy" / "unskew.toml").read_text()
        (folder / "unskew.toml").write_text(self.native("settings", settings))
        (folder / "build" / "live").mkdir(parents=True)
        (folder / "checkpoints").mkdir()

    def port(self, service: str, own: int) -> int:
        """Return the port here of a port there."""
        return self.ports[service, own]

    def native(self, service: str, text: str) -> str:
        """Return a text of a service as it means the same here."""
        names = "|".join(sorted([*SERVICES, "localhost"], key=len, reverse=True))

        def address(found: re.Match[str]) -> str:
            return f"{HOST}:{self.port(service if found[1] == 'localhost' else found[1], int(found[2]))}"

        text = re.sub(rf"(?<![\w-])({names}):(\d+)", address, text)
        text = re.sub(r"(--(?:metrics-)?port=)(\d+)", lambda each: f"{each[1]}{self.port(service, int(each[2]))}", text)
        text = text.replace(EVERYWHERE, HOST).replace("--job-manager=jobmanager", f"--job-manager={HOST}")
        for there, here in (
            ("/opt/unskew/definitions", ROOT / "feature_defs"), ("/etc/unskew", self.folder),
            ("/var/lib/unskew", self.folder), ("/tmp/flink", self.folder / service),  # noqa: S108
        ):  # fmt: skip
            text = text.replace(there, str(here))
        return text

    def environment(self, service: str) -> dict[str, str]:
        """Return a service's variables; what is chosen in .env is chosen here."""
        found = SERVICES[service].get("environment", {})
        return {name: re.sub(r"\$\{\w+:\?.*?\}", PASSWORD, str(each)) for name, each in found.items()}

    def kafka(self) -> Broker:
        """Start the broker as its image does: each variable ``KAFKA_A_B`` is the setting ``a.b``."""
        given = {k.removeprefix("KAFKA_"): v for k, v in self.environment("kafka").items() if k != "KAFKA_HEAP_OPTS"}
        lines = {name.lower().replace("_", "."): value for name, value in given.items()}
        lines["log.dirs"] = str(self.folder / "kafka" / "data")
        for name in ("listeners", "advertised.listeners", "controller.quorum.voters"):
            lines[name] = self.native("kafka", lines[name].replace("//:", "//kafka:"))

        class Configured(Broker):
            def configure(self) -> Path:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / "server.properties"
                path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
                return path

        return self.running.enter_context(Configured(self.folder / "kafka", self.port("kafka", 9092)))

    def topics(self) -> None:
        """Make the topics that the one-time service makes."""
        for name in sorted(ONCE):
            words = [each.removeprefix("--").split("=", 1) for each in SERVICES[name]["command"][1:]]
            options = dict(each for each in words if len(each) == 2 and each[0] != "config")
            config = dict(each[1].split("=") for each in words if each[0] == "config")
            settings = KafkaSettings(bootstrap_servers=self.native(name, options["bootstrap-server"]))
            for topic in options["topic"].split(","):
                make_topics(settings, {topic: int(options["partitions"])}, config)

    def redis(self) -> None:
        """Start the store by its own command."""
        shell, flag, text = SERVICES["redis"]["command"]
        own = f"{text.replace('$$', '$')} --bind {HOST} --port {self.port('redis', 6379)} --dir {self.folder}"
        self.start("redis", [shell, flag, own])
        wait(lambda: listens(self.port("redis", 6379)))

    def traffic(self, name: str) -> None:
        """Start what makes traffic, of a log that is made in a moment."""
        (text,) = SERVICES[name]["command"]
        text = self.native(name, text).replace("/tmp/log", str(self.folder / f"log-{name}"))  # noqa: S108
        text = text.replace("--scale 1000000", "--scale 3000")
        text = re.sub(r"\bunskew (?=simulate|replay)", f"{sys.executable} -m unskew.pipelines.cli ", text)
        self.start(name, [*SERVICES[name]["entrypoint"], text])

    def start(self, name: str, command: list[str] | None = None, number: int = 1) -> Process:
        """Start a service; a node of the cluster is told the ports that a container would have for itself."""
        words = command or [sys.executable, "-m", "unskew.pipelines.cli"]
        if command is None:
            words += [self.native(name, each) for each in SERVICES[name]["command"]]
            for option, own in PORTS.get(name, {}).items():
                owner = "jobmanager" if option == "--rpc-port" else f"{name}{number if number > 1 else ''}"
                words.append(f"{option}={self.port(owner, own)}")
            if name in PORTS:
                words += [f"--bind={HOST}", f"--folder={self.folder / f'{name}-{number}'}"]
        log = self.folder / f"{name}-{number}.log"
        process = Process(name, words, self.folder, log, self.environment(name))
        self.running.callback(process.end)
        return process

    def healthy(self, name: str) -> bool:
        """Run a service's own health check."""
        kind, program, *words = SERVICES[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        own = [sys.executable, *(self.native(name, each) for each in words)]
        return subprocess.run(own, capture_output=True, timeout=30, check=False).returncode == 0

    def log(self, name: str) -> str:
        return (self.folder / f"{name}-1.log").read_text()[-2000:]


@pytest.fixture
def containers(tmp_path: Path, jars: Path) -> Iterator[Containers]:
    if not list(jars.glob("kafka_*")):
        missing("the folder of jars has no broker")
    found = Containers(tmp_path)
    with found.running:
        yield found
    wait_for_none_in(tmp_path)


def test_the_services_work_together(containers: Containers) -> None:
    containers.kafka()
    containers.redis()
    containers.topics()
    for name in OURS:
        for number in range(1, SERVICES[name]["deploy"].get("replicas", 1) + 1):
            containers.start(name, number=number)
    for name in OURS:
        wait(lambda name=name: containers.healthy(name), PATIENCE, lambda name=name: containers.log(name))  # type: ignore[misc]

    def told(address: str) -> httpx.Response:
        return httpx.get(
            f"http://{containers.native('prometheus', address)}", timeout=30.0, trust_env=False
        ).raise_for_status()

    def running() -> set[str]:
        """Return the sources whose jobs run."""
        jobs = told("jobmanager:8081/jobs/overview").json()["jobs"]
        return {each["name"].split("-")[1] for each in jobs if each["state"] == "RUNNING"}

    assert told("jobmanager:8081/overview").json()["slots-total"] == 8
    wait(lambda: running() == {"transactions", "labels"}, PATIENCE, lambda: containers.log("job-labels"))
    assert not told("jobmanager:8081/config").json()["features"]["web-submit"]
    assert "flink_jobmanager_numRegisteredTaskManagers" in told("jobmanager:9249/metrics").text
    now = time.time_ns() // 1_000_000
    event = {"event_time": now - 1_000, "customer_id": 7, "terminal_id": 3, "amount": "12.50", "country": "CH"}
    url = f"http://{HOST}:{containers.port('server', 8080)}"
    for number in range(3):
        posted = httpx.post(f"{url}/v1/events/transactions", json=event | {"transaction_id": number}, trust_env=False)
        assert posted.status_code == 202, posted.text
    with Client([url], "fraud", deadline=PATIENCE) as client:

        def count() -> Any:
            (found,) = (
                client.read([{"customer_id": 7, "terminal_id": 3, "amount": "1"}])
                .table()["customer_activity.tx_count_1h"]
                .to_pylist()
            )
            return found

        wait(lambda: count() == 3, PATIENCE, lambda: containers.log("materialiser"))
        client.read([{"customer_id": each, "terminal_id": 3, "amount": "1"} for each in range(100)])
    archive = containers.folder / "build" / "live"
    wait(lambda: rows(archive / "transactions") == 3, PATIENCE, lambda: containers.log("archiver"))
    wait(lambda: rows(archive / "served") > 0, PATIENCE, lambda: containers.log("archiver-served"))
    for name in sorted(TRAFFIC):
        containers.traffic(name)
    wait(lambda: rows(archive / "transactions") > 500, PATIENCE, lambda: containers.log("traffic"))
    wait(lambda: rows(archive / "labels") > 50, PATIENCE, lambda: containers.log("traffic-labels"))
    for job in read("deploy/prometheus.yml")["scrape_configs"]:
        for target in (each for config in job.get("static_configs", []) for each in config["targets"]):
            assert "unskew_" in told(f"{target}/metrics").text


def rows(archive: Path) -> int:
    """Return the rows of the archive so far."""
    found = [each for each in archive.glob("date=*/*.parquet") if not each.name.startswith(".")]
    return int(ds.dataset(found).count_rows()) if found else 0
