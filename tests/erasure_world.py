"""A small world with somebody to forget: a card with a name that CSV, JSON and SQL all have to quote."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.backfill.erase_upload import UploadPlace
from unskew.backfill.erasure import archives
from unskew.pipelines import Decimal, Entity, EventSource, FeatureSet, FeatureView, Int64, String, Timestamp, col, count
from unskew.pipelines import plan as compile_plan
from unskew.pipelines.erasure import Place, subject
from unskew.pipelines.manifest import MANIFEST

DAY, HOUR = 86_400_000, 3_600_000
MARK = "forget-me-0427"
GONE = f'{MARK},"x"\ny'
CARDS = (GONE, "a", 'b,"c"', "d\ne")
END = 10 * DAY  # batch_end
TX = EventSource(
    "tx",
    {"id": Int64, "ts": Timestamp, "seen": Timestamp, "card": String, "shop": Int64, "amount": Decimal(8, 2)},
    event_time="ts", event_id="id", arrival="seen", aliases={"card": ["card_no", "payload.card"]},
)  # fmt: skip
NOTES = EventSource(
    "notes", {"n": Int64, "at": Timestamp, "card": String, "shop": Int64}, event_time="at", event_id="n"
)
CARD = FeatureView(
    "card",
    Entity("card", "card"),
    TX,
    {
        "n": count().over("2h", "lifetime"),
        "sum": col("amount").sum().over("7d"),
        "shops": col("shop").count_distinct().over("7d"),
        "last": col("amount").last_k(3).over("7d"),
    },
)
PAIR = FeatureView("pair", Entity("pair", ("shop", "card")), TX, {"n": count().over("7d")})
SHOP = FeatureView("shop", Entity("shop", "shop"), TX, {"n": count().over("7d")})
NOTED = FeatureView("noted", Entity("shop", "shop"), NOTES, {"n": count().over("7d")})
SET = FeatureSet("world", [CARD, CARD.joined("payee", card="payee"), PAIR, SHOP])
PLAN = compile_plan(SET)


def rows(cards: tuple[str, ...] = CARDS) -> list[dict[str, Any]]:
    """Return events from 8 d to 11 d, in order of arrival."""
    found = []
    for n in range(400):
        ts = 8 * DAY + n * 11 * 60_000
        row = {"id": n, "ts": ts, "seen": ts, "card": CARDS[n % 4], "shop": n % 3, "amount": n % 7 + 0.25}
        found.append(row if n % 50 else row | {"seen": ts + 2 * DAY})
    return [each for each in found if each["card"] in cards]


def table(found: list[dict[str, Any]]) -> pa.Table:
    kinds = {"card": pa.string(), "amount": pa.float64()}
    return pa.Table.from_pylist(found, pa.schema([(name, kinds.get(name, pa.int64())) for name in found[0]]))


def archive(folder: Path, found: list[dict[str, Any]]) -> Path:
    """Write the events as files of 100 rows, uncompressed; one file holds nobody of `CARDS`."""
    folder.mkdir(parents=True)
    for start in range(0, len(found), 100):
        path = folder / f"{start:06d}.parquet"
        pq.write_table(table(found[start : start + 100]), path, compression="none", row_group_size=30)
    other = [{"id": 9_999, "ts": 8 * DAY, "seen": 8 * DAY, "card": "z", "shop": 1, "amount": 1.0}]
    pq.write_table(table(other), folder / "zzz.parquet")
    return folder


def lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the events as the stream reads them, and odd lines among them."""
    odd = [
        '{"id": 5000, "card": ' + json.dumps(GONE) + ", torn",
        '{"id": 5001, "card": "a", torn',
        json.dumps({"id": "x", "ts": END, "card": GONE, "shop": 1}),
        json.dumps({"id": "y", "ts": END, "card": "a", "note": GONE}),
        json.dumps({"id": "z", "ts": END, "card": None, "card_no": None, "payload": [{"card": GONE}]}),
    ]
    whole = [json.dumps(each | {"amount": f"{each['amount']:.2f}"}) for each in found]
    return [*whole[:200], *odd, *whole[200:]]


def packed(folder: Path) -> dict[tuple[Any, ...], bytes]:
    """Return an upload's records by view and entity."""
    found = {}
    for view in PLAN.views:
        for row in pq.read_table(folder / view.name).to_pylist():
            found[(view.name, *(row[each.name] for each in view.keys))] = row["_record"]
    return found


def place_at(folder: Path) -> Place:
    """Return an upload or an archive to erase the card from."""
    who = subject(PLAN, {"card": GONE})
    return UploadPlace(who, folder) if (folder / MANIFEST).exists() else archives(who, folder)[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def holding(folder: Path, mark: str = MARK) -> list[str]:
    """Return the files that hold a mark, in their bytes or in the cells of a Parquet file."""
    found = [name for name, data in contents(folder).items() if mark.encode() in data]
    packed = [each for each in folder.rglob("*.parquet") if mark in repr(pq.read_table(each).to_pydict())]
    return found + [str(each) for each in packed]
