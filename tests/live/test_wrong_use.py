"""Commands of the running system refuse what they cannot do, before anything is made or sent."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unskew.online.live import archive_metrics
from unskew.online.live.metrics import Metrics
from unskew.online.live.settings import StoreSettings
from unskew.online.stores import open_store
from unskew.pipelines.cli import app
from unskew.pipelines.errors import InputError, StoreError

FRAUD = ["--defs", "feature_defs/fraud.py", "--set", "fraud"]
SOURCE = [*FRAUD, "--source", "transactions"]


def refused(*words: str) -> str:
    """Return the one line of a command that is refused."""
    done = CliRunner().invoke(app, [*words])
    assert isinstance(done.exception, InputError), done.output
    assert not done.output and "\n" not in str(done.exception)
    return str(done.exception)


def test_a_metrics_port_that_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for port in (taken, 99_999, -1):
            said = f"metrics cannot be served at `127.0.0.1:{port}`: .*; choose another --metrics-port"
            with pytest.raises(InputError, match=said):
                Metrics().serve(port)
            with pytest.raises(InputError, match=said):
                archive_metrics.Metrics("tx", "tx", port)


def test_materialize_says_it_in_one_line() -> None:
    words = ["materialize", *FRAUD, "--metrics-port", "99999"]
    command = [sys.executable, "-m", "unskew.pipelines.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    said = "unskew: metrics cannot be served at `127.0.0.1:99999`: it is no port; choose another --metrics-port\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_quarantine_that_is_not_there_is_not_replayed(tmp_path: Path, more: list[str]) -> None:
    archive = tmp_path / "nope"
    said = refused("quarantine", "replay", *SOURCE, "--archive", str(archive), *more)
    assert said == f"archive `{archive}` does not exist; run `unskew archive`, or give --archive"
    assert not archive.exists()


@pytest.mark.parametrize(
    "content",
    [b"[kafka]\npartitions = 2\n", bytes(range(256)) * 64, b"1\n2\n", b"PAR1\n"],
    ids=["toml", "binary", "numbers", "magic"],
)
def test_a_log_of_another_kind_is_not_sent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.jsonl").write_text('{"card": 1}\n')
    other = tmp_path / "other"
    other.write_bytes(content)
    said = f"file `{other}` does not begin with a JSON object; give JSON lines, one object each, or .parquet files"
    assert refused("replay", *SOURCE, str(other)) == said
    assert refused("replay", *SOURCE, str(tmp_path)) == said


def test_the_folder_of_a_store_is_made(tmp_path: Path) -> None:
    path = tmp_path / "build" / "new" / "store.sqlite"
    with open_store(StoreSettings(url=str(path))):
        assert path.is_file()
    with pytest.raises(
        StoreError, match="folder `/proc/none` of store `/proc/none/store` cannot be made: No such file"
    ):
        open_store(StoreSettings(url="/proc/none/store"))
