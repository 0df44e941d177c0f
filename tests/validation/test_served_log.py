"""Rows that were served, checked against the archive: what each tile knew is found again, and confirmed."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unskew.online.asked import Form
from unskew.online.materialise import Changelog, Materialiser
from unskew.online.read import FeatureReader
from unskew.online.served_rows import chosen, served_row
from unskew.online.store_sqlite import SqliteStore
from unskew.online.stream import run_stream
from unskew.pipelines import (
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
    plan,
    request,
)
from unskew.pipelines.archive import CLOCK_SLACK, Commit, Seen, record
from unskew.pipelines.backends.flink_identity import identity_hash
from unskew.pipelines.commands.parity import parity_of_served
from unskew.pipelines.errors import InputError
from unskew.pipelines.timegrid import DAY
from unskew.validation.report import summary
from unskew.validation.served_archive import read_archive
from unskew.validation.served_log import Tile, check_served, confirmed_events

START = 20_000 * DAY
N = 900
payments = EventSource(
    "payments",
    {"id": Int64, "at": Timestamp, "arrived": Timestamp, "card": Int64, "shop": String, "paid": Decimal(12, 2)},
    event_time="at",
    event_id="id",
    arrival="arrived",
)
paid = col("paid")
card = FeatureView(
    "card",
    Entity("card", "card"),
    payments,
    {
        "n": count().over("1h", "1d"),
        "total": paid.sum().over("1d"),
        "spread": paid.stddev().over("1d"),
        "shops": col("shop").count_distinct().over("1d"),
        "by_shop": paid.sum().by(col("shop")).over("1d"),
        "last_paid": paid.last_k(3).over("1d"),
        "last_shop": col("shop").last().over("1d"),
    },
)
SET = plan(
    FeatureSet(
        "pay", [card], request={"paid": Decimal(12, 2)}, derived={"ratio": request("paid") / feature("card.total_1d")}
    )
)


def events() -> list[dict[str, Any]]:
    """Draw payments in order of arrival: some late, some copied, of these some under another card."""
    draw = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    now = START + DAY
    for number in range(N):
        now += int(draw.integers(1, 400_000))
        late = int(draw.integers(DAY + 1, 2 * DAY)) if draw.random() < 0.02 else int(draw.exponential(60_000))
        row: dict[str, Any] = {"id": number, "at": now - late, "arrived": now, "card": int(draw.integers(5))}
        row |= {"shop": f"s{draw.integers(5)}", "paid": f"{int(draw.integers(1, 10_000)) / 100:.2f}"}
        rows.append(row)
        if draw.random() < 0.05:
            rows.append({**row, "arrived": now, "card": int(draw.integers(5))})
    return rows


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the events, and rows served while the stream was a few events behind."""
    folder, rows = tmp_path_factory.mktemp("served"), events()
    (folder / "in").mkdir()
    lines = [orjson.dumps({**row, "_seq": number}) for number, row in enumerate(rows)]
    (folder / "in" / "0.jsonl").write_bytes(b"\n".join(lines))
    run_stream(SET, "payments", folder / "in", folder / "out")
    log, form = Changelog(SET, "payments", folder / "out"), Form(SET)
    found = []
    with SqliteStore(":memory:") as store:
        writer = Materialiser(store, SET, "payments", "one")
        for position in range(50, len(rows), 37):
            writer.apply(log.until(position - position % 3))  # what was read after that is in flight
            at = int(str(rows[position]["arrived"])) + 1
            asked = form.asked([{"card": each, "paid": 5} for each in (0, 1, 2, 3, 9)])
            reading = FeatureReader(SET, store).read_asked(asked, np.full(5, at))
            cells = {name: column.cells() for name, column in reading.columns.items()}
            for row in range(asked.rows):
                values = {name: own[row] for name, own in cells.items()}
                found.append(served_row(reading, asked, form, values, row, at, SET.fingerprint))
    return rows, found


def archive(rows: list[dict[str, Any]]) -> pa.Table:
    """Return the events as they are archived."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return pa.table(columns | {"paid": [float(str(each)) for each in columns["paid"]]})


def test_every_cell_is_explained(served: tuple[list[dict[str, Any]], list[bytes]]) -> None:
    rows, lines = served
    report = check_served(SET, map(orjson.loads, lines), {"payments": archive(rows)})
    assert report.unexplained == 0, summary(report)
    assert report.causes.keys() == {"in_flight", "late"}
    assert sum(each.equal for each in report.features.values()) > len(lines)


def test_an_archive_in_files_tells_the_same(served: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path) -> None:
    rows, lines = served
    table = archive(rows)
    table = table.append_column("_offset", pa.array(range(len(rows))))
    for first in range(0, len(rows), 250):
        pq.write_table(table.slice(first, 250), tmp_path / f"{first:04d}.parquet")
    given = [orjson.loads(each) for each in lines]
    whole, files = (check_served(SET, given, {"payments": each}) for each in (table, tmp_path))
    assert (files.unexplained, files.causes, files.events) == (0, whole.causes, {"payments": len(rows)})
    assert files.features == whole.features


def test_copies_under_other_cards_are_read_too(tmp_path: Path) -> None:
    rows = events()
    for number, first in enumerate(range(0, len(rows), 250)):
        pq.write_table(archive(rows[first : first + 250]), tmp_path / f"{number}.parquet")
    mine = {each["id"] for each in rows if each["card"] == 2}
    wanted = [(each["id"], each["card"]) for each in rows if each["id"] in mine]
    found = read_archive(SET.source("payments"), tmp_path, [(SET.reads[0], {(2,)})])
    assert list(zip(*(found.log.table[name].to_pylist() for name in ("id", "card")), strict=True)) == wanted
    assert {each for _, each in wanted} > {2}
    assert found.rows == len(rows)


@pytest.mark.parametrize("name", ["card.n_1h", "card.total_1d", "card.shops_1d", "card.last_paid_1d", "ratio"])
def test_a_wrong_cell_is_found(served: tuple[list[dict[str, Any]], list[bytes]], name: str) -> None:
    rows, lines = served
    given = [orjson.loads(each) for each in lines]
    wrong = next(each for each in given if each["values"][name] and each["at"] > START + 3 * DAY)
    wrong["values"][name] = [1.0] if isinstance(wrong["values"][name], list) else wrong["values"][name] + 1
    report = check_served(SET, given, {"payments": archive(rows)})
    assert report.unexplained == 1
    assert report.features[name].causes["engine"] == 1
    assert report.defects[0].probe["card"] == wrong["row"]["card"]


def test_an_event_that_the_archive_lacks_is_found(served: tuple[list[dict[str, Any]], list[bytes]]) -> None:
    rows, lines = served
    report = check_served(SET, map(orjson.loads, lines), {"payments": archive([*rows[:400], *rows[401:]])})
    assert report.causes["unconfirmed"] > 0


def test_rows_past_the_archive_wait(
    served: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    #   archive complete up to:   0     cut
    #   row read at:                 a        b     a is judged, b waits
    rows, lines = served
    newest = int(rows[400]["arrived"])
    log, events = tmp_path / "log", tmp_path / "events"
    for folder in (log, events, events / "_commits"):
        folder.mkdir()
    pq.write_table(pa.table({"content": lines}), log / "rows.parquet")
    pq.write_table(archive(rows[:401]), events / "events.parquet")
    record(events, Commit("payments", "one", 1, 0, 0, 400, newest, newest))
    parity_of_served(SET, log, [f"payments={events}"], tmp_path / "report", as_json=True)
    early = sum(orjson.loads(each)["at"] + 6_000 < newest - CLOCK_SLACK for each in lines)
    said = capsys.readouterr()
    assert orjson.loads(said.out)["probes"] == early
    assert f"{len(lines) - early} of {len(lines)} rows" in said.err
    record(events, Commit("payments", "one", 1, 0, 0, 401, START, START))
    with pytest.raises(InputError, match="not complete yet; wait a minute, run `unskew archive`"):
        parity_of_served(SET, log, [str(events)], tmp_path / "report", as_json=True)


def test_an_archive_may_have_no_rows_yet(served: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path) -> None:
    (tmp_path / "_commits").mkdir()
    record(tmp_path, Seen("payments", "one", 1, 0, 0, START))
    unknown = [each for each in map(orjson.loads, served[1]) if each["row"]["card"] == 9]
    report = check_served(SET, unknown, {"payments": tmp_path})
    assert report.unexplained == 0
    assert report.features["card.n_1d"].equal == len(unknown) > 0


def test_a_torn_file_of_an_archive_is_refused(served: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"file `.*torn.parquet` is no readable Parquet file"):
        check_served(SET, [orjson.loads(served[1][0])], {"payments": tmp_path})


def test_rows_of_other_definitions_are_refused(served: tuple[list[dict[str, Any]], list[bytes]]) -> None:
    rows, lines = served
    with pytest.raises(InputError, match="other definitions"):
        check_served(SET, [{**orjson.loads(lines[0]), "fingerprint": "x"}], {"payments": archive(rows)})


def test_rows_that_are_all_of_other_definitions_are_not_said_to_be_left_out(
    served: tuple[list[dict[str, Any]], list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, lines = served
    others = [orjson.dumps({**orjson.loads(each), "fingerprint": "x"}) for each in lines]
    log, events = tmp_path / "log.parquet", tmp_path / "events.parquet"
    pq.write_table(pa.table({"content": others}), log)
    pq.write_table(archive(rows), events)
    with pytest.raises(InputError, match="a served row is of set `pay` with other definitions"):
        parity_of_served(SET, log, [str(events)], tmp_path / "report", as_json=False)
    assert capsys.readouterr().err == ""


def test_events_may_pass_each_other() -> None:
    from unskew.pipelines.backends import oracle  # noqa: PLC0415

    own = [oracle.Event(n, n, n, False, (n,), {}) for n in range(12)]
    tile = Tile(own, identity_hash(list(range(12)), list(range(12))))
    partitions = np.array([0, 1, 2] * 4)
    taken = [0, 3, 6, 9, 1, 2]  # all of the first partition, one of each other
    total = int(np.add.reduce(tile.hashes[taken]))
    found = confirmed_events(tile, partitions, len(taken), total)
    assert found is not None
    assert sorted(each.position for each in found) == sorted(taken)
    assert confirmed_events(tile, partitions, len(taken), total + 1) is None
    one = np.zeros(12, np.int64)
    passed = [0, 1, 2, 4, 5, 7]  # the last ones have passed two others
    found = confirmed_events(tile, one, len(passed), int(np.add.reduce(tile.hashes[passed])))
    assert found is not None
    assert [each.position for each in found] == passed
    assert confirmed_events(tile, partitions, 13, total) is None


def test_an_entity_is_logged_always_or_never() -> None:
    asked = Form(SET).asked([{"card": each, "paid": 1} for each in range(1000)])
    half = chosen(asked, 0.5)
    assert half == chosen(asked, 0.5)
    assert 400 < len(half) < 600
    assert chosen(asked, 0.0) == []
    assert len(chosen(asked, 1.0)) == 1000
