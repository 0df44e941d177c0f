"""Events a second of the stream, beside hand-written Flink SQL of the same tiles with the same row checks.

Once as it is, once without deduplication in both, and once over as many events of one customer in one tile.

Both run in the same way (a Flink process of its own, one reader, checkpoints, CSV sinks), one after the other,
over the fraud handbook's transactions as JSON lines. The hand-written job reads them with Flink's JSON format into
strings and checks forms with TRY_CAST; it keeps neither raw bytes nor a set hash, and a line that is no JSON vanishes.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unskew.feature_defs.fraud import fraud_handbook
from unskew.online.flink_process import execute
from unskew.online.stream import runtime_settings
from unskew.pipelines.backends.flink import FlinkJob, compile_source
from unskew.pipelines.planner import plan

SOURCE = "handbook_transactions"
DATA = Path(__file__).parents[1].resolve().parent / "shared" / "data" / "card_transactions_handbook.parquet"
MIB = 2**20
LINE = (
    '{{"_seq":{},"TRANSACTION_ID":{},"TX_DATETIME":{},"CUSTOMER_ID":{},"TERMINAL_ID":{},'
    '"TX_AMOUNT":"{:.2f}","TX_FRAUD":{}}}\n'
)
HOT_ROWS = 1_000_000
HOT_TILE = 1_700_000_100_000  # ms
UNIQUE = (
    "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY TX_DATETIME, TRANSACTION_ID ORDER BY _now) AS _copy "
    "FROM (SELECT *, PROCTIME() AS _now FROM fated WHERE _reason IS NULL)) WHERE _copy = 1"
)
COLUMNS = ("_seq", "TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")


def write_lines(folder: Path, rows: int) -> int:
    """Write the first `rows` transactions in order of time as JSON lines, times in epoch ms; return how many."""
    table = pq.read_table(DATA).sort_by([("TX_DATETIME", "ascending"), ("TRANSACTION_ID", "ascending")]).slice(0, rows)
    times = pc.cast(pc.cast(table["TX_DATETIME"], pa.timestamp("ms")), pa.int64())
    names = ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")
    ids, customers, terminals, amounts, frauds = (table[name].to_pylist() for name in names)
    cells = zip(range(table.num_rows), ids, times.to_pylist(), customers, terminals, amounts, frauds, strict=True)
    with (folder / "000000000000.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(LINE.format(*each) for each in cells)
    return int(table.num_rows)


def write_hot_lines(folder: Path, rows: int) -> int:
    """Write as many transactions of one customer in one tile of 5 minutes, at 1,000 terminals; return how many."""
    with (folder / "000000000000.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(
            LINE.format(n, n, HOT_TILE + n * 300_000 // rows, 7, n % 1_000, n % 50_000 / 100, int(n % 97 == 0))
            for n in range(rows)
        )
    return rows


def hand_written(job: FlinkJob, given: Path, out: Path, *, deduplicate: bool) -> FlinkJob:
    """Return the job as one writes it for this data: one JSON parse, TRY_CAST, the same tiles from OVER windows."""
    texts = ", ".join(f"`{name}` STRING" for name in COLUMNS)
    longs = ", ".join(f"TRY_CAST(`{name}` AS BIGINT) AS `{name}`" for name in COLUMNS if name != "TX_AMOUNT")
    amount = "CAST(TRY_CAST(`TX_AMOUNT` AS DECIMAL(12, 2)) * 100 AS BIGINT)"
    wrong = " OR ".join(f"(r.`{name}` IS NOT NULL AND t.`{name}` IS NULL)" for name in COLUMNS).replace("r.", "r_")
    wrong = wrong.replace("r_`", "`r_").replace("t.", "")
    raw = ", ".join(f"`{name}` AS `r_{name}`" for name in COLUMNS)
    reason = (
        "CASE WHEN TX_DATETIME IS NULL THEN 'null_event_time' "
        f"WHEN {wrong} THEN 'wrong_type' "
        "WHEN TX_DATETIME < -62135596800000 OR TX_DATETIME > 253402300799999 OR ABS(TX_AMOUNT) > 999999999999 "
        "OR TX_FRAUD NOT BETWEEN 0 AND 1 THEN 'out_of_range' WHEN TRANSACTION_ID IS NULL THEN 'null_event_id' END"
    )
    declarations = (
        f"CREATE TEMPORARY TABLE log ({texts}) WITH ('connector' = 'filesystem', 'path' = '{given.as_uri()}', "
        "'format' = 'json', 'json.ignore-parse-errors' = 'true')",
        f"CREATE TEMPORARY VIEW numbers AS SELECT {raw}, {longs}, {amount} AS TX_AMOUNT FROM log",
        f"CREATE TEMPORARY VIEW fated AS SELECT *, {reason} AS _reason FROM numbers",
        f"CREATE TEMPORARY VIEW accepted AS {UNIQUE if deduplicate else 'SELECT * FROM fated WHERE _reason IS NULL'}",
    )
    sinks, streams = hand_written_streams(out)
    return replace(
        job,
        declarations=(*declarations, *sinks),
        streams=tuple(replace(job.streams[0], name=n, query=q) for n, q in streams),
    )


def hand_written_streams(out: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the tables and queries of the hand-written job: per view tiles, its distinct partners, its last amounts."""
    sinks, streams = [], []

    def add(name: str, columns: str, query: str) -> None:
        path = (out / name).as_uri()
        sinks.append(
            f"CREATE TEMPORARY TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv')"
        )
        streams.append((name, query))

    def tiles(name: str, key: str, hop: int, states: str, count: int, value: str = "") -> None:
        group = f"{key}, tile_start" + (f", {value}" if value else "")
        head = f"{group}, COUNT(*) OVER w, TX_DATETIME, MAX(TX_DATETIME) OVER w, _seq"
        add(
            name,
            ", ".join(f"c{n} BIGINT" for n in range(count)),
            f"SELECT {head}{states} FROM (SELECT *, TX_DATETIME - MOD(TX_DATETIME, {hop}) AS tile_start, PROCTIME() AS "
            f"_p FROM accepted WHERE {key} IS NOT NULL) WINDOW w AS (PARTITION BY {group} ORDER BY _p "
            "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
        )

    amounts = ", SUM(TX_AMOUNT) OVER w, COUNT(TX_AMOUNT) OVER w, MIN(TX_AMOUNT) OVER w, MAX(TX_AMOUNT) OVER w"
    for key, other in (("CUSTOMER_ID", "TERMINAL_ID"), ("TERMINAL_ID", "CUSTOMER_ID")):
        tiles(f"{key}_tiles", key, 300_000, amounts, 10)
        tiles(f"{key}_values", key, 300_000, "", 7, other)
    tiles("risk", "TERMINAL_ID", 3_600_000, ", SUM(TX_FRAUD) OVER w, COUNT(TX_FRAUD) OVER w", 8)
    add(
        "last_amounts", ", ".join(f"c{n} BIGINT" for n in range(5)),
        "SELECT CUSTOMER_ID, TX_DATETIME, TRANSACTION_ID, TX_AMOUNT, _seq FROM accepted WHERE CUSTOMER_ID IS NOT NULL",
    )  # fmt: skip
    reason = "SELECT _reason, `r__seq` FROM fated WHERE _reason IS NOT NULL"
    add("quarantine", "reason STRING, seq STRING", reason)
    return sinks, streams


def measured(work: Callable[[], None]) -> tuple[float, float]:
    """Return seconds and the peak memory (MiB) of the processes that `work` starts."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            sizes = []
            for each in psutil.Process().children(recursive=True):
                try:
                    sizes.append(each.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], sum(sizes) / MIB)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return time.perf_counter() - began, peak[0]


def run(rows: int) -> list[dict[str, object]]:
    """Measure both jobs over the first `rows` transactions, from the start of the process to its end.

    Returns
    -------
    list of dict
        `work`, `system`, `rows_per_second`, `peak_mib`.
    """
    found: list[dict[str, object]] = []
    for work, write, deduplicate in (
        ("stream: fraud tiles", write_lines, True),
        ("stream without deduplication", write_lines, False),
        ("stream of one customer's tile", write_hot_lines, True),
    ):
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder) / "in"
            given.mkdir()
            count = write(given, min(rows, HOT_ROWS) if write is write_hot_lines else rows)
            for system in ("unskew", "hand-written Flink SQL"):
                seconds, peak = measured_job(system, given, Path(folder) / system.partition(" ")[0], deduplicate)
                rate = round(count / seconds)
                found.append({"work": work, "system": system, "rows_per_second": rate, "peak_mib": round(peak)})
    return found


def measured_job(system: str, given: Path, out: Path, deduplicate: bool) -> tuple[float, float]:
    """Run one job to its end."""
    out.mkdir()
    compiled = plan(fraud_handbook)
    sources = tuple(replace(each, deduplicate=deduplicate) for each in compiled.sources)
    job = compile_source(replace(compiled, sources=sources), SOURCE, given, out)
    if system != "unskew":
        job = hand_written(job, given, out, deduplicate=deduplicate)
    settings = runtime_settings(out, "10s", None)
    return measured(lambda: execute(job, settings, out, out / "s", None))
