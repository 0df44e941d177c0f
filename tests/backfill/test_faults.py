"""A backfill that dies, or has no room left, leaves nothing that looks like a result."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.programs import beside
from unskew.backfill.run import beam_options, running
from unskew.backfill.training import backfill
from unskew.pipelines import Decimal, Entity, EventSource, FeatureSet, FeatureView, Int64, Timestamp, col, count
from unskew.pipelines.backends import beam, beam_judge
from unskew.pipelines.backends.beam_shuffle import Part
from unskew.pipelines.errors import EngineError, InputError

PROGRAM = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.backfill.test_faults import EVENTS, SET, SPINE
from unskew.backfill.training import backfill
from unskew.pipelines.errors import UnskewError
limit = int(sys.argv[2])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    backfill(SET, EVENTS(), SPINE(), output=sys.argv[1])
except UnskewError as error:
    sys.exit(f"unskew: {{error}}")
"""
ROOT = Path(__file__).parents[2]
ROWS = 300_000
TX = EventSource(
    "tx", {"id": Int64, "ts": Timestamp, "card": Int64, "amount": Decimal(12, 2)}, event_time="ts", event_id="id"
)
VIEW = FeatureView(
    "card", Entity("card", "card"), TX, {"n": count().over("1h", "7d"), "sum": col("amount").sum().over("1d", "30d")}
)
SET = FeatureSet("cards", [VIEW])


def EVENTS() -> pa.Table:
    numbers = list(range(ROWS))
    return pa.table(
        {"id": numbers, "ts": [n * 1_000 for n in numbers], "card": [n % 977 for n in numbers], "amount": numbers}
    )


def SPINE() -> pa.Table:
    return pa.table({"card": [n % 977 for n in range(ROWS)], "t": [n * 1_000 for n in range(ROWS)]})


def start(folder: Path, limit: int = 0) -> AbstractContextManager[subprocess.Popen[str]]:
    program = PROGRAM.format(root=str(ROOT))
    words = [sys.executable, "-c", program, str(folder / "out"), str(limit)]
    return beside(subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True))


def test_a_killed_backfill_leaves_no_output_and_can_be_run_again(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".unskew-*/shuffle-*")):  # in the middle: buckets are being handed over
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out").exists()
    assert [each.name for each in tmp_path.iterdir() if not each.name.startswith(".")] == []
    manifest = backfill(SET, EVENTS(), SPINE(), output=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "_manifest.json").read_text()) == manifest
    assert manifest["account"]["tx"] == {"applied": ROWS}
    assert [each.name for each in sorted((tmp_path / "out").glob("part-*"))] == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]
    assert ds.dataset(tmp_path / "out").to_table().equals(backfill(SET, EVENTS(), SPINE()))


def test_no_room_is_one_line(tmp_path: Path) -> None:
    with start(tmp_path, limit=400_000) as process:
        _, errors = process.communicate(timeout=180)
    line = next(each for each in errors.splitlines() if each.startswith("unskew: "))
    assert process.returncode == 1
    assert "File too large" in line
    assert list(tmp_path.iterdir()) == []


def test_a_failing_worker_speaks_for_itself() -> None:
    wide = FeatureSet("wide", [VIEW])
    huge = EVENTS().slice(0, 10)
    with pytest.raises(EngineError, match="beam failed"):
        backfill(wide, huge, SPINE().slice(0, 10), options=["--runner=NoSuchRunner"])


FLAGS = {
    "beam has no flag `--no_such`": ["--no_such=1"],
    "did you mean `direct_num_workers`": ["--direct_num_wrokers=2"],
    "argument --direct_running_mode: invalid choice: 'bogus'": ["--direct_running_mode=bogus"],
    "`DirectRunner` is no flag of Beam": ["DirectRunner"],
}


@pytest.mark.parametrize("message", FLAGS)
def test_a_flag_that_beam_would_pass_over_is_refused(message: str) -> None:
    with pytest.raises(InputError, match=message), running(FLAGS[message]):
        pytest.fail("the pipeline was built")


def test_flags_of_a_job_server_pass_through() -> None:
    found = beam_options(["--runner=PortableRunner", "--job_endpoint=localhost:1", "--its_own=1"])
    assert found.get_all_options(retain_unknown_options=True)["its_own"] in (1, "1")


def test_a_file_that_breaks_off_is_one_line(tmp_path: Path) -> None:
    pq.write_table(EVENTS().slice(0, 5_000), tmp_path / "events.parquet", compression="snappy")
    content = bytearray((tmp_path / "events.parquet").read_bytes())
    content[200:4_200] = bytes(4_000)
    (tmp_path / "events.parquet").write_bytes(content)
    pq.write_table(SPINE().slice(0, 10), tmp_path / "spine.parquet")
    (tmp_path / "defs.py").write_text("from tests.backfill.test_faults import SET")
    command = [sys.executable, "-m", "unskew.pipelines.cli", "backfill", "--defs", str(tmp_path / "defs.py")]
    given = ["--events", "events.parquet", "--spine", "spine.parquet", "--output", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *given], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "beam failed" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("times", [0, 2])
@pytest.mark.parametrize("what", ["events", "copies", "spine rows", "identities"])
def test_parts_that_a_runner_loses_or_repeats_are_noticed(
    what: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = beam_judge.counted

    def lossy(channel: str, parts: Iterable[Part]) -> tuple[pa.Table | None, Any]:
        found = list(parts)
        hit = channel.startswith(what)
        return real(channel, found[: len(found) - 1] + found[-1:] * (times if hit else 1))

    for module in (beam, beam_judge):
        monkeypatch.setattr(module, "counted", lossy)
    events = EVENTS().slice(0, 5_000)
    copied = pa.concat_tables([events, events.slice(0, 100)])
    with pytest.raises(EngineError, match=f"({what} of .* (lost|repeated)|rows for [0-9]+ of the spine)"):
        backfill(SET, copied, SPINE().slice(0, 2_000), options=["--direct_running_mode=in_memory"])
