"""Settings of a broker that asks for a name and a password: what is passed on, and that secrets are shown nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.archive_world import definitions
from unskew.online.live.settings import CERTIFICATE, Settings, load_settings
from unskew.online.live.topic_reader import TopicReader
from unskew.pipelines.errors import EngineError, InputError

SECRETS = ('pass"word', "key's own")
KAFKA = {
    "bootstrap_servers": "127.0.0.1:1,127.0.0.1:2",
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "scorer",
    "sasl_password": SECRETS[0],
    "ssl_cafile": "{folder}/ca.pem",
    "ssl_certfile": "{folder}/certificate.pem",
    "ssl_keyfile": "{folder}/key.pem",
    "ssl_password": SECRETS[1],
}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """Return the settings of Kafka; their files are there."""
    for each in ("ca.pem", "certificate.pem", "key.pem"):
        (tmp_path / each).write_text(CERTIFICATE)
    return {name: value.replace("{folder}", str(tmp_path)) for name, value in KAFKA.items()}


@pytest.fixture
def environment(given: dict[str, str]) -> dict[str, str]:
    return {f"UNSKEW_KAFKA_{name.upper()}": value for name, value in given.items()}


@pytest.fixture(params=["file", "environment"])
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, given: dict[str, str], environment: dict[str, str]
) -> Settings:
    """Return the settings as a file or the environment gives them."""
    path = tmp_path / "unskew.toml"
    lines = [f"{name} = '''{value}'''\n" for name, value in given.items() if request.param == "file"]
    path.write_text("".join(["[kafka]\n", *lines]))
    return load_settings(path, environment if request.param == "environment" else {})


def test_what_clients_are_told(settings: Settings, tmp_path: Path) -> None:
    assert settings.kafka.client() == {
        "bootstrap_servers": ["127.0.0.1:1", "127.0.0.1:2"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "scorer",
        "sasl_plain_password": SECRETS[0],
        "ssl_cafile": f"{tmp_path}/ca.pem",
        "ssl_certfile": f"{tmp_path}/certificate.pem",
        "ssl_keyfile": f"{tmp_path}/key.pem",
        "ssl_password": SECRETS[1],
    }
    login = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.scram.ScramLoginModule required"
    assert settings.kafka.flink() == {
        "properties.bootstrap.servers": "127.0.0.1:1,127.0.0.1:2",
        "properties.security.protocol": "SASL_SSL",
        "properties.sasl.mechanism": "SCRAM-SHA-512",
        "properties.sasl.jaas.config": f'{login} username="scorer" password="pass\\"word";',
        "properties.ssl.truststore.type": "PEM",
        "properties.ssl.truststore.location": f"{tmp_path}/ca.pem",
        "properties.ssl.keystore.type": "PEM",
        "properties.ssl.keystore.location": f"{tmp_path}/key.pem",
        "properties.ssl.key.password": SECRETS[1],
    }


def test_a_job_needs_the_certificate_beside_its_key(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    with pytest.raises(InputError, match=r"ssl_keyfile `.*key.pem` has no certificate; .* put both in it"):
        settings.kafka.flink()


def test_secrets_are_not_shown(
    settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unskew.online.live.topic_reader.PATIENCE", 500)
    with pytest.raises(EngineError, match="sasl_mechanism, sasl_username, sasl_password") as away:
        TopicReader(settings.kafka, "tx")
    with pytest.raises(InputError, match="security_protocol `SASL` is unknown") as unknown:
        load_settings(None, {**environment, "UNSKEW_KAFKA_SECURITY_PROTOCOL": "SASL"})
    shown = (repr(settings), str(settings), f"{settings.kafka.sasl_password}", str(away.value), str(unknown.value))
    assert not [each for each in shown for secret in SECRETS if secret in each]


def test_a_secret_of_another_type_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "unskew.toml").write_text("[kafka]\nsasl_password = 12345\n")
    with pytest.raises(InputError, match=r"`kafka\.sasl_password` is `\*\*\*`; give text"):
        load_settings(tmp_path / "unskew.toml", {})


def test_plans_show_no_secret(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "defs.py").write_text(definitions("tx", tmp_path / "archive"))
    done = subprocess.run(
        [sys.executable, "-m", "unskew.pipelines.cli", "plan", "--defs", str(tmp_path / "defs.py")],
        cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout and not [each for each in SECRETS if each in done.stdout + done.stderr]
