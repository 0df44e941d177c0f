"""The Flink job writes the rows that plain Python says, for every aggregate, type and row expression."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.conformance.cases import STREAMED
from tests.depth import DEPTH
from tests.online.stream_rows import stream_rows
from unskew.online.changelog import read_changelog
from unskew.online.stream import run_stream
from unskew.pipelines import plan
from unskew.validation.adversarial import adversarial
from unskew.validation.explain import oracle_rows
from unskew.validation.log import SEQUENCE, read_logs, write_lines

PLAN = plan(STREAMED)
SEEDS = range(1, 3 * DEPTH + 1)


@pytest.mark.parametrize("source", [each.name for each in PLAN.sources])
def test_rows_of_every_stream(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JDK_JAVA_OPTIONS", raising=False)  # planning so many statements is what the compiler is for
    log = read_logs(PLAN, adversarial(PLAN, SEEDS))[source]
    (tmp_path / "in").mkdir()
    write_lines(log, tmp_path / "in" / "0.jsonl")
    account = run_stream(PLAN, source, tmp_path / "in", tmp_path / "out")
    assert account.applied > 300 * len(SEEDS)
    rows = oracle_rows(log.source, log.table)
    for batch in stream_rows(PLAN, source, rows).values():
        for stream, expected in batch:
            found = read_changelog(tmp_path / "out", stream)
            names = [name for name, _ in stream.columns if name not in ("seq", "set_hash")]
            assert found.num_rows == expected.num_rows, stream.name
            sequence = [rows[each][SEQUENCE] for each in expected["seq"].to_pylist()]
            assert found["seq"].to_pylist() == sequence
            for name in names:
                assert_same(found[name], expected[name], f"{stream.name}.{name}")


def assert_same(found: pa.ChunkedArray, expected: pa.ChunkedArray, where: str) -> None:
    pairs: list[tuple[Any, Any]] = list(zip(found.to_pylist(), expected.to_pylist(), strict=True))
    wrong = [(row, *pair) for row, pair in enumerate(pairs) if pair[0] != pair[1]]
    assert not wrong, (where, wrong[:3], len(wrong))
