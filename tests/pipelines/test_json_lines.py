"""Lines that a broker hands over; `tests/conformance/test_json_lines.py` compares the judge with the Flink job."""

import json
import sys
from typing import Any

import pytest

from unskew.pipelines import (
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Float,
    Int64,
    String,
    Timestamp,
    count,
)
from unskew.pipelines.json_lines import LineJudge
from unskew.pipelines.json_objects import DEEPEST, parsed
from unskew.pipelines.planner import plan

SOURCE = EventSource(
    "tx", {"id": Int64, "ts": Timestamp, "at": Timestamp, "amount": Decimal(12, 2), "score": Float(0, 1), "note": String},
    event_time="ts", event_id="id", arrival="at",
)  # fmt: skip
VIEW = FeatureView("v", Entity("id", "id"), SOURCE, {"n": count().over("1h")})
JUDGE = LineJudge(plan(FeatureSet("s", [VIEW])).source("tx"))
ROW: dict[str, Any] = {"id": 1, "ts": 1_000, "amount": "1.5", "score": 0.1}
MINUTE, DAY = 60_000, 86_400_000


def line(**more: Any) -> bytes:
    return json.dumps(ROW | more).encode()


def test_a_message_without_a_value_is_malformed() -> None:
    assert JUDGE(None, 1) == JUDGE(b"", 1) == "malformed"


def test_the_arrival_is_the_messages() -> None:
    assert JUDGE(line(at="x"), 2_000) == [1, 1_000, 2_000, 150, 0.1, None]
    assert JUDGE(line(at="x")) == "wrong_type"
    assert JUDGE(line()) == [1, 1_000, None, 150, 0.1, None]
    assert JUDGE(line(ts=1_000 + MINUTE), 1_000) != "future"
    assert JUDGE(line(ts=1_001 + MINUTE), 1_000) == "future"
    assert JUDGE(line(), 2**60) == "out_of_range"


def test_late_is_by_the_arrival() -> None:
    found = [JUDGE(line(), 1_000 + DAY + each) for each in (0, 1)]
    assert [JUDGE.late(each) for each in found if not isinstance(each, str)] == [False, True]


def test_a_newline_is_space_inside_but_not_before() -> None:
    assert parsed(b'{\n"a": 1\n}\n') == {"a": 1}
    assert parsed(b'\n{"a": 1}') is None  # as the job's pattern has it


def test_messages_of_megabytes_are_judged() -> None:
    note = "n" * 5_000_000
    assert JUDGE(line(note=note), 1_000) == [1, 1_000, 1_000, 150, 0.1, note]
    assert JUDGE(line(note=note)[:-1], 1_000) == "malformed"
    assert JUDGE(line(x=[[each] for each in range(500_000)]), 1_000) == [1, 1_000, 1_000, 150, 0.1, None]


@pytest.mark.parametrize("below", [50, 400])
def test_depth_does_not_depend_on_the_stack(below: int) -> None:
    def deeper(left: int) -> object:
        return deeper(left - 1) if left else parsed(b'{"a":' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}")

    limit = sys.getrecursionlimit()
    assert deeper(below) is not None
    assert sys.getrecursionlimit() == limit
    assert parsed(b'{"a":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}") is None
