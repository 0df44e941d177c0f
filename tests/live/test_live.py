"""`unskew live`, as a user runs it: every cell is explained, and nothing is left, however it ends."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pytest

from tests.live.world import wait
from tests.programs import beside
from tests.required import missing
from tests.servers import wait_for_none_in
from unskew.feature_defs.fraud import fraud
from unskew.online.live.local import MARK, take_folder
from unskew.online.live.processes import is_free
from unskew.online.live.redis_server import PROGRAM
from unskew.online.live.scraping import quantile
from unskew.online.live.settings import StoreSettings
from unskew.online.live.traffic import Traffic, drawn_rows, reads_so_far
from unskew.pipelines.errors import InputError
from unskew.pipelines.planner import plan

PATIENCE = 600
SMALL = ["--rate", "40", "--reads", "8", "--scale", "5000", "--plain"]


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "unskew.pipelines.cli", "live", str(folder), *SMALL, *words]


def live(folder: Path, *words: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    if shutil.which(PROGRAM) is None:
        missing(f"there is no {PROGRAM}")
    return beside(
        subprocess.Popen(command(folder, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
    )


def ports(folder: Path) -> list[int]:
    """Return the ports that the parts were told."""
    found = tomllib.loads((folder / "unskew.toml").read_text())
    return [
        found["server"]["port"],
        *(int(each.split("/")[0].rpartition(":")[2]) for each in (found["kafka"]["bootstrap_servers"], found["flink"]["target"])),
        int(found["store"]["url"].rpartition(":")[2].split("/")[0]),
    ]  # fmt: skip


def require_nothing_left(folder: Path, own: int) -> None:
    wait_for_none_in(folder, 20)
    assert not running(folder, "")
    assert not psutil.pid_exists(own) or psutil.Process(own).status() == psutil.STATUS_ZOMBIE
    assert all(is_free(each) for each in ports(folder))


def until_said(process: "subprocess.Popen[str]", what: str) -> None:
    assert process.stdout is not None
    assert any(what in line for line in process.stdout)


def running(folder: Path, word: str) -> list[psutil.Process]:
    """Return what was started with a folder and a word."""
    lines = ((each, " ".join(each.info["cmdline"] or [])) for each in psutil.process_iter(["cmdline"]))
    return [each for each, line in lines if str(folder) in line and word in line]


def test_every_cell_is_explained_and_nothing_is_left(tmp_path: Path, jars: Path) -> None:
    assert jars.is_dir()
    folder = tmp_path / "run"
    with live(folder, "--duration", "25s") as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    found = json.loads((folder / "live.json").read_text())
    assert found["unexplained"] == 0, found["parity"]["defects"]
    assert found["parity"]["cells"] > 0
    assert found["parity"]["waiting"] == 0
    assert found["reads"]["compared"] > 0
    assert found["fates"]["read"] == found["produced"]
    assert "unexplained  0" in said
    assert (folder / "live.txt").read_text() in said
    require_nothing_left(folder, process.pid)


def test_killed_reads_go_on_and_a_killed_command_leaves_nothing(tmp_path: Path, jars: Path) -> None:
    assert jars.is_dir()
    folder = tmp_path / "run"
    with live(folder) as process:
        until_said(process, " traffic: ")
        wait(lambda: reads_so_far(folder).done > 1, PATIENCE)
        before = reads_so_far(folder).done
        for each in running(folder, "unskew.online.live.traffic"):
            each.kill()
        until_said(process, "reads was killed (signal 9); starting it again")
        wait(lambda: reads_so_far(folder).done > before, PATIENCE)
        process.kill()
    require_nothing_left(folder, process.pid)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_start_leaves_nothing(tmp_path: Path, jars: Path, how: signal.Signals) -> None:
    """On a terminal, which shows the parts as they start."""
    assert jars.is_dir()
    folder, drawn = tmp_path / "run", tmp_path / "drawn"
    words = shlex.join(each for each in command(folder) if each != "--plain")
    script = ["script", "--quiet", "--flush", "--return", "--command", f"exec {words}", str(drawn)]
    with beside(subprocess.Popen(script)) as terminal:
        # what is being drawn may end in the middle of a character
        while not (folder / "kafka" / "broker.log").exists() or b"kafka" not in drawn.read_bytes():
            assert terminal.poll() is None
            time.sleep(0.05)
        (process,) = psutil.Process(terminal.pid).children()
        process.send_signal(how)
        assert terminal.wait(60) == 0, drawn.read_text()
    shown = drawn.read_text()
    assert "unskew live: fraud" in shown and "parity so far" in shown and "Ctrl-C ends it" in shown
    require_nothing_left(folder, process.pid)


def test_a_machine_without_redis_is_told_before_anything_starts(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    alone = {"PATH": str(tmp_path)}
    found = subprocess.run(command(folder), env=alone, capture_output=True, text=True, cwd="/", check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("unskew: program `redis-server` was not found; install Redis")
    assert {each.name for each in folder.iterdir()} == {MARK, "logs"}


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else than an earlier run"):
        take_folder(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_run_has_its_folder_for_itself(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with take_folder(folder):
        (folder / "old").touch()
        with pytest.raises(InputError, match="another `unskew live` runs"):
            take_folder(folder)
    with take_folder(folder):
        assert {each.name for each in folder.iterdir()} == {MARK, "logs"}


def test_what_a_read_would_refuse_is_not_asked_for(tmp_path: Path) -> None:
    sound: dict[str, object] = {"customer_id": 7, "terminal_id": 3, "amount": "12.34"}
    lines: list[dict[str, object]] = [{"customer_id": "nobody"}, {}, {"amount": "1e99"}, {"terminal_id": 2**70}]
    logged = [json.dumps(sound | each) for each in lines]
    (tmp_path / "one.jsonl").write_text("\n".join([*logged, "{", "[1]"]))
    assert drawn_rows(plan(fraud), tmp_path) == [sound | {"amount": Decimal("12.34")}]


def test_replies_that_the_store_did_not_give_are_named(tmp_path: Path) -> None:
    traffic = Traffic(plan(fraud), "http://127.0.0.1:1", StoreSettings(), [], 1.0, 1.0, tmp_path)
    stored = pa.table({"a": [1, None], "b": [0.0, 1.0], "c": ["x", "y"], "d": [1, 2]})
    served = pa.table({"a": [1, None], "b": [-0.0, 1.0], "c": ["x", "z"]})
    traffic.compare(stored, stored, {"k": 7}, 5)
    assert (traffic.found.compared, traffic.found.unexplained) == (4, 0)
    traffic.compare(served, stored, {"k": 7}, 5)
    assert (traffic.found.compared, traffic.found.unexplained) == (8, 3)
    assert traffic.found.defects == [
        "b: HTTP gave [-0.0, 1.0], the store [0.0, 1.0] of {'k': 7} at 5",
        "c: HTTP gave ['x', 'z'], the store ['x', 'y'] of {'k': 7} at 5",
        "d: HTTP gave nothing, the store [1, 2] of {'k': 7} at 5",
    ]


def test_quantiles_of_a_histogram() -> None:
    steps = [(0.1, 0.0), (0.2, 10.0), (1.0, 10.0), (float("inf"), 11.0)]
    assert quantile(steps, 0.0) == 0.1
    assert quantile(steps, 5 / 11) == pytest.approx(0.15)
    assert quantile(steps, 1.0) == 1.0
