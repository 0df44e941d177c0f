"""Parity from end to end: the same bits from Beam and Flink, and a command that says so."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest import MonkeyPatch
from typer.testing import CliRunner

from tests.validation.mutants import tail_excluded
from unskew.feature_defs.fraud import fraud_handbook
from unskew.pipelines.cli import app, main
from unskew.validation.compare import same_cells
from unskew.validation.parity import parity
from unskew.validation.report import PHYSICS, summary

ROOT = Path(__file__).parents[2]


def run(*arguments: str, defs: str) -> Any:
    return CliRunner().invoke(app, ["parity", "--defs", defs, *arguments])


def test_the_command_passes_on_adversarial_events_and_writes_its_report(tmp_path: Path) -> None:
    given = ["--set", "fraud", "--adversarial", "--seeds", "3", "--probes", "1500", "--output", str(tmp_path), "--json"]
    done = run(*given, defs=str(ROOT / "feature_defs/fraud.py"))
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "parity.json").read_text())
    assert report["unexplained"] == 0
    assert report["cells"] == 1500 * len(report["features"])
    assert report["equal"] + sum(report["causes"].values()) == report["cells"]
    assert set(report["causes"]) == {"late", "in_flight", "ahead", "behind"}
    assert report["rejected_writes"] == 0
    assert "parity of fraud: PASSED" in (tmp_path / "parity.txt").read_text()


def test_the_command_fails_on_a_bug(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    tail_excluded(monkeypatch)
    small = str(ROOT / "tests/validation/world.py")
    done = run("--adversarial", "--seeds", "1", "--probes", "300", "--output", str(tmp_path), defs=small)
    assert done.exit_code == 1
    report = json.loads((tmp_path / "parity.json").read_text())
    defects = {cause: count for cause, count in report["causes"].items() if cause not in PHYSICS}
    assert report["unexplained"] == sum(defects.values()) > 0
    assert report["defects"][0]["side"] == "served"
    assert "parity of mutants: FAILED" in done.output
    assert "defect: one tile is missing" in done.output


@pytest.mark.parametrize("arguments", [[], ["--adversarial", "--events", "x"], ["--events", "transactions=no.parquet"]])
def test_wrong_use_exits_two(
    arguments: list[str], monkeypatch: MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    defs = str(ROOT / "feature_defs/fraud.py")
    monkeypatch.setattr(sys, "argv", ["unskew", "parity", "--defs", defs, "--set", "fraud", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_real_payments_agree(shared_data: Callable[[str], Path]) -> None:
    events = pq.read_table(shared_data("card_transactions_handbook.parquet")).slice(0, 40_000)
    report = parity(fraud_handbook, events, probes=1_000)
    assert report.unexplained == 0, summary(report)
    assert report.events == {"handbook_transactions": 40_000}
    assert set(report.causes) <= {"in_flight", "ahead", "behind"}
    assert all(each.equal > each.cells / 2 for each in report.features.values())


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ([1.5, None, 0.0], [1.5, None, -0.0], [True, True, False]),
        ([1, None], [None, 2], [False, False]),
        (["", "é", None], ["", "e", ""], [True, False, False]),
        ([[1, 2], [], None, [1]], [[1, 2], None, None, [1, 1]], [True, False, True, False]),
        ([["a", None], ["a", "b"]], [["a", None], ["b", "a"]], [True, False]),
        ([0.1 + 0.2], [0.3], [False]),
        ([True, False], [True, True], [True, False]),
    ],
)
def test_cells_are_compared_bit_by_bit(left: list[Any], right: list[Any], same: list[bool]) -> None:
    found = same_cells(pa.chunked_array([pa.array(left)]), pa.chunked_array([pa.array(right)]))
    assert np.array_equal(found, same)
