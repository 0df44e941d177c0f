"""Programs are never left behind, and say why they did not come up."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import processes_in, wait_for_none_in
from unskew.online.live.processes import GRACE, HOST, PORTS, Process, free_port, is_free, listens, take_port
from unskew.pipelines.errors import EngineError, InputError

ROOT = Path(__file__).parents[2]
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable, "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]  # fmt: skip


def started(folder: Path, command: list[str]) -> Process:
    process = Process("sleeper", command, folder, folder / "log")
    process.wait_for(lambda: "up" in process.log.read_text(), 30.0)
    return process


def test_ends_with_term(tmp_path: Path) -> None:
    process = started(tmp_path, SLEEPER)
    assert process.alive()
    assert len(processes_in(tmp_path)) == 2  # it and its warden
    process.end()
    assert not process.alive()
    assert not processes_in(tmp_path)
    process.end()  # once more does nothing
    process.kill()


def test_a_nice_one_leaves_the_processors_to_other_sessions(tmp_path: Path) -> None:
    process = Process("sleeper", SLEEPER, tmp_path, tmp_path / "log", nice=7)
    process.wait_for(lambda: "up" in process.log.read_text(), 30.0)
    try:
        assert {each.nice() for each in processes_in(tmp_path)} == {7}
        for each in processes_in(tmp_path):
            group = Path(f"/proc/{each.pid}/autogroup")
            assert not group.exists() or group.read_text().endswith("nice 7\n")
    finally:
        process.end()


def test_what_ignores_term_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, STUBBORN)
    process.end(grace=0.2)
    assert not process.alive()
    wait_for_none_in(tmp_path)
    assert GRACE > 0.2


def test_kill_takes_the_whole_group(tmp_path: Path) -> None:
    process = started(tmp_path, SLEEPER)
    process.kill()
    assert not process.alive()
    assert not processes_in(tmp_path)


def test_what_was_killed_has_left_its_port(tmp_path: Path) -> None:
    port = free_port()
    code = f"""
import socket
held = socket.create_server(("{HOST}", {port}))
memory = bytearray(b"1") * 300_000_000  # for the kernel to take back first
print("up", flush=True)
held.accept()
"""
    process = started(tmp_path, [sys.executable, "-c", code])
    process.kill()
    assert is_free(port)
    assert not processes_in(tmp_path)


@pytest.mark.parametrize("command", [SLEEPER, STUBBORN])
def test_ends_if_the_parent_is_killed(tmp_path: Path, command: list[str]) -> None:
    code = f"""
import time
from pathlib import Path
from unskew.online.live.processes import Process
folder = Path({str(tmp_path)!r})
Process("sleeper", {command!r}, folder, folder / "log")
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd="/")
    log = tmp_path / "log"
    last = time.monotonic() + 30
    while not (log.exists() and "up" in log.read_text()):
        assert time.monotonic() < last
        time.sleep(0.05)
    assert processes_in(tmp_path)
    parent.kill()
    parent.wait()
    wait_for_none_in(tmp_path)


def test_ends_if_the_parent_is_killed_while_it_is_paused(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from tests.live.test_processes import SLEEPER, started
from tests.servers import paused
folder = Path({str(tmp_path)!r})
with paused(started(folder, SLEEPER)):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    wait_for_none_in(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux' kernel ends a child with its parent")
def test_ends_if_its_warden_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, SLEEPER)
    os.kill(process.pid, signal.SIGKILL)
    process.popen.wait()
    wait_for_none_in(tmp_path)


def test_says_why_it_ended(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "raise SystemExit('port is in use\\n\\tat java.net.Bind')"]
    process = Process("server x", failing, tmp_path, tmp_path / "log")
    with pytest.raises(EngineError) as caught:
        process.wait_for(lambda: False, 30.0)
    assert str(caught.value) == f"server x ended with code `1`: `port is in use`; see `{tmp_path / 'log'}`"


def test_says_that_it_does_not_answer(tmp_path: Path) -> None:
    process = Process("server x", SLEEPER, tmp_path, tmp_path / "log")
    with pytest.raises(EngineError, match="server x gave no answer within 1 s"):
        process.wait_for(lambda: False, 1.0)
    wait_for_none_in(tmp_path)


def test_watching_says_that_it_ended(tmp_path: Path) -> None:
    process = started(tmp_path, SLEEPER)
    process.watch(0.01)
    process.kill()
    with pytest.raises(EngineError, match=r"sleeper was killed \(signal 9\); see"):
        process.watch(0.01)


@pytest.mark.parametrize(("said", "shown"), [("* Ready", ""), ("12:00 WARN no room", ": `12:00 WARN no room`")])
def test_says_that_it_was_killed(tmp_path: Path, said: str, shown: str) -> None:
    killed = [sys.executable, "-c", f"import os; print({said!r}, flush=True); os.kill(os.getpid(), 9)"]
    process = Process("server x", killed, tmp_path, tmp_path / "log")
    with pytest.raises(EngineError) as caught:
        process.wait_for(lambda: False, 30.0)
    assert str(caught.value) == f"server x was killed (signal 9){shown}; see `{tmp_path / 'log'}`"


def test_a_high_code_is_no_signal(tmp_path: Path) -> None:
    process = Process("server x", [sys.executable, "-c", "raise SystemExit(255)"], tmp_path, tmp_path / "log")
    with pytest.raises(EngineError, match="server x ended with code `255`: `nothing was said`"):
        process.wait_for(lambda: False, 30.0)


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    process = Process("server x", [str(tmp_path / "missing")], tmp_path, tmp_path / "log")
    with pytest.raises(EngineError, match="server x ended with code `1`: `FileNotFoundError"):
        process.wait_for(lambda: False, 30.0)


def test_ports() -> None:
    port = free_port()
    assert port in PORTS
    assert is_free(port)
    assert take_port(port) == port
    assert not listens(port)
    with socket.create_server((HOST, port)):
        assert not is_free(port)
        assert listens(port)
        with pytest.raises(InputError, match=f"port `{port}` is taken; end what listens there, or choose another"):
            take_port(port)
    assert take_port(None) in PORTS
    for each in (0, -1, 65_536, 99_999):
        with pytest.raises(InputError, match=f"port `{each}` is none; choose one from 1 to 65535"):
            take_port(each)
