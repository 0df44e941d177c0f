"""The same pipelines behind the portable job API, on Beam's Prism: the same bits as on the DirectRunner."""

from pathlib import Path

import grpc  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.backfill.test_faults import EVENTS, SET, SPINE
from tests.conformance.cases import EVERY_TYPE, EVERYTHING
from tests.prism import prism_program
from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.online.live.processes import HOST
from unskew.pipelines import plan
from unskew.pipelines.backends import beam
from unskew.pipelines.errors import EngineError

PLAN = plan(EVERYTHING)
ROWS = 3_000  # of each of the four sources
START, DAYS = 1_700_006_400_000, 20
DAY = 86_400_000


def events() -> dict[str, pa.Table]:
    return {each.name: rows(seed) for seed, each in enumerate(PLAN.sources)}


def rows(seed: int) -> pa.Table:
    """Return events in order of arrival: copies, late ones, ties, nulls, some out of range."""
    draw = np.random.default_rng(seed)
    ts = np.sort(START + draw.integers(0, DAYS * DAY // 1_000, ROWS) * 1_000)
    late = np.where(draw.random(ROWS) < 0.05, draw.integers(0, 3 * DAY, ROWS), draw.integers(0, 5_000, ROWS))
    words = np.array(["", "a", "A", "é", "z", "\uffff", "😀", "x'\"\\", *(f"w{n}" for n in range(30))], object)
    columns = {
        "id": draw.integers(0, ROWS, ROWS), "part": words[draw.integers(0, 2, ROWS)], "ts": ts, "seen": ts + late,
        "who": draw.integers(0, 40, ROWS), "where": words[draw.integers(0, 6, ROWS)],
        "i": draw.integers(-1000, 1002, ROWS), "big": draw.integers(-(10**12), 10**12, ROWS),
        "d": draw.integers(-(10**6), 10**6, ROWS) / 100, "f": draw.normal(0, 40, ROWS), "b": draw.random(ROWS) < 0.5,
        "s": words[draw.integers(0, len(words), ROWS)], "at": START + draw.integers(0, 900, ROWS) * DAY // 7,
    }  # fmt: skip
    found = pa.table({
        name: pa.array(values, mask=draw.random(ROWS) < 0.03 if name in EVERY_TYPE else None)
        for name, values in columns.items()
    })  # fmt: skip
    again = found.take(pa.array(draw.integers(0, ROWS, ROWS // 20)))
    together = pa.concat_tables([found, again])
    return together.take(pa.array(np.argsort(together["seen"].to_numpy(), kind="stable")))


def spine(size: int = 1_000) -> pa.Table:
    draw = np.random.default_rng(99)
    words = np.array(["", "a", "A", "é", "z", "none"], object)
    return pa.table({
        "who": draw.integers(0, 45, size), "whom": draw.integers(0, 45, size), "where": words[draw.integers(0, 6, size)],
        "elsewhere": words[draw.integers(0, 6, size)], "t": START + draw.integers(DAY, DAYS * DAY, size),
        "amount": draw.integers(0, 10**5, size) / 100, "now": START + draw.integers(0, DAYS * DAY, size),
        "name": words[draw.integers(0, 6, size)], "lat": draw.uniform(-90, 90, size), "lon": draw.uniform(-180, 180, size),
    })  # fmt: skip


@pytest.fixture
def flags(prism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the flags of a job on Prism whose worker is this process; Beam would let it listen on every address."""
    server = type(grpc.server(None))
    sound = server.add_insecure_port
    monkeypatch.setattr(server, "add_insecure_port", lambda self, at: sound(self, at.replace("[::]", HOST)))
    return [
        "--runner=PortableRunner", f"--job_endpoint={prism}", "--environment_type=LOOPBACK",
        f"--temp_location={tmp_path / 'shared'}",
    ]  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def test_training_set_and_upload_are_the_same_bytes(flags: list[str], tmp_path: Path) -> None:
    given, asked = events(), spine()
    direct = backfill(PLAN, given, asked, output=tmp_path / "direct")
    assert backfill(PLAN, given, asked, output=tmp_path / "there", options=flags) == direct
    assert content(tmp_path / "there") == content(tmp_path / "direct")
    fates = {fate for each in direct["account"].values() for fate, rows in each.items() if rows}
    assert fates == {"applied", "filtered", "late", "duplicate", "quarantined_out_of_range"}
    direct = upload(PLAN, given, output=tmp_path / "direct-upload")
    assert upload(PLAN, given, output=tmp_path / "there-upload", options=flags) == direct
    assert content(tmp_path / "there-upload") == content(tmp_path / "direct-upload")
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_failing_worker_is_one_line_and_leaves_nothing(flags: list[str], tmp_path: Path) -> None:
    pq.write_table(EVENTS().slice(0, 5_000), tmp_path / "log.parquet", compression="snappy")
    damaged = bytearray((tmp_path / "log.parquet").read_bytes())
    damaged[200:4_200] = bytes(4_000)
    (tmp_path / "log.parquet").write_bytes(damaged)
    said = r"^beam failed: `OSError: [^\n]*`; nothing was written; see it whole with --debug$"
    with pytest.raises(EngineError, match=said):
        backfill(SET, tmp_path / "log.parquet", SPINE().slice(0, 10), output=tmp_path / "out", options=flags)
    with pytest.raises(EngineError, match=said):
        upload(SET, tmp_path / "log.parquet", output=tmp_path / "out", cut=10 * DAY, options=flags)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log.parquet", "shared"]
    assert list((tmp_path / "shared").iterdir()) == []


def test_an_error_of_ours_keeps_its_words(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        message = "a sum passes 2**62; declare a tighter range"
        raise EngineError(message)

    monkeypatch.setattr(beam, "bucket_features", refuse)  # the worker is this process
    with pytest.raises(EngineError, match=r"^a sum passes 2\*\*62; declare a tighter range$"):
        backfill(SET, EVENTS().slice(0, 100), SPINE().slice(0, 10), output=tmp_path / "out", options=flags)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shared"]
    assert list((tmp_path / "shared").iterdir()) == []


GO = """#!/bin/sh
[ "$1" = mod ] || { echo "no compiler" >&2; exit 1; }
mkdir -p module/go/pkg/beam/runners/prism/internal/jobservices module/go/pkg/beam/runners/prism/internal/worker
cd module && touch go.mod go.sum
echo 'fmt.Sprintf(":%d", port)' > go/pkg/beam/runners/prism/internal/jobservices/server.go
echo 'net.Listen("tcp", ":0")' > go/pkg/beam/runners/prism/internal/worker/worker.go
echo "{\\"Dir\\": \\"$PWD\\"}"
"""


def test_a_build_that_fails_leaves_no_cache(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "go"
    program.write_text(GO)
    program.chmod(0o755)
    given = {"PATH": f"{program.parent}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(EngineError, match=r"^go cannot build Prism: `no compiler`$"):
        prism_program(given)
    assert not list((tmp_path / "cache" / "unskew" / "prism").iterdir())
    with pytest.raises(EngineError, match=r"^program `go` was not found"):
        prism_program({**given, "PATH": str(tmp_path)})
