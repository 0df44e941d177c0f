"""One Flink job over odd lines: fates, tiles, values and entries against the judge of lines and naive tiles."""

# ruff: noqa: RUF001 - the fullwidth tilde is the point: UTF-16 and UTF-8 order it differently
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.odd_lines import ODD_LINES, ODD_VALUES
from unskew.online.account import Account
from unskew.online.changelog import final_rows, read_changelog
from unskew.online.java import java_home
from unskew.online.stream import run_stream
from unskew.pipelines import (
    Bool,
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Float,
    Int64,
    String,
    Timestamp,
    col,
    count,
)
from unskew.pipelines.backends.flink import FlinkJob, compile_source, decode_ordered, identity_hash, ordered_values
from unskew.pipelines.encoding import quanta
from unskew.pipelines.errors import EngineError, InputError
from unskew.pipelines.json_lines import LineJudge
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan

HOP, DAY, MINUTE = 300_000, 86_400_000, 60_000

events = EventSource(
    "events",
    schema={
        "id": Int64, "part": String, "ts": Timestamp, "arrival": Timestamp, "user": Int64, "shop": String,
        "amount": Decimal(12, 2), "score": Float(-1000, 1000), "flag": Bool, "small": Int64(0, 100),
    },
    event_time="ts", event_id=("id", "part"), arrival="arrival",
)  # fmt: skip
by_user = FeatureView(
    "by_user", Entity("user", "user"), events,
    {
        "n": count().over("1h"),
        "total": col("amount").sum().over("1h"),
        "scores": col("score").sum().over("1h"),
        "least": col("small").min().over("1h"),
        "last_shop": col("shop").last().over("1h"),
        "first_flag": col("flag").first().over("1h"),
        "shops": col("shop").count_distinct().over("1h"),
        "amounts": col("amount").last_k(3).over("1h"),
    },
)  # fmt: skip
by_shop = FeatureView("by_shop", Entity("shop", "shop"), events, {"n": count().over("1h")})
odd = FeatureSet("odd", [by_user, by_shop])
BASE: dict[str, Any] = {"arrival": None, "user": 7, "shop": "a", "amount": 1, "score": 0, "flag": True, "small": 1}


def odd_lines() -> list[bytes]:
    found, number = [], 0
    for column in ("id", "part", "ts", "arrival", "user", "shop", "amount", "score", "flag", "small"):
        for value in ODD_VALUES:
            number += 1
            row = {"id": number, "part": "p", "ts": number * 7_000 - 2_000_000, **BASE, "_seq": number}
            row["shop"] = ("a", "b", "～", "😀")[number % 4]
            items = [f"{json.dumps(name)}:{value if name == column else json.dumps(row[name])}" for name in row]
            found.append(("{" + ",".join(items) + "}").encode())
    for ahead in (-DAY, -DAY - 1, MINUTE, MINUTE + 1):
        found.append(
            json.dumps({"id": 1, "part": f"skew{ahead}", "ts": ahead, "arrival": 0, **{**BASE, "arrival": 0}}).encode()
        )
    twice = json.dumps({"id": 5, "part": "twice", "ts": -1, **BASE, "small": 3}).encode()
    return [*found, *ODD_LINES, twice, twice.replace(b'"small": 3', b'"small": 2'), twice]


JUDGE = LineJudge(plan(odd).source("events"))


def judge(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return a line's fate before deduplication and its values as the stream computes with them."""
    found = JUDGE(line)
    if isinstance(found, str):
        return found, {}
    cells: dict[str, Any] = dict(zip(JUDGE.names, found, strict=True))
    if cells["score"] is not None:
        cells["score"] = quanta(cells["score"], events.schema["score"].quantum)
    cells["arrival"] = cells["ts"] if cells["arrival"] is None else cells["arrival"]
    cells["seq"] = json.loads(line).get("_seq")
    return ("late" if JUDGE.late(found) else "accepted"), cells


def brute(lines: list[bytes]) -> tuple[Counter[str], list[dict[str, Any]]]:
    fates: Counter[str] = Counter()
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in lines:
        fate, cells = judge(line)
        if fate == "accepted":
            identity = (cells["ts"], cells["id"], cells["part"])
            fate = (
                "duplicate"
                if identity in kept
                else "filtered"
                if cells["user"] is None and cells["shop"] is None
                else "applied"
            )
            kept.setdefault(identity, cells)
        fates[fate] += 1
    return fates, list(kept.values())


Run = tuple[SetPlan, FlinkJob, Path, Account, list[bytes]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("stream")
    lines = odd_lines()
    (folder / "in").mkdir()
    (folder / "in" / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    compiled = plan(odd)
    account = run_stream(compiled, "events", folder / "in", folder / "out")
    job = compile_source(compiled, "events", folder / "in", folder / "out")
    return compiled, job, folder / "out", account, lines


def test_each_line_has_the_fate_that_plain_python_gives_it(run: Run) -> None:
    _, job, out, account, lines = run
    fates, _ = brute(lines)
    expected = defaultdict(list)
    for line in lines:
        reason = judge(line)[0]
        if reason not in ("accepted", "late"):
            expected[reason].append(line.rstrip(b"\r"))
    stream = next(each for each in job.streams if each.kind == "quarantine")
    found = defaultdict(list)
    for row in read_changelog(out, stream).to_pylist():
        found[row["reason"]].append(row["raw"])
    assert dict(found) == dict(expected)
    assert account.read == len(lines) == sum(fates.values())
    names = ("late", "duplicate", "filtered", "applied")
    assert (account.late, account.duplicates, account.filtered, account.applied) == tuple(fates[each] for each in names)
    assert json.loads((out / "account.json").read_text())["read"] == account.read


def test_tiles_equal_the_naive_ones(run: Run) -> None:
    compiled, job, out, _, lines = run
    tiles: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for cells in brute(lines)[1]:
        if cells["user"] is not None:
            tiles[cells["user"], cells["ts"] // HOP * HOP].append(cells)
    stream = next(each for each in job.streams if each.name == "by_user__tiles")
    found = final_rows(out, stream)
    assert set(found) == set(tiles)
    assert any(start < 0 for _, start in tiles)
    source, fields = compiled.source("events"), compiled.views[0].fields
    for key, group in tiles.items():
        row = found[key]
        assert row["n"] == len(group)
        assert row["max_ts"] == max(each["ts"] for each in group)
        assert row["min_arrival"] == min(each["arrival"] for each in group)
        last = group[-1]
        assert (row["ts"], row["arrival"], row["seq"]) == (last["ts"], last["arrival"], last["seq"])
        hashes = identity_hash(*(column(group, name) for name in ("ts", "id", "part")))
        assert row["set_hash"] == int(hashes.sum())
        naive = naive_fields(group)
        for index, field in enumerate(fields):
            if field.kind in ("last_k", "multiset"):
                continue
            value = row[f"f{index}"]
            if field.kind in ("first", "last"):
                value = None if value is None else decode_ordered(value, source, field.lift.type.kind)
            assert value == naive[index], (key, index)


def test_each_event_writes_the_running_state_of_its_tile(run: Run) -> None:
    compiled, job, out, _, lines = run
    stream = next(each for each in job.streams if each.name == "by_user__tiles")
    table = read_changelog(out, stream)
    seen: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    applied = [each for each in brute(lines)[1] if each["user"] is not None]
    for cells, row in zip(applied, table.to_pylist(), strict=True):
        group = seen[cells["user"], cells["ts"] // HOP * HOP]
        group.append(cells)
        assert (row["ts"], row["arrival"], row["seq"]) == (cells["ts"], cells["arrival"], cells["seq"])
        assert (row["n"], row["max_ts"]) == (len(group), max(column(group, "ts")))
        assert row["min_arrival"] == min(column(group, "arrival"))
        assert (row["f1"], row["f3"]) == (naive_fields(group)[1], naive_fields(group)[3])
    source = compiled.source("events")
    for index, field in enumerate(compiled.views[0].fields):
        if field.kind in ("first", "last"):
            texts, kind = table[f"f{index}"], field.lift.type.kind
            expected = [None if each is None else decode_ordered(each, source, kind)[2] for each in texts.to_pylist()]
            assert ordered_values(texts, source, kind).to_pylist() == expected


def column(cells: list[dict[str, Any]], name: str) -> Any:
    return [each[name] for each in cells]


def naive_fields(cells: list[dict[str, Any]]) -> dict[int, Any]:
    def ordered(name: str) -> list[tuple[Any, ...]]:
        return sorted(
            ((each["ts"], (each["id"], each["part"]), each[name]) for each in cells if each[name] is not None),
            key=lambda entry: (entry[0], entry[1][0], entry[1][1].encode()),
        )

    def known(name: str) -> list[int]:
        return [each[name] for each in cells if each[name] is not None]

    return {
        0: len(cells), 1: sum(known("amount")), 2: sum(known("score")), 3: min(known("small"), default=None),
        4: next(reversed(ordered("shop")), None), 5: next(iter(ordered("flag")), None),
    }  # fmt: skip


def test_values_and_entries_equal_the_naive_ones(run: Run) -> None:
    _, job, out, _, lines = run
    kept = [each for each in brute(lines)[1] if each["user"] is not None]
    named = {each.kind: each for each in job.streams}
    counts = Counter((each["user"], each["ts"] // HOP * HOP, each["shop"]) for each in kept if each["shop"] is not None)
    found = {key: row["count"] for key, row in final_rows(out, named["values"]).items()}
    assert found == counts
    assert {"～", "😀"} <= {shop for _, _, shop in counts}
    rows = read_changelog(out, named["entries"]).to_pylist()
    assert [(row["ts"], row["arrival"], row["id0"], row["id1"], row["value"], row["seq"]) for row in rows] == [
        (each["ts"], each["arrival"], each["id"], each["part"], each["amount"], each["seq"])
        for each in kept
        if each["amount"] is not None
    ]


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        run_stream(plan(odd), "events", tmp_path / "none", tmp_path / "out")
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="not empty"):
        run_stream(plan(odd), "events", tmp_path, tmp_path)
    with pytest.raises(InputError, match="no complete checkpoint"):
        run_stream(plan(odd), "events", tmp_path, tmp_path / "out", resume=True)


def test_a_java_home_without_java_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="holds no bin/java"):
        java_home({"JAVA_HOME": str(tmp_path)})
    assert (java_home({}) / "bin" / "java").exists()
