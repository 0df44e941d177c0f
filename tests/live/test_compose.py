"""What docker-compose.yml says, checked without an engine: its form, its commands, its limits. No image was built or run."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from unskew.online.live.archive_metrics import Metrics as ArchiveMetrics
from unskew.online.live.metrics import JOB
from unskew.online.live.metrics import Metrics as LiveMetrics
from unskew.online.live.settings import load_settings
from unskew.online.server.metrics import Metrics as ServerMetrics
from unskew.pipelines.cli import app

ROOT = Path(__file__).parents[2]
SCHEMA = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"  # of github.com/compose-spec
WRONG_USE = typer.BadParameter.__mro__[1]  # UsageError, which typer does not export
ONCE = {"topics", "topics-labels"}
TRAFFIC = {"traffic", "traffic-labels"}  # a shell's command, and only where the profile is asked for
METRICS = {
    "unskew_events_total", "unskew_job_events", "unskew_freshness_seconds", "unskew_consumer_lag", "unskew_store_seconds",
    "unskew_read_seconds", "unskew_rejected_writes_total", "unskew_checkpoint_age_seconds", "unskew_job_duplicates_total",
}  # fmt: skip


def read(path: str) -> Any:
    return YAML(typ="safe").load(ROOT / path)


COMPOSE = read("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "unskew" and name not in TRAFFIC]


def test_it_is_a_compose_file() -> None:
    jsonschema.validate(COMPOSE, json.loads(SCHEMA.read_text()))


def test_the_schema_refuses_what_is_none() -> None:
    wrong = {"services": {"kafka": {"image": "x", "restarts": "always"}}}
    with pytest.raises(jsonschema.ValidationError, match="restarts"):
        jsonschema.validate(wrong, json.loads(SCHEMA.read_text()))


def parse(words: list[str]) -> None:
    """Parse a command line as far as its last option; run nothing."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("unskew", list(words))
    while hasattr(command, "resolve_command"):
        _, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command, context = found, found.make_context(found.name, rest, parent=context)


@pytest.mark.parametrize("name", OURS)
def test_commands_are_those_of_the_command_line(name: str) -> None:
    parse(SERVICES[name]["command"])


@pytest.mark.parametrize("name", sorted(TRAFFIC))
def test_commands_of_traffic_are_those_of_the_command_line(name: str) -> None:
    assert SERVICES[name]["profiles"] == ["traffic"]
    assert SERVICES[name]["entrypoint"] == ["sh", "-c"]
    (text,) = SERVICES[name]["command"]
    _, *commands = text.replace("exec ", "").split(" && ")
    assert [each.split()[:2] for each in commands] == [["unskew", "simulate"], ["unskew", "replay"]]
    for each in commands:
        parse(each.split()[1:])


@pytest.mark.parametrize(
    "words", [["unheard-of"], ["stream", "unheard-of"], ["materialize", "--unheard-of=1"], ["cluster", "jobmanager"]]
)
def test_wrong_commands_are_noticed(words: list[str]) -> None:
    with pytest.raises(WRONG_USE):
        parse(words)


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_limited_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    ends = name in ONCE | TRAFFIC
    assert service["restart"] == ("on-failure" if ends else "unless-stopped")
    assert ends or service["healthcheck"]["test"]
    assert not service["image"].endswith(":latest")
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_nothing_secret_is_written_down() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|AUTH", name):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?[a-z .]+\}", value)
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"\$\{([A-Z_]+):\?", (ROOT / "docker-compose.yml").read_text())) == set(
        re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)
    )


def test_volumes_are_declared_and_files_are_there() -> None:
    used = {each.split(":")[0] for service in SERVICES.values() for each in service.get("volumes", [])}
    assert {each for each in used if not each.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / each).exists() for each in used if each.startswith("."))


def test_what_a_service_waits_for_is_there() -> None:
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] == ("service_completed_successfully" if name in ONCE else "service_healthy")


def test_the_settings_name_the_services() -> None:
    settings = load_settings(ROOT / "deploy" / "unskew.toml", {})
    for address in (settings.kafka.bootstrap_servers, settings.store.url, settings.flink.target):
        host = address.removeprefix("redis://").split(":")[0]
        assert host in SERVICES
    checkpoints = settings.flink.checkpoints.removeprefix("file://")
    for name in ("jobmanager", "taskmanager", "job"):
        assert f"checkpoints:{checkpoints}" in SERVICES[name]["volumes"]


def test_prometheus_asks_services() -> None:
    jobs = {each["job_name"]: each for each in read("deploy/prometheus.yml")["scrape_configs"]}
    named = [t for job in ("server", "workers") for config in jobs[job]["static_configs"] for t in config["targets"]]
    for target in named:
        name, port = target.split(":")
        assert any(word in SERVICES[name]["command"] for word in (f"--port={port}", f"--metrics-port={port}"))
    assert set(jobs["flink"]["dns_sd_configs"][0]["names"]) <= set(SERVICES)


def registries() -> tuple[CollectorRegistry, ...]:
    """Return the metrics of the server, the materialiser with a job, and the archiver, each with a value of every kind."""
    server, live, archiver = ServerMetrics(["s"]), LiveMetrics(), ArchiveMetrics("tx", "tx")
    server.events.labels("tx", "written")
    live.watch_job("tx", lambda: dict.fromkeys(JOB, 1.0), lambda: {("applied", ""): 1})
    live.store_time("write")
    for each in (live.freshness, live.rejected, live.rows):
        each.labels("tx")
    live.lag.labels("tx", "0")
    archiver.count({("accepted", ""): 1})
    archiver.behind(0, 1)
    return server.registry, live.registry, archiver.registry


def metrics(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Return the labels of each metric by its name as Prometheus knows it."""
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            name = re.sub("_(bucket|sum|count|created)$", "", sample.name)
            found[name] = set(sample.labels) - {"le"}
    return found


def test_metrics_of_one_name_have_the_same_labels_in_every_process() -> None:
    labels: dict[str, set[str]] = {}
    for registry in registries():
        for name, own in metrics(registry).items():
            assert labels.setdefault(name, own) == own, name
    assert labels["unskew_posted_events_total"] == {"source", "fate"} and labels["unskew_store_seconds"] == {"op"}


def test_the_dashboard_shows_each_metric() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "unskew.json").read_text())
    (source,) = read("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    shown = set()
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == source["uid"]
        for target in panel["targets"]:
            shown |= {re.sub("_bucket$", "", each) for each in re.findall("unskew_[a-z_]+", target["expr"])}
    assert shown == METRICS
    assert shown <= set().union(*(metrics(each) for each in registries()))
    (provider,) = read("deploy/grafana/provisioning/dashboards/unskew.yml")["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_the_dockerfile_is_one() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_what_the_services_use() -> None:
    text = (ROOT / "Dockerfile").read_text()
    folders = set(re.findall("^!([a-z_]+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert {each.split("/")[0] for each in packaged()} <= folders
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    for service in SERVICES.values():
        for word in (word for each in service.get("command", []) for word in each.split()):
            if word.startswith("--defs="):
                path = Path(word.removeprefix("--defs="))
                assert f" {path.parent}\n" in text
                assert (ROOT / "feature_defs" / path.name).exists()


def packaged() -> Iterable[str]:
    """Return the folders of the packages."""
    found: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    return found.values()
