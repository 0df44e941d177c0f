"""Settings that cannot be meant are refused when they are read."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from unskew.online.live.settings import load_settings
from unskew.pipelines.cli import app
from unskew.pipelines.errors import InputError

ADDRESS = "give host:port"
EMPTY = "setting `store.url` is ``; give the path of an SQLite file, or redis://HOST:PORT/0"


def loaded(folder: Path, table: str, **values: object) -> object:
    path = folder / "unskew.toml"
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    path.write_text("\n".join([f"[{table}]", *lines]))
    return getattr(load_settings(path, {}), table)


@pytest.mark.parametrize(
    ("table", "values", "message"),
    [
        ("server", {"port": 99_999}, "setting `server.port` is `99999`; give a port, at most 65535"),
        ("store", {"url": ""}, EMPTY),
        ("store", {"url": " "}, "setting `store.url` is ` `"),
        ("store", {"ssl_cafile": "/none.pem"}, "setting `store.ssl_cafile` is `/none.pem`; give the path of a PEM file"),
        *(
            ("kafka", {"bootstrap_servers": each}, f"setting `kafka.bootstrap_servers` is `{each}`; {ADDRESS}")
            for each in ("127.0.0.1:bad", "", "localhost", ":9092", "a:1,", "a:1,b", "a:0", "a:65536", "kafka://a:1", "::1:9092")
        ),
        *(
            ("flink", {"target": each}, f"setting `flink.target` is `{each}`; {ADDRESS}")
            for each in ("http://localhost:8081", "nohostport", "", "a:1,b:1", "a:-1")
        ),
        *(
            ("kafka", {"security_protocol": each, "sasl_username": "me"}, f"security_protocol `{each}` needs sasl_password, which is empty")
            for each in ("SASL_PLAINTEXT", "SASL_SSL")
        ),
        ("kafka", {"security_protocol": "SASL_SSL", "sasl_password": "hush"}, "needs sasl_username, which is empty"),
        ("kafka", {"security_protocol": "SSL", "ssl_cafile": "/none.pem"}, "setting `kafka.ssl_cafile` is `/none.pem`"),
        ("kafka", {"ssl_keyfile": "/"}, "setting `kafka.ssl_keyfile` is `/`; give the path of a PEM file"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, table: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, table, **values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and "hush" not in str(caught.value)


def test_what_can_be_meant_is_taken(tmp_path: Path) -> None:
    for each in ("a:1", "kafka_1.example:9092, 10.0.0.1:65535", "[::1]:9092"):
        loaded(tmp_path, "kafka", bootstrap_servers=each)
    pem = tmp_path / "ca.pem"
    pem.touch()
    given = {"security_protocol": "SASL_SSL", "sasl_username": "me", "sasl_password": "hush", "ssl_cafile": str(pem)}
    loaded(tmp_path, "kafka", **given)
    loaded(tmp_path, "server", port=65_535)


@pytest.mark.parametrize("words", [["upload", "--events", "none", "--output", "none"], ["get", "--at", "0"], ["serve"]])
def test_a_store_without_a_name_is_refused(words: list[str]) -> None:
    ask = [*words, "--defs", "feature_defs/retail.py", "--store", ""]
    done = CliRunner().invoke(app, ask)
    assert isinstance(done.exception, InputError), done.output
    assert str(done.exception) == EMPTY
