"""The command line as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def unskew(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unskew.pipelines.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_plan_shows_every_feature() -> None:
    done = unskew("plan", "--defs", str(ROOT / "feature_defs/handbook.py"))
    assert done.returncode == 0
    assert "customer_activity.tx_count_1d" in done.stdout
    assert "source handbook_transactions: identity TRANSACTION_ID + TX_DATETIME" in done.stdout


def test_plan_as_json_has_the_fingerprint() -> None:
    done = unskew("plan", "--defs", str(ROOT / "feature_defs/fraud.py"), "--set", "fraud", "--json")
    assert len(json.loads(done.stdout)["fingerprint"]) == 64


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "definitions file `{path}` does not exist"),
        ("import nowhere", [], "fails with `ModuleNotFoundError: No module named 'nowhere'`"),
        ("x = (", [], "fails with `SyntaxError:"),
        ("x = 1", [], "defines no FeatureSet"),
        ("from unskew.feature_defs.fraud import fraud, fraud_handbook", [], "choose one with --set: `fraud`"),
        ("from unskew.feature_defs.fraud import fraud", ["--set", "frad"], "is unknown; did you mean `fraud`?"),
        ("from unskew.pipelines import *\ncol('x').maen()", [], "aggregate `maen` is unknown; did you mean `mean`?"),
    ],
)
def test_mistakes_are_one_line_and_exit_two(
    tmp_path: Path, content: str | None, arguments: list[str], message: str
) -> None:
    path = tmp_path / "defs.py"
    if content is not None:
        path.write_text(content)
    done = unskew("plan", "--defs", str(path), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert message.format(path=path) in done.stderr


def test_wrong_use_exits_two_and_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert unskew("plan").returncode == 2
    assert "Traceback" in unskew("--debug", "plan", "--defs", str(tmp_path / "no.py")).stderr


def test_help_has_an_example() -> None:
    assert "Example:" in unskew("plan", "--help").stdout


def test_simulate_writes_a_log_and_refuses_a_second(tmp_path: Path) -> None:
    arguments = ["simulate", str(tmp_path / "log"), "--scale", "1000", "--days", "20", "--json"]
    done = unskew(*arguments)
    assert json.loads(done.stdout)["transactions"] >= 1000, done.stderr
    assert list((tmp_path / "log" / "labels").glob("*.jsonl"))
    again = unskew(*arguments)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
