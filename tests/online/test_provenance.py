"""What makes up an online value: tiles of the upload and of the stream, and the archive's events."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.test_batch import table
from tests.online.stream_rows import stream_rows
from tests.simulation.world import PLAN, SOURCE, START
from unskew.backfill.upload import upload
from unskew.online.materialise import Materialiser
from unskew.online.provenance import Provenance, provenance
from unskew.online.read import FeatureReader
from unskew.online.store import Store
from unskew.online.upload import load_upload
from unskew.pipelines.errors import InputError
from unskew.pipelines.timegrid import DAY, HOUR, MINUTE
from unskew.validation.events_of import window_events

ROWS = [
    {"id": number, "ts": START + at, "seen": START + at, "who": 1, "shop": shop, "amount": amount}
    for number, (at, shop, amount) in enumerate(
        [(-9 * DAY, 1, 1), (HOUR, 1, 2), (DAY + HOUR, 2, 3), (DAY + HOUR + 1, 2, None), (DAY + 2 * HOUR, 1, 5)]
    )
]
END = START + DAY  # closed tiles end here
AT = START + DAY + 2 * HOUR + MINUTE


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, fresh_store: Callable[[], Store]) -> FeatureReader:
    folder = tmp_path_factory.mktemp("provenance")
    store = fresh_store()
    cut = END + SOURCE.allowed_lateness
    upload(PLAN, table(SOURCE.columns, ROWS), output=folder / "upload", cut=cut)
    load_upload(store, PLAN, folder / "upload", cut)
    Materialiser(store, PLAN, SOURCE.name, "job").apply(stream_rows(PLAN, SOURCE.name, ROWS, END))
    return FeatureReader(PLAN, store)


def explained(reader: FeatureReader, name: str) -> Provenance:
    return provenance(reader, {"who": 1}, AT, f"activity.{name}")


def test_tiles_of_a_sum(reader: FeatureReader) -> None:
    found = explained(reader, "total_2d")
    assert (found.value, found.tail, found.head) == (10, START - DAY + 2 * HOUR, AT)
    assert [(each.side, each.start, each.cells) for each in found.rows] == [
        ("closed", START + HOUR, {"add 1": 2}),
        ("open", START + DAY + HOUR, {"add 1": 3}),
        ("open", START + DAY + 2 * HOUR, {"add 1": 5}),
    ]


def test_values_entries_and_all_before(reader: FeatureReader) -> None:
    assert [each.cells for each in explained(reader, "by_shop_1d").rows] == [
        {"value": 2, "count": 2, "field 1": 3},
        {"value": 1, "count": 1, "field 1": 5},
    ]
    assert [each.cells["value"] for each in explained(reader, "recent_1d").rows] == [3, 5]
    ever = explained(reader, "ever_lifetime")
    assert ever.value == 5
    assert (ever.rows[0].start, ever.rows[0].cells) == (None, {"add 1": 2})


def test_events_of_the_archive(reader: FeatureReader) -> None:
    found = explained(reader, "total_2d")
    events = window_events(
        PLAN, found.feature, table(SOURCE.columns, [*ROWS, ROWS[2]]), {"who": 1}, (found.tail, found.head)
    )
    assert [each["id"] for each in events] == [1, 2, 2, 3, 4]
    assert [each["fate"] for each in events] == ["applied", "applied", "duplicate", "applied", "applied"]
    assert [each["add 1"] for each in events] == [2, 3, 3, None, 5]


def test_a_feature_without_tiles(reader: FeatureReader) -> None:
    with pytest.raises(InputError, match=r"feature `activity.totl_2d` has no tiles; did you mean `activity.total_2d`"):
        explained(reader, "totl_2d")


def test_the_command(tmp_path: Path) -> None:
    from tests.pipelines.test_cli import ROOT, unskew  # noqa: PLC0415 - a subprocess is enough for one test

    defs = ["--defs", str(ROOT / "feature_defs/fraud.py"), "--set", "fraud"]
    for arguments in (
        ["simulate", str(tmp_path / "archive"), "--scale", "2000", "--days", "40", "--parquet"],
        ["upload", *defs, "--events", str(tmp_path / "archive"), "--cut", "2025-02-05", "--output", str(tmp_path / "up"), "--store", str(tmp_path / "s")],
    ):  # fmt: skip
        done = unskew(*arguments)
        assert done.returncode == 0, done.stderr
    asked = [
        "explain",
        "customer_activity.tx_count_30d",
        *defs,
        "--store",
        str(tmp_path / "s"),
        "--at",
        "2025-02-04T00:00",
    ]
    done = unskew(*asked, "customer_id=3", "--events", str(tmp_path / "archive/transactions"), "--json")
    found = json.loads(done.stdout)
    assert found["value"] == sum(each["add 1"] for each in found["tiles"]) > 0
    assert found["value"] == sum(each["fate"] != "duplicate" for each in found["events"])
    assert unskew(*asked, "customer_id=3").stdout.startswith(
        f"customer_activity.tx_count_30d = {found['value']}  (n)\n"
    )
