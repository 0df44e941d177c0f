"""A broker that asks for TLS and a login, and for a certificate: every part passes them on, and no log shows a password."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from tests.live.world import Payments, World, unique
from unskew.online.live.broker import Broker
from unskew.online.live.cluster import FlinkCluster
from unskew.online.live.processes import HOST, free_port
from unskew.pipelines.folders import read_files

PASSWORD = 'pass"word of a scorer'  # noqa: S105
KEY_PASSWORD = "pass word of a key"  # noqa: S105
MECHANISM = "SCRAM-SHA-512"
LISTENER = """
listeners=PLAINTEXT://{host}:{port},SECURED://{host}:{secured},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port},SECURED://{host}:{secured}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_scorer="{password}";
listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={folder}/server.pem
listener.name.secured.ssl.truststore.type=PEM
listener.name.secured.ssl.truststore.location={folder}/client-certificate.pem
listener.name.secured.ssl.client.auth={client_auth}
"""
SETTINGS = """
security_protocol = "SASL_SSL"
sasl_mechanism = "{mechanism}"
sasl_username = "scorer"
sasl_password = '{password}'
ssl_cafile = "{folder}/server-certificate.pem"
"""
CERTIFICATE = """
ssl_certfile = "{folder}/client-certificate.pem"
ssl_keyfile = "{folder}/client.pem"
ssl_password = "{key_password}"
"""


class Secured(Broker):
    """A broker with a second listener; where logins are kept by SCRAM, clients need a certificate too."""

    def __init__(self, folder: Path, mechanism: str) -> None:
        super().__init__(folder)
        self.secured = free_port()
        self.mechanism = mechanism

    @property
    def settings(self) -> str:
        """What a client is told."""
        own = SETTINGS + (CERTIFICATE if self.mechanism == MECHANISM else "")
        return own.format(password=PASSWORD, mechanism=self.mechanism, folder=self.folder, key_password=KEY_PASSWORD)

    def configure(self) -> Path:
        path = super().configure()
        own = LISTENER.format(
            host=HOST, port=self.port, controller=self.controller, secured=self.secured, folder=self.folder,
            password=PASSWORD.replace('"', '\\\\"'),  # once for the file of properties, once for the login
            client_auth="required" if self.mechanism == MECHANISM else "none",
        )  # fmt: skip
        path.write_text(path.read_text() + own)
        return path


def make_certificate(folder: Path, owner: str, password: str = "") -> None:
    """Write ``OWNER-certificate.pem``, and ``OWNER.pem`` with its key too."""
    key, certificate = folder / f"{owner}-key.pem", folder / f"{owner}-certificate.pem"
    secret = ["-aes-256-cbc", "-pass", f"pass:{password}"] if password else []  # Java reads no key encrypted otherwise
    make_key: list[str | Path] = ["openssl", "genpkey", "-algorithm", "RSA", *secret, "-out", key]
    sign: list[str | Path] = [
        "openssl", "req", "-x509", "-key", key, "-passin", f"pass:{password}", "-days", "2", "-subj", f"/CN={owner}",
        "-addext", f"subjectAltName=IP:{HOST}", "-out", certificate,
    ]  # fmt: skip
    for each in (make_key, sign):
        subprocess.run(each, check=True, capture_output=True)
    (folder / f"{owner}.pem").write_text(key.read_text() + certificate.read_text())


@pytest.fixture(params=["PLAIN", MECHANISM])
def secured(request: pytest.FixtureRequest, servers_folder: Path, jars: Path) -> Iterator[Secured]:
    folder = servers_folder / f"secured-{request.param}"
    folder.mkdir()
    make_certificate(folder, "server")
    make_certificate(folder, "client", KEY_PASSWORD)
    assert jars.is_dir()
    with Secured(folder, request.param) as server:
        with KafkaAdminClient(bootstrap_servers=server.address) as admin:
            login = UserScramCredentialUpsertion("scorer", ScramMechanism.SCRAM_SHA_512, PASSWORD)
            admin.alter_user_scram_credentials([login])
        yield server


def test_all_parts_work_over_tls_with_a_login(secured: Secured, flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    address, store = f"{HOST}:{secured.secured}", str(tmp_path / "store.sqlite")
    world = World(tmp_path, address, flink_cluster.address, store, unique(), Payments(7), kafka=secured.settings)
    try:
        world.start("materialize", "materialize")
        told = world.run("stream", "submit")
        world.send(300)
        world.settle()
        world.require_parity()
        world.require_account()
        told += world.run("archive", "--once") + world.run("stream", "status")
        assert read_files(tmp_path / "archive").num_rows == 300
        told += world.run("replay", str(tmp_path / "archive"))
        assert "300 messages are in topic" in told
    finally:
        world.end()
    logs = [each for folder in (tmp_path, flink_cluster.folder) for each in files_below(folder) if shows(each)]
    assert "running" in told and "of a scorer" not in told and "of a key" not in told
    assert logs == [tmp_path / "unskew.toml"]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, also while Flink deletes folders of it."""
    for path, _, files in os.walk(folder):
        yield from (Path(path) / each for each in files)


def shows(path: Path) -> bool:
    """Return whether a file has a password; Flink may have just deleted it."""
    try:
        return path.is_file() and any(each in path.read_bytes() for each in (b"of a scorer", b"of a key"))
    except FileNotFoundError:
        return False
