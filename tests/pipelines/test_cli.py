"""The command line as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unskew.pipelines.commands.online import read_rows

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
        ("import sys\nsys.exit(3)", [], "fails with `SystemExit: 3`"),
        ("raise ValueError('a\\nb')", [], "fails with `ValueError: a`"),
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


FRAUD = ["--defs", str(ROOT / "feature_defs/fraud.py"), "--set", "fraud"]
RETAIL = ["--defs", str(ROOT / "feature_defs/retail.py")]
BACKFILL = ["backfill", *FRAUD, "--spine", "no.parquet", "--output", "out"]
EVENTS = ["--events", "transactions=a", "--events", "labels=b"]
GET = ["get", *RETAIL, "--store", "no.sqlite"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*BACKFILL, *EVENTS, "--events", "labels=c"], "source `labels` of --events has two paths"),
        ([*BACKFILL, *EVENTS, "--events", "lables=c"], "source `lables` of --events is unknown; did you mean `labels`?"),
        ([*BACKFILL, *EVENTS, "--events", "c"], "events `c` name no source"),
        ([*BACKFILL, *EVENTS, "--lag", "2s"], "--lag was given with --as-of event_time; it needs --as-of arrival"),
        ([*BACKFILL, *EVENTS, "--store", "no"], "--store was given with --as-of event_time; it needs --as-of arrival"),
        ([*BACKFILL, *EVENTS, "--as-of", "arrival", "--store", "no"], "store `no` does not exist"),
        ([*GET, "--at", "99999999999999999999", "CustomerID=1"], "is outside the years 1 to 9999"),
        ([*GET, "--at", "²", "CustomerID=1"], "is neither epoch milliseconds nor ISO 8601"),
        ([*GET, "--at", "1", "CustomerID=1", "CustomerID=2"], "column `CustomerID` is given twice"),
        ([*GET, "--at", "1", "--rows", "five.jsonl"], "row 1 of `five.jsonl` is `5`; give one JSON object a line"),
        (["stream", "files", *RETAIL, "--input", "five.jsonl", "--output", "out"], "input folder `{cwd}/five.jsonl` is a file"),
        (["stream", "files", *RETAIL, "--input", "in", "--output", "five.jsonl/out"], "cannot be made"),
        (["stream", "files", *RETAIL, "--input", "in", "--output", "out", "--store", "five.jsonl/store"], "folder `five.jsonl` of store"),
        (["upload", *RETAIL, "--events", "x", "--output", "out", "--store", "in"], "store `in` failed"),
        (["upload", *RETAIL, "--events", "x", "--output", "out", "--at", "nope"], "instant `nope` is neither"),
        (["upload", *RETAIL, "--events", "x", "--output", "five.jsonl/out"], "cannot be made"),
    ],
)  # fmt: skip
def test_wrong_use_is_found_before_the_work(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "five.jsonl").write_text("5\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "unskew.pipelines.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert message.format(cwd=tmp_path) in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["five.jsonl", "in"]


def test_rows_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"CustomerID": 1, "note": "a\u2028b"}\n', encoding="utf-8")
    assert read_rows(path) == [{"CustomerID": 1, "note": "a\u2028b"}]
