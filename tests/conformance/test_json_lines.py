"""The judge of lines in Python gives each line the reason, the fate and the values that the Flink job gives it."""

from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.depth import DEPTH
from tests.json_texts import nearly
from tests.odd_lines import ODD_LINES, ODD_VALUES
from unskew.online.changelog import read_changelog
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
)
from unskew.pipelines.backends.flink import compile_source
from unskew.pipelines.encoding import quanta
from unskew.pipelines.json_lines import LineJudge
from unskew.pipelines.planner import plan

SOURCE = EventSource(
    "lines",
    {
        "id": Int64, "ts": Timestamp, "arrival": Timestamp, "user": Int64, "name": String, "amount": Decimal(12, 2),
        "fine": Decimal(18, 6), "whole": Decimal(5, 0), "score": Float(-1000, 1000), "step": Float(0, 10, 0.1),
        "flag": Bool, "small": Int64(0, 100),
    },
    event_time="ts", event_id="id", arrival="arrival",
    aliases={"user": ["u", "p.user", "p.q.user"], "name": "p.name", "flag": "p.flag", "ts": "p.ts"},
)  # fmt: skip
VALUES = [each for each in SOURCE.schema if each not in ("id", "ts", "arrival", "user")]
VIEW = FeatureView("v", Entity("user", "user"), SOURCE, {each: col(each).last_k(1).over("1h") for each in VALUES})
PLAN = plan(FeatureSet("lines", [VIEW]))
JUDGE = LineJudge(PLAN.source("lines"))
SOUND = {
    "ts": 1_000_000, "arrival": 1_000_000, "user": 7, "name": "a", "amount": 1, "fine": "0.5", "whole": 3, "score": 0.5,
    "step": 1, "flag": True, "small": 1,
}  # fmt: skip
OTHERS = ["u", "p", "x", "Ts", "p.user"]


def row(number: int, more: str, base: str = '"ts":{ts},"user":7,') -> bytes:
    return ("{" + f'"id":{number},' + base.format(ts=number * 1_000) + more + "}").encode()


def at_limits() -> list[str]:
    """Return what is added to a row to stand on both sides of each limit of the parser."""
    found = []
    for size in (998, 999, 1_000):
        found += ['"x":' + "[" * size + "]" * size, '"x":' + '{"a":' * (size - 1) + "1" + "}" * (size - 1)]
    for size in (999, 1_000, 1_001, 1_002):
        digits = "9" * size
        found += [f'"x":{digits}', f'"x":-{digits}', f'"score":{digits}', f'"x":0.{digits[1:]}', f'"x":1.{digits[1:]}']
        found += [
            f'"x":0.{digits[2:]}e1',
            f'"x":0e{"0" * (size - 1)}',
            f'"x":1e{"0" * (size - 1)}',
            f'"user":"{digits}"',
        ]
    for exponent in (2**31 - 1, 2**31, 2**31 + 1, 1 - 2**31, -(2**31), -1 - 2**31, 10**12):
        found += [f'"x":{each}e{exponent}' for each in ("1", "0", "1.5", "1.55", "15", "9" * 490, "0." + "9" * 600)]
    for size in (50_000, 50_001):
        found += [
            f'"{"k" * size}":1',
            f'"x":[],"{"k" * size}":1',
            f'"x":[],"{"é" * size}":1',
            f'"{"😀" * (size // 2)}":[]',
        ]
        found += [f'"x":[],"name":"{"k" * size}"', '"' + "\\u0041" * size + '":1']
    return found


def hand_picked() -> list[bytes]:
    found = [row(number, f'"{name}":{value}') for number, (name, value) in enumerate(
        (name, value) for name in ("name", "amount", "fine", "whole", "score", "step", "flag", "small", "p", "user") for value in ODD_VALUES
    )]  # fmt: skip
    found += [row(10_000 + number, each) for number, each in enumerate(at_limits())]
    arrays = (
        '[{"user":5}]',
        '[[{"user":5}]]',
        '{"q":[{"user":5}]}',
        '[{"q":{"user":5}}]',
        "[]",
        '{"user":[5]}',
        '{"q":{"user":5}}',
    )
    found += [row(11_000 + number, f'"p":{each}', '"ts":{ts},') for number, each in enumerate(arrays)]
    for number, (ts, arrival) in enumerate(((-86_400_000, 0), (-86_400_001, 0), (60_000, 0), (60_001, 0), (5, "null"))):
        found.append(row(12_000 + number, f'"ts":{ts},"arrival":{arrival},"user":7,"name":"a"', ""))
    return found + [each.replace(b'"part"', b'"name"') for each in ODD_LINES]


def made_up(count: int) -> list[bytes]:
    found: list[bytes] = []

    @settings(
        max_examples=count, database=None, derandomize=True, suppress_health_check=list(HealthCheck), deadline=None
    )
    @given(nearly(SOUND, OTHERS))
    def collect(line: bytes) -> None:
        found.append(line.replace(b"{", b'{"id":%d,' % (20_000 + len(found)), 1))

    collect()
    return found


def test_each_line_has_one_judgement(tmp_path: Path) -> None:
    lines = hand_picked() + made_up(2_000 * DEPTH)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    account = run_stream(PLAN, "lines", tmp_path / "in", tmp_path / "out")
    streams = {each.name: each for each in compile_source(PLAN, "lines", tmp_path / "in", tmp_path / "out").streams}
    judged = [(each.rstrip(b"\r"), JUDGE(each)) for each in lines]
    quarantined = Counter((line, found) for line, found in judged if isinstance(found, str))
    rows = read_changelog(tmp_path / "out", next(each for each in streams.values() if each.kind == "quarantine"))
    assert Counter((each["raw"], each["reason"]) for each in rows.to_pylist()) == quarantined
    assert set(account.reasons) >= {"malformed", "null_event_time", "wrong_type", "out_of_range", "future"}
    sound = [found for _, found in judged if not isinstance(found, str)]
    assert account.late == sum(JUDGE.late(each) for each in sound)
    kept = first_copies([each for each in sound if not JUDGE.late(each)])
    assert account.applied == sum(each["user"] is not None for each in kept) > 500
    for stream in streams.values():
        if stream.kind == "entries":
            assert stream.field is not None
            name = VALUES[stream.field]
            found = read_changelog(tmp_path / "out", stream).to_pylist()
            assert Counter((each["key0"], each["ts"], each["arrival"], each["id0"], each["value"]) for each in found) == Counter(
                (each["user"], each["ts"], each["arrival"], each["id"], each[name]) for each in kept if None not in (each["user"], each[name])
            ), name  # fmt: skip


def first_copies(rows: list[list[Any]]) -> list[dict[str, Any]]:
    """Return the first row of each identity, as the stream computes with it."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for row in rows:
        cells = dict(zip(JUDGE.names, row, strict=True))
        for name in ("score", "step"):
            cells[name] = None if cells[name] is None else quanta(cells[name], SOURCE.schema[name].quantum)
        cells["arrival"] = cells["ts"] if cells["arrival"] is None else cells["arrival"]
        found.setdefault((cells["ts"], cells["id"]), cells)
    return list(found.values())
