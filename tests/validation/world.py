"""One adversarial log, what the engines made of it, and a way to run a part of them again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from unskew.backfill.upload import upload
from unskew.online.java import java_home
from unskew.pipelines import (
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int32,
    Int64,
    String,
    Timestamp,
    col,
    correlation,
    count,
    feature,
    plan,
    request,
)
from unskew.pipelines.backends.flink import FlinkJob, compile_source
from unskew.pipelines.plan import SetPlan
from unskew.validation.adversarial import adversarial
from unskew.validation.backfills import backfills
from unskew.validation.log import Log, read_logs
from unskew.validation.parity import Report, compare
from unskew.validation.probes import Flip, choose_probes, plan_uploads
from unskew.validation.served import Served, replay, run_engines, stream_folder, upload_folder

ROOT = Path(__file__).parents[2]
SOURCE = "payments"
payments = EventSource(
    SOURCE,
    {
        "id": Int64, "at": Timestamp, "seen": Timestamp, "card": Int64, "shop": String,
        "amount": Decimal(12, 2), "points": Int32(-1000, 1000), "country": String,
    },
    event_time="at", event_id="id", arrival="seen",
)  # fmt: skip
spending = FeatureView(
    "spending", Entity("card", "card"), payments,
    {
        "n": count().over("1h", "1d", "7d"),
        "total": col("amount").sum().over("1h", "1d", "7d"),
        "mean": col("amount").mean().over("1d"),
        "least": col("amount").min().over("7d"),
        "spread": col("amount").stddev().over("1d"),
        "together": correlation(col("amount"), col("points")).over("1d"),
        "first": col("points").first().over("1h", "1d"),
        "last": col("points").last().over("1h", "1d"),
        "recent": col("amount").last_k(3).over("1d"),
        "shops": col("shop").count_distinct().over("1d"),
        "foreign": count().where(col("country") != "a").over("1d"),
        "sevens": (col("points") // 7).sum().over("1d"),
        "by_country": col("amount").sum().by(col("country")).over("1d"),
        "median": col("amount").quantile(0.5).over("1d"),
        "largest": col("amount").top_k(3).over("1d"),
        "usual": col("shop").mode().over("7d"),
    },
)  # fmt: skip
known_later = FeatureView(
    "known_later", Entity("shop", "shop"), payments,
    {"n": count().over("1d", delay="1d"), "points": col("points").mean().over("12h", delay="1d")},
)  # fmt: skip
SET = FeatureSet(
    "mutants", [spending, known_later],
    request={"kind": String},
    derived={
        "share": feature("spending.total_1h") / feature("spending.total_1d"),
        "usual": (request("kind") == feature("spending.usual_7d")) | request("kind").is_null(),
    },
)  # fmt: skip
Values = tuple[pa.Table, pa.Table, pa.Table]


@dataclass(frozen=True)
class World:
    """What was read, and where the uploads and the changelog of the sound engines are."""

    plan: SetPlan
    logs: dict[str, Log]
    flips: list[Flip]
    asked: pa.Table
    folder: Path

    def served(self, *, uploads: Path | None = None, stream: Path | None = None, scratch: Path) -> Served:
        """Replay the reads; uploads and stream are the sound ones where none are given."""
        for number in range(len(self.flips)):
            upload_folder(scratch, number).symlink_to(upload_folder(uploads or self.folder, number))
        stream_folder(scratch, SOURCE).symlink_to(stream_folder(stream or self.folder, SOURCE))
        return replay(self.plan, self.flips, self.asked, scratch, lambda _: None)

    def backfills(self) -> Values:
        return backfills(self.plan, self.logs, self.flips, self.asked)

    def compared(self, served: Served, values: Values) -> Report:
        return compare(self.plan, self.logs, self.flips, self.asked, served, values)

    def upload(self, folder: Path) -> None:
        for number, flip in enumerate(self.flips):
            archive = {name: log.table.filter(pa.array(log.arrival < flip.cut)) for name, log in self.logs.items()}
            upload(self.plan, archive, cut=flip.cut, output=upload_folder(folder, number))

    def job(self, folder: Path) -> FlinkJob:
        """Compile the stream as `run_stream` does, without the account's streams; its output goes below the folder."""
        lines = self.folder / f"{SOURCE}-lines" / "000000000000.jsonl"
        since = self.plan.source(SOURCE).batch_end(self.flips[0].cut)
        job = compile_source(self.plan, SOURCE, lines, stream_folder(folder, SOURCE), since=since)
        return replace(job, streams=tuple(each for each in job.streams if each.view))


def make_world(folder: Path, seeds: Sequence[int], probes: int) -> World:
    """Run the sound engines once."""
    compiled = plan(SET)
    logs = read_logs(compiled, adversarial(compiled, seeds))
    flips = plan_uploads(logs)
    world = World(compiled, logs, flips, choose_probes(compiled, logs, flips, probes, seed=0), folder)
    run_engines(compiled, logs, flips, folder, lambda _: None)
    return world


def run_jobs(jobs: Iterable[FlinkJob]) -> None:
    """Run jobs in one Java, one after the other."""
    requests = [
        {"settings": dict(each.settings), "declarations": each.declarations, "inserts": each.inserts, "savepoints": ""}
        for each in jobs
    ]
    subprocess.run(
        [sys.executable, "-m", "tests.validation.flink_jobs"],
        input=json.dumps(requests), text=True, check=True, cwd=ROOT, capture_output=True,
        env={**os.environ, "JAVA_HOME": str(java_home())},
    )  # fmt: skip
