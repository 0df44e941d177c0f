"""The whole path by the commands, on a small log."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
FRAUD = ("--defs", str(ROOT / "feature_defs" / "fraud.py"), "--set", "fraud")


def unskew(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unskew.pipelines.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo") / "out"
    return folder, json.loads(unskew("demo", str(folder), "--scale", "20000", "--probes", "400", "--json").stdout)


def test_the_demo_ends_with_parity_and_a_model(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, found = demo
    assert found["parity"]["unexplained"] == 0
    assert found["parity"]["cells"] == 400 * 48
    assert found["metrics"]["average_precision"] > 5 * found["metrics"]["chance"]
    assert found["figures"]["scored"] == 1_000
    fates = found["figures"]["fates"]["transactions"]
    parts = ("quarantined", "late", "archived", "duplicates", "filtered", "applied")
    assert fates["read"] == sum(fates[each] for each in parts)
    for name in (
        "training-set",
        "upload",
        "store.sqlite",
        "parity.json",
        "parity.txt",
        "model",
        "scores.parquet",
        "labels.sql",
    ):
        assert (folder / name).exists(), name
    assert ds.dataset(folder / "training-set").count_rows() == found["figures"]["training_rows"]


def test_get_and_score_read_what_the_demo_stored(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = demo
    store = str(folder / "store.sqlite")
    query = f"SELECT max(epoch_ms(event_time)) FROM '{folder}/log/transactions/*.parquet'"
    at = duckdb.connect().execute(query).fetchall()[0][0]
    row = ["customer_id=3", "terminal_id=5", "amount=12.5"]
    shown = json.loads(unskew("get", *FRAUD, "--store", store, "--at", str(at), "--json", *row).stdout)
    assert set(shown["rows"][0]) >= {"customer_activity.tx_count_30d", "amount_ratio"}
    scored = json.loads(
        unskew(
            "score", "--model", str(folder / "model"), *FRAUD, "--store", store, "--at", str(at), "--json", *row
        ).stdout
    )
    assert 0 <= scored["scores"][0] <= 1
    early = unskew("get", *FRAUD, "--store", store, "--at", "1000", *row, code=2)
    assert "is before batch_end" in early.stderr
    assert early.stderr.count("\n") == 1
    wrong = unskew("get", *FRAUD, "--store", store, "--at", str(at), "custmer_id=3", code=2)
    assert "did you mean `customer_id`?" in wrong.stderr
    other = ["--defs", str(ROOT / "feature_defs" / "retail.py")]
    refused = unskew("score", "--model", str(folder / "model"), *other, "--store", store, "--at", str(at), code=2)
    assert "does not fit these features" in refused.stderr


def test_backfill_upload_and_train_by_the_commands(demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = demo
    spine = tmp_path / "spine.parquet"
    columns = ["customer_id", "terminal_id", "amount", "t", "label"]
    pq.write_table(ds.dataset(folder / "training-set").to_table(columns).slice(0, 2_000), spine)
    log = str(folder / "log")
    arguments = [
        "backfill",
        *FRAUD,
        "--events",
        log,
        "--spine",
        str(spine),
        "--output",
        str(tmp_path / "set"),
        "--json",
    ]
    assert json.loads(unskew(*arguments).stdout)["rows"] == 2_000
    assert "exists; name a new folder" in unskew(*arguments, code=2).stderr
    names = pq.read_schema(spine).names
    again, whole = (ds.dataset(each).to_table() for each in (tmp_path / "set", folder / "training-set"))
    assert again.equals(whole.slice(0, 2_000).select([*names, *again.column_names[len(names) :]]))
    store = tmp_path / "store.sqlite"
    uploaded = unskew(
        "upload", *FRAUD, "--events", log, "--output", str(tmp_path / "up"), "--store", str(store), "--json"
    )
    assert set(json.loads(uploaded.stdout)["sources"]) == {"transactions", "labels"}
    assert store.exists()


BAD = {
    "folder `nope` has no folder `transactions`": ["upload", *FRAUD, "--events", "nope", "--output", "out"],
    "does not exist": ["backfill", *FRAUD, "--events", "nowhere", "--spine", "x.parquet", "--output", "out"],
    "give either --events or --adversarial": ["parity", *FRAUD],
    "give --training-set and --output": ["train"],
    "the protocol needs the handbook's transactions": ["train", "--protocol", "handbook"],
    "choose one with --source": ["stream", "files", *FRAUD, "--input", "x", "--output", "y"],
    "is neither epoch milliseconds nor ISO 8601": ["get", *FRAUD, "--store", __file__, "--at", "noon"],
    "run `unskew upload": ["get", *FRAUD, "--store", "no.sqlite", "--at", "0"],
}


@pytest.mark.parametrize("message", BAD)
def test_wrong_use_is_one_line(message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unskew.pipelines.cli", *BAD[message]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_compile_shows_what_the_engines_run() -> None:
    flink = unskew("compile", *FRAUD, "--to", "flink").stdout
    assert "customer_activity__tiles" in flink
    assert "fraud" in flink
    beam = unskew("compile", *FRAUD, "--to", "beam").stdout
    assert "by entity  <- " in beam
