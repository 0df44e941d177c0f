"""`unskew jars` and `unskew dev`, as a user runs them; nothing is left of them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.programs import beside
from tests.required import missing
from tests.servers import wait_for_none_in
from unskew.online.live.jars import CONNECTOR
from unskew.online.live.processes import HOST, Process, free_port, is_free
from unskew.online.live.redis_server import PROGRAM
from unskew.online.live.server import take
from unskew.pipelines.cli import app
from unskew.pipelines.errors import InputError

UNSKEW = [sys.executable, "-m", "unskew.pipelines.cli"]


def running(part: str, folder: Path | None, port: int) -> AbstractContextManager[subprocess.Popen[str]]:
    if part == "redis" and shutil.which(PROGRAM) is None:
        missing(f"there is no {PROGRAM}")
    command = [*UNSKEW, "dev", part, "--port", str(port), *(["--folder", str(folder)] if folder else [])]
    return beside(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"))


def test_any_free_port(tmp_path: Path) -> None:
    with running("redis", tmp_path, 0) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2].split("/")[0])
        assert port > 0 and not is_free(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_jars(jars: Path) -> None:
    done = subprocess.run([*UNSKEW, "jars"], capture_output=True, text=True, check=True, timeout=60)
    assert Path(done.stdout.strip()) == jars
    assert list(jars.glob(f"{CONNECTOR}-*.jar"))


@pytest.mark.parametrize(
    ("part", "number", "scheme", "path"),
    [
        ("redis", signal.SIGINT, "redis://", "/0"),
        ("redis", signal.SIGTERM, "redis://", "/0"),
        ("kafka", signal.SIGINT, "", ""),
        ("flink", signal.SIGTERM, "", ""),
    ],
)
def test_a_signal_ends_it_quietly(part: str, number: int, scheme: str, path: str, tmp_path: Path, jars: Path) -> None:
    assert jars.is_dir()
    port = free_port()
    with running(part, tmp_path, port) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{scheme}{HOST}:{port}{path}\n", process.stderr.read()
        process.send_signal(number)
        assert process.wait(30) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    wait_for_none_in(tmp_path)
    assert is_free(port)


@pytest.mark.parametrize("part", ["redis", "kafka"])
def test_a_killed_command_leaves_nothing(part: str, tmp_path: Path, jars: Path) -> None:
    assert jars.is_dir()
    port = free_port()
    with running(part, tmp_path, port) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()
    wait_for_none_in(tmp_path)
    assert is_free(port)


def test_a_folder_in_use_is_left_alone(tmp_path: Path, jars: Path) -> None:
    assert jars.is_dir()
    for part in ("redis", "kafka", "flink"):
        folder = tmp_path / part
        port = free_port()
        with running(part, folder, port) as first:
            assert first.stdout is not None
            assert first.stdout.readline()
            with running(part, folder, free_port()) as second:
                _, said = second.communicate(timeout=30)
            assert second.returncode == 2
            advice = "end that one, or name another folder"
            assert said == f"unskew: folder `{folder}` is used by process `{first.pid}`; {advice}\n"
            settings = folder / {"redis": "redis.conf", "kafka": "server.properties"}.get(part, "conf/config.yaml")
            assert str(port) in settings.read_text()
            first.send_signal(signal.SIGINT)
            assert first.wait(90) == 0


def test_a_folder_is_in_use_for_as_long_as_a_server_runs_there(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    held = take(tmp_path)
    process = Process("sleeper", sleeper, tmp_path, tmp_path / "log", keeps=[held.fileno()])
    held.close()  # as the end of a killed command does
    with pytest.raises(InputError, match=f"folder `{tmp_path}` is used by process `{os.getpid()}`"):
        take(tmp_path)
    process.end()
    take(tmp_path).close()


def test_a_folder_that_cannot_be_made() -> None:
    with running("redis", Path("/proc/none"), free_port()) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said == "unskew: folder `/proc/none` cannot be written: No such file or directory; name another\n"


def test_an_interrupted_start_leaves_nothing(tmp_path: Path, jars: Path) -> None:
    assert jars.is_dir()
    with running("kafka", tmp_path, free_port()) as process:
        while not (tmp_path / "broker.log").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    wait_for_none_in(tmp_path)


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with running("redis", tmp_path, port) as process:
            _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said == f"unskew: port `{port}` is taken; end what listens there, or choose another\n"


def test_a_server_that_dies_ends_the_command(tmp_path: Path) -> None:
    with running("redis", tmp_path, free_port()) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        (warden,) = [each for each in os.listdir("/proc") if each.isdigit() and is_child(each, process.pid)]
        os.killpg(int(warden), signal.SIGKILL)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said == f"unskew: redis was killed (signal 9); see `{tmp_path / 'redis.log'}`\n"


def test_what_a_killed_command_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for end in (signal.SIGKILL, signal.SIGINT):
        with running("redis", None, free_port()) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(end)
        wait_for_none_in(tmp_path)
        left = list(tmp_path.iterdir())
        assert len(left) == (end == signal.SIGKILL)
        for each in left:
            os.utime(each, (0, 0))


@pytest.mark.parametrize("part", ["redis", "kafka", "flink"])
@pytest.mark.parametrize("port", [99_999, -1])
def test_no_port(part: str, port: int, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["dev", part, "--port", str(port), "--folder", str(tmp_path / "new")])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == f"port `{port}` is none; choose one from 1 to 65535"
    assert not (tmp_path / "new").exists()


def is_child(pid: str, parent: int) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[1] == str(parent)
    except OSError:
        return False
