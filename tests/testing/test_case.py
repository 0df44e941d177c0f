"""Feature cases: on every engine, in few lines, with errors that help."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from unskew.pipelines import (
    Bool,
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int64,
    String,
    Timestamp,
    col,
    count,
    feature,
    request,
)
from unskew.pipelines.errors import InputError
from unskew.testing import FeatureCase

payments = EventSource(
    "payments",
    {"id": Int64, "at": Timestamp, "card": Int64, "amount": Decimal(12, 2), "country": String, "chip": Bool},
    event_time="at", event_id="id",
)  # fmt: skip
spending = FeatureView(
    "spending", Entity("card", "card"), payments,
    {
        "n": count().over("1h"),
        "mean": col("amount").mean().over("1d"),
        "recent": col("amount").last_k(2).over("1d"),
        "countries": count().by(col("country")).over("1d"),
        "last_chip": col("chip").last().over("1d"),
        "seen": col("at").max().over("1d"),
    },
)  # fmt: skip
cards = FeatureSet(
    "cards", [spending], request={"amount": Decimal(12, 2)},
    derived={"ratio": request("amount") / feature("spending.mean_1d")},
)  # fmt: skip
EVENTS = """
    at               | card | amount | country | chip
    2025-01-01 12:00 | 7    | 10.00  | US      | true
    2025-01-01 12:30 | 7    | 30.00  | "null"  | null
    2025-01-01 12:45 | 8    | 5.00   | null    | false
"""
EXPECTED = """
    t                | card | amount | n_1h | mean_1d | recent_1d    | countries_1d         | last_chip_1d | seen_1d             | ratio
    2025-01-01 12:30 | 7    | 30.00  | 1    | 10.0    | [10]         | {"US": 1}            | true         | 2025-01-01T12:00:00 | 3.0
    2025-01-01 13:30 | 7    | null   | 1    | 20.0    | [30.0, 10.0] | {"US": 1, "null": 1} | true         | 2025-01-01T12:30:00 | null
    2025-01-01 13:30 | 9    | 1      | 0    | null    | null         | null                 | null         | null                | null
"""


@pytest.mark.parametrize("engine", ["oracle", "beam", "flink"])
def test_a_case_holds_on_every_engine(engine: str) -> None:
    case = FeatureCase(cards, engine)
    case.events("payments", EVENTS)
    case.expect(EXPECTED)


def test_a_case_takes_milliseconds_on_the_oracle() -> None:
    case = FeatureCase(cards)
    case.events("payments", EVENTS)
    start = time.perf_counter()
    assert case.at("2025-01-01 12:31", card=7)["spending.n_1h"] == 2
    assert time.perf_counter() - start < 5  # seconds; it takes about a thousandth


def test_a_wrong_value_is_shown_with_what_was_expected() -> None:
    case = FeatureCase(cards)
    case.events("payments", [{"at": 1_735_732_800_000, "card": 7, "amount": 10}])
    with pytest.raises(
        AssertionError, match=r"spending.mean_1d at 2025-01-02 for card=7: expected 9.0, oracle gave 10.0"
    ):
        case.expect("t | card | mean_1d \n 2025-01-02 | 7 | 9.0")


@pytest.mark.parametrize(
    ("source", "rows", "message"),
    [
        ("payment", EVENTS, "source `payment` is unknown; did you mean `payments`"),
        ("payments", "at | crad \n 1 | 7", "column `crad` of source `payments` is unknown; did you mean `card`"),
        ("payments", "at | card \n 1", "has 1 cells, the head has 2"),
        ("payments", "at | card \n 1 | x", "cell `x` of column `card` is no `Int64`"),
        ("payments", "", "the table is empty"),
    ],
)
def test_wrong_events(source: str, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FeatureCase(cards).events(source, rows)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"card": 1.5}, "value `1.5` of column `card` is no `Int64`"),
        ({"card": "7"}, "value `'7'` of column `card` is no `Int64`"),
        ({"card": 2**64}, "of column `card` is no `Int64`"),
        ({"country": "\ud800"}, "of column `country` is no `String`"),
        ({"chip": 1}, "value `1` of column `chip` is no `Bool`"),
    ],
)
def test_wrong_values(cell: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FeatureCase(cards).events("payments", [{"at": "2025-01-01", **cell}])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("card | n_1h \n 7 | 1", "the table needs the column `t`, a feature, and a row for each instant"),
        ("t | card \n 1 | 7", "the table needs the column `t`, a feature"),
        ("t | card | n_1h", "the table needs the column `t`, a feature"),
        ("t | card | n_1h | card \n 1 | 7 | 1 | 7", "column `card` stands twice"),
        ("t | card | recent_1d \n 1 | 7 | {}", "cell `{}` is no `list<float64>`"),
        ("t | card | recent_1d \n 1 | 7 | foo", "cell `foo` is no `list<float64>`"),
        ("t | card | n_1h \n 1 | 7 | x", "cell `x` is no `int64`"),
    ],
)
def test_wrong_expectations(table: str, message: str) -> None:
    case = FeatureCase(cards)
    case.events("payments", EVENTS)
    with pytest.raises(InputError, match=message):
        case.expect(table)


def test_wrong_reads() -> None:
    case = FeatureCase(cards)
    with pytest.raises(InputError, match="instant `None` is no ISO text"):
        case.at(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no `t`; give the instant"):
        case.values([{"card": 1}])
    with pytest.raises(InputError, match="column `crad` is no key and no request column; did you mean `card`"):
        case.at(0, crad=7)
    with pytest.raises(InputError, match="feature `n_2h` is unknown or not the only one; known: `ratio`"):
        case.expect("t | card | n_2h \n 1 | 7 | 1")
    with pytest.raises(InputError, match="engine `flnk` is unknown; did you mean `flink`"):
        FeatureCase(cards, "flnk")


def test_the_plugin_gives_cases_on_the_chosen_engine(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(
        "from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, Timestamp, count\n"
        "clicks = EventSource('clicks', {'id': Int64, 'at': Timestamp, 'user': Int64}, event_time='at', event_id='id')\n"
        "view = FeatureView('activity', Entity('user', 'user'), clicks, {'n': count().over('1h')})\n"
        "def test_n(feature_case):\n"
        "    case = feature_case(FeatureSet('demo', [view]))\n"
        "    case.events('clicks', 'at | user \\n 0 | 7 \\n 1 | 7')\n"
        "    case.expect('t | user | n_1h \\n 1 | 7 | 1')\n"
        "    print('engine', case.engine)\n"
    )
    for engine in ("oracle", "beam"):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-s",
            "-p",
            "no:cacheprovider",
            f"--unskew-engine={engine}",
            str(tmp_path),
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
        assert run.returncode == 0, run.stdout
        assert f"engine {engine}" in run.stdout
