"""Order, stops and failures of a stream: what it wrote stays exact."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.programs import beside
from unskew.online.account import Account
from unskew.online.changelog import final_rows, read_changelog
from unskew.online.checkpoints import CHECKPOINTS, newest_checkpoint, require_living
from unskew.online.stream import run_stream
from unskew.online.stream_input import STAGED, input_files, one_file
from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, Timestamp, col, count
from unskew.pipelines.backends.flink import DOWNTIME, compile_source
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.planner import plan

EVENTS = 120_000
SINCE = 900_000
source = EventSource("log", {"id": Int64, "ts": Timestamp, "user": Int64, "x": Int64(0, 10**6)}, "ts", "id")
view = FeatureView(
    "by_user", Entity("user", "user"), source,
    {"n": count().over("1h"), "total": col("x").sum().over("1h"), "kinds": col("x").count_distinct().over("1h")},
)  # fmt: skip
PLAN = plan(FeatureSet("set", [view]))
TILES, VALUES, *_ = compile_source(PLAN, "log", "/in", "/out").streams


def lines(first: int, last: int, **changes: Any) -> str:
    rows = ({"_seq": n, "id": n, "ts": n * 20, "user": n % 97, "x": n % 1000, **changes} for n in range(first, last))
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def wait_for(found: Any, seconds: float = 90) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
    return value


def temporary_files() -> set[str]:
    """Return what Java leaves, whatever Python is told."""
    return {each.name for each in Path("/tmp").iterdir() if each.name.startswith(("flink-", "minicluster", "pyflink"))}  # noqa: S108


def children() -> list[psutil.Process]:
    every = psutil.Process().children(recursive=True)
    return [each for each in every if "unskew.online.flink_child" in " ".join(each.cmdline())]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files, the last without an end of line; every file begins with other copies of the one before."""
    folder = tmp_path_factory.mktemp("log")
    step = EVENTS // 12
    for number in range(12):
        first = number * step
        copies = lines(max(first - 500, 0), first, x=7) if number else ""
        text = copies + lines(first, first + step)
        (folder / f"{first:09d}.jsonl").write_text(text[:-1] if number == 11 else text)
    (folder / ".hidden.jsonl").write_text("no line of the log\n")
    return folder


@pytest.fixture(scope="module")
def undisturbed(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Account]:
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, run_stream(PLAN, "log", log, out, since=SINCE)


def test_the_first_copy_counts_over_many_files(undisturbed: tuple[Path, Account]) -> None:
    out, account = undisturbed
    kept = EVENTS // 12 * 12 - SINCE // 20
    tiles = read_changelog(out, TILES)
    assert tiles["seq"].to_pylist() == list(range(SINCE // 20, EVENTS // 12 * 12))
    total = sum(row["f1"] for row in final_rows(out, TILES).values())
    assert total == sum(n % 1000 for n in range(SINCE // 20, EVENTS // 12 * 12))
    archived = SINCE // 20 + 500 * sum((number * (EVENTS // 12)) <= SINCE // 20 for number in range(1, 12))
    straddling = [n * (EVENTS // 12) for n in range(1, 12) if 0 < n * (EVENTS // 12) - SINCE // 20 < 500]
    archived += sum(500 - (each - SINCE // 20) for each in straddling)
    assert account.applied == kept
    assert account.archived == archived
    assert account.duplicates == 500 * 11 - (archived - SINCE // 20)
    assert account.read == EVENTS // 12 * 12 + 500 * 11
    assert not (out / STAGED).exists()


def test_a_killed_run_resumes_to_the_same_result(
    log: Path, undisturbed: tuple[Path, Account], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, own, before = tmp_path / "out", tmp_path / "temporary", temporary_files()
    own.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    failures: list[str] = []

    def first_attempt() -> None:
        try:
            run_stream(PLAN, "log", log, out, since=SINCE, checkpoint_interval="200ms")
        except EngineError as error:
            failures.append(str(error))

    attempt = threading.Thread(target=first_attempt)
    attempt.start()
    wait_for(lambda: newest_checkpoint(out / CHECKPOINTS) and list((out / TILES.name).rglob("part-*")))
    (child,) = children()
    os.killpg(child.pid, signal.SIGKILL)
    attempt.join(30)
    assert len(failures) == 1
    assert "resume it" in failures[0]
    account = run_stream(PLAN, "log", log, out, since=SINCE, resume=True)
    whole, expected = undisturbed
    assert account == expected
    for stream in (TILES, VALUES):
        assert read_changelog(out, stream).equals(read_changelog(whole, stream))
    assert not [*own.iterdir(), *(temporary_files() - before)]  # 70 MB of Flink's jars a run


def test_a_run_ends_with_its_parent(log: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from tests.online.test_stream_faults import PLAN, run_stream; "
        f"run_stream(PLAN, 'log', {str(log)!r}, {str(tmp_path / 'out')!r})"
    )
    root = Path(__file__).parents[2]
    with beside(subprocess.Popen([sys.executable, "-c", code], cwd=root)) as parent:
        running = psutil.Process(parent.pid)
        found = wait_for(lambda: [each for each in running.children(recursive=True) if each.name() == "java"])
        parent.kill()
    assert not psutil.wait_procs(found, timeout=20)[1]


def test_a_watched_folder_is_read_as_it_grows_and_stops_cleanly(tmp_path: Path) -> None:
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir()

    def watch(until: int, *, resume: bool) -> Account:
        stop, accounts = threading.Event(), list[Account]()
        running = threading.Thread(
            daemon=True,
            target=lambda: accounts.append(
                run_stream(PLAN, "log", given, out, watch=True, stop=stop, resume=resume, checkpoint_interval="500ms")
            ),
        )
        running.start()
        wait_for(lambda: read_changelog(out, TILES).num_rows >= until - 1000 if out.exists() else False)
        (given / f"{until}.jsonl").write_text(lines(until - 500, until))  # half of them copies
        (given / f"{until}x.jsonl").write_text("")
        wait_for(lambda: read_changelog(out, TILES).num_rows >= until)
        stop.set()
        running.join(60)
        assert not running.is_alive()
        return accounts[0]

    (given / "0.jsonl").write_text(lines(0, 1750))
    account = watch(2000, resume=False)
    assert (account.read, account.duplicates, account.applied) == (2250, 250, 2000)
    (given / "3.jsonl").write_text(lines(2000, 2750))
    account = watch(3000, resume=True)
    assert (account.read, account.duplicates, account.applied) == (3500, 500, 3000)
    assert sum(row["n"] for row in final_rows(out, TILES).values()) == 3000


def test_a_failure_is_one_line_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(lines(0, 10))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(EngineError) as caught:
        run_stream(PLAN, "log", tmp_path / "in", out, checkpoint_interval="often")
    assert "\n" not in str(caught.value)
    assert "failed: `" in str(caught.value)
    assert "often" in str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(lines(0, 60_000))
    with pytest.raises(EngineError) as caught:
        run_stream(PLAN, "log", tmp_path / "in", small_disk / "out")
    assert "\n" not in str(caught.value)
    assert "is full" in str(caught.value) or "No space left" in str(caught.value)
    assert not (small_disk / "out" / "account.json").exists()
    assert not children()


def test_an_old_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "job" / "chk-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").write_text("")
    os.utime(checkpoint / "_metadata", (1000, 1000))
    assert newest_checkpoint(tmp_path) == checkpoint
    require_living(checkpoint, 1_000_000 + DOWNTIME, "")
    with pytest.raises(InputError, match="do this"):
        require_living(checkpoint, 1_000_001 + DOWNTIME, "do this")


def test_inputs_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no file"):
        input_files(tmp_path)
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir()
    (given / "a").write_text("{}")
    (given / "b").write_text("{}\n")
    assert one_file(input_files(given), out).read_text() == "{}\n{}\n"
    (given / "b").write_text("{}\n{}\n")
    with pytest.raises(InputError, match="not what the run began with"):
        one_file(input_files(given), out)
    shutil.rmtree(out)
    assert one_file([given / "a"], out) == given / "a"
