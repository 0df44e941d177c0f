"""A broker that asks for TLS and a login: every part passes them on, and no log shows the password."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.world import Payments, World, unique
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.processes import HOST, free_port
from unskew.pipelines.folders import read_files

PASSWORD = 'pass"word of a scorer'  # noqa: S105
LISTENER = """
listeners=PLAINTEXT://{host}:{port},SECURED://{host}:{secured},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port},SECURED://{host}:{secured}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_scorer="{password}";
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={folder}/server.pem
"""
SETTINGS = """
security_protocol = "SASL_SSL"
sasl_mechanism = "PLAIN"
sasl_username = "scorer"
sasl_password = '{password}'
ssl_cafile = "{folder}/certificate.pem"
"""


class Secured(Broker):
    """A broker with a second listener."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.secured = free_port()

    def configure(self) -> Path:
        path = super().configure()
        own = LISTENER.format(
            host=HOST, port=self.port, controller=self.controller, secured=self.secured, folder=self.folder,
            password=PASSWORD.replace('"', '\\\\"'),  # once for the file of properties, once for the login
        )  # fmt: skip
        path.write_text(path.read_text() + own)
        return path


@pytest.fixture
def secured(servers_folder: Path, jars: Path) -> Iterator[Secured]:
    folder = servers_folder / "secured"
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}",
         "-addext", f"subjectAltName=IP:{HOST}", "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "server.pem").write_text((folder / "key.pem").read_text() + (folder / "certificate.pem").read_text())
    assert jars.is_dir()
    with Secured(folder) as server:
        yield server


def test_all_parts_work_over_tls_with_a_login(secured: Secured, flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    settings = SETTINGS.format(password=PASSWORD, folder=secured.folder)
    address, store = f"{HOST}:{secured.secured}", str(tmp_path / "store.sqlite")
    world = World(tmp_path, address, flink_cluster.address, store, unique(), Payments(7), kafka=settings)
    try:
        world.start("materialize", "materialize")
        told = world.run("stream", "submit")
        world.send(300)
        world.settle()
        world.require_parity()
        world.require_account()
        told += world.run("archive", "--once") + world.run("stream", "status")
        assert read_files(tmp_path / "archive").num_rows == 300
    finally:
        world.end()
    logs = [each for folder in (tmp_path, flink_cluster.folder) for each in folder.rglob("*") if shows(each)]
    assert "running" in told and PASSWORD not in told and "of a scorer" not in told
    assert logs == [tmp_path / "unskew.toml"]


def shows(path: Path) -> bool:
    """Return whether a file has the password."""
    return path.is_file() and b"of a scorer" in path.read_bytes()
