"""Requests and replies: forms, refusals, flags."""

import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.server.processes import Served, serving
from tests.server.world import DAY, END, HOUR, PLANS, question, stream
from unskew.online.read import FeatureReader
from unskew.online.server.wire import ARROW, METADATA
from unskew.online.store_sqlite import SqliteStore

AT = END + HOUR
ROW = {"who": 1, "shop": "a", "paid": "12.50", "asked_at": AT}


def test_one_row_and_many(server: Served) -> None:
    one = server.read(set="cards", row=ROW, at=AT)
    many = server.read(set="cards", rows=[ROW, ROW | {"who": 999}], at=[AT, "2023-11-15T01:00:00Z"])
    assert one["rows"][0] == many["rows"][0]
    assert one["at"] == AT and many["at"] == [AT, 1_700_010_000_000]
    assert one["columns"] == list(PLANS["cards"].fingerprints())
    assert one["fingerprint"] == PLANS["cards"].fingerprint
    source = one["sources"]["tx"]
    assert source == {"batch_end": END, "cut": END + DAY + 5_000, "generation": source["generation"], "epoch": "tx-job"}


def test_an_unknown_entity_has_the_declared_empty_values(server: Served) -> None:
    found = server.read(set="cards", row={"who": 12345, "shop": None, "paid": 1, "asked_at": None}, at=AT)
    assert dict(zip(found["columns"], found["rows"][0], strict=True)) == {
        "card.n_1h": 0, "card.n_1d": 0, "card.spent_1d": 0.0, "card.most_1d": None, "card.shops_1d": None,
        "shop.n_1d": 0, "shop.n_12d": 0, "share": None,
    }  # fmt: skip
    assert found["newest"] == [{"card": None, "shop": None}]


def test_numbers_and_instants_may_be_texts(server: Served) -> None:
    texts = {"who": "1", "shop": "a", "paid": "12.5", "asked_at": "2023-11-15T01:00:00"}
    numbers = {"who": 1, "shop": "a", "paid": 12.5, "asked_at": 1_700_010_000_000}
    assert server.read(set="cards", row=texts, at=AT)["rows"] == server.read(set="cards", row=numbers, at=AT)["rows"]


def test_now_is_the_default(server: Served) -> None:
    before = time.time_ns() // 1_000_000
    assert before <= server.read(set="cards", row=ROW)["at"] <= time.time_ns() // 1_000_000


def test_some_features_need_only_their_own_columns(server: Served, store_path: Path) -> None:
    found = server.read(set="cards", features=["shop.n_12d", "shop.n_1d"], row={"shop": "a"}, at=AT)
    assert found["columns"] == ["shop.n_12d", "shop.n_1d"]
    with SqliteStore(store_path) as store:
        whole = FeatureReader(PLANS["cards"], store).read([ROW | {"paid": 1, "asked_at": None}], AT).row()
    assert found["rows"] == [[whole["shop.n_12d"], whole["shop.n_1d"]]]
    share = server.read(set="cards", features=["share"], row={"who": 1, "paid": 2.5}, at=AT)
    assert share["columns"] == ["share"] and list(share["newest"][0]) == ["card"]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, {"set": "card", "row": ROW}, "set `card` is unknown; did you mean `cards`?"),
        (404, {"set": "cards", "row": ROW, "features": ["card.n_1x"]}, "feature `card.n_1x` is unknown in set `cards`; did you mean `card.n_1h`?"),
        (422, {"set": "cards", "row": {"shop": "a", "paid": 1, "asked_at": 1}}, "column `who` is missing in the request; it needs: `who`, `shop`, `paid`, `asked_at`"),
        (422, {"set": "cards", "row": ROW | {"who": "x"}}, "value `'x'` of column `who` is not of type `Int64`; convert it"),
        (422, {"set": "cards", "row": ROW | {"who": 2**63}}, "value `9223372036854775808` of column `who` is out of its range"),
        (422, {"set": "cards", "row": ROW | {"paid": "1.234"}}, "of column `paid` is not of type `Decimal(12, 2)`"),
        (422, {"set": "cards", "row": ROW | {"paid": [1]}}, "value `[1]` of column `paid` is not of type `Decimal(12, 2)`; convert it"),
        (422, {"set": "cards", "row": ROW | {"paid": []}}, "value `[]` of column `paid` is not of type"),
        (422, {"set": "cards", "row": ROW | {"paid": {"a": 1}}}, "value `{'a': 1}` of column `paid` is not of type"),
        (422, {"set": "cards", "row": ROW | {"paid": [0, [1, 2, 5], -1]}}, "value `[0, [1, 2, 5], -1]` of column `paid` is not of type"),
        (422, {"set": "cards", "row": ROW | {"asked_at": [1]}}, "value `[1]` of column `asked_at` is not of type `Timestamp`"),
        (422, {"set": "cards", "row": ROW | {"shop": [1]}}, "value `[1]` of column `shop` is not of type `String`"),
        (422, {"set": "cards", "row": ROW | {"asked_at": "soon"}}, "value `'soon'` of column `asked_at` is not of type `Timestamp`"),
        (422, {"set": "cards", "rows": [ROW, ROW | {"who": True}]}, "row 1: value `True` of column `who`"),
        (422, {"set": "cards", "rows": []}, "no rows were given"),
        (422, {"set": "cards", "rows": [1]}, "give `row` as an object"),
        (422, {"set": "cards"}, "give either `row`, an object, or `rows`"),
        (422, {"set": "cards", "row": ROW, "rows": [ROW]}, "give either `row`"),
        (422, {"row": ROW}, "field `set` must name a set"),
        (422, {"set": "cards", "row": ROW, "features": "share"}, "field `features` must be a list of names"),
        (422, {"set": "cards", "row": ROW, "features": []}, "`features` is an empty list"),
        (422, {"set": "cards", "row": ROW, "rws": 1}, "field `rws` is unknown; did you mean `rows`?"),
        (422, {"set": "cards", "row": ROW, "at": "noon"}, "instant `noon` is neither epoch milliseconds nor ISO 8601"),
        (422, {"set": "cards", "row": ROW, "at": 1.5}, "instant `1.5` is neither"),
        (422, {"set": "cards", "row": ROW, "at": True}, "instant `True` is neither"),
        (422, {"set": "cards", "row": ROW, "at": 10**30}, "is neither"),
        (422, {"set": "cards", "row": ROW, "at": [AT, AT]}, "`at` has 2 instants for 1 rows"),
        (409, {"set": "cards", "row": ROW, "at": END - 1}, f"instant `{END - 1}` is before batch_end `{END}` of source `tx`; backfill instead"),
        (413, {"set": "cards", "rows": [ROW] * 501}, "`501` rows pass the 500 that are taken"),
        (400, b"{", "the body is no JSON"),
        (400, b"[]", "the body is no JSON object"),
        (400, b"", "the body is no JSON"),
        (400, b"\xff\xfe", "the body is no JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_says_why(server: Served, status: int, body: Any, message: str) -> None:
    assert message in server.refused(status, body)


def test_routes_methods_and_media_that_are_not_served(server: Served) -> None:
    for method, path, status in (("GET", "/v1/features", 404), ("POST", "/nowhere", 404), ("POST", "/healthz", 405)):
        found, body, _ = server.ask(method, path)
        assert (found, set(body)) == (status, {"error"})
    assert "content type `text/csv` is not taken" in server.refused(415, b"a,b", **{"content-type": "text/csv"})


def test_arrow_in_and_out(server: Served, store_path: Path) -> None:
    made, rng = PLANS["everything"], random.Random(5)  # noqa: S311
    pairs = [question(made, rng) for _ in range(300)]
    rows = [{name: None if isinstance(v, float) else v for name, v in row.items()} for row, _ in pairs]
    table = pa.Table.from_pylist(rows).append_column("t", pa.array([t for _, t in pairs]))
    sent = stream(table.to_batches())
    headers = {"content-type": ARROW, "accept": ARROW}
    status, body, found = server.ask("POST", "/v1/features?set=everything&at_column=t", sent, headers)
    assert (status, found["content-type"]) == (200, ARROW)
    with SqliteStore(store_path) as store:
        wanted = FeatureReader(made, store).read(rows, [t for _, t in pairs]).table()
    received = pa.ipc.open_stream(body).read_all()
    assert received.equals(wanted)
    assert b'"sources"' in received.schema.metadata[METADATA]
    query = "/v1/features?set=everything&at_column=tt"
    assert "column `tt` of at_column is not among the rows; did you mean `t`?" in server.refused(
        422, sent, query, **headers
    )
    assert "no Arrow IPC stream" in server.refused(400, b"\xff\xff\xff\xff\x10\x00\x00\x00garbage", query, **headers)
    assert "no Arrow IPC stream" in server.refused(400, sent[:2_000], query, **headers)
    assert "parameter `sets` is unknown" in server.refused(422, sent, "/v1/features?sets=a", **headers)


DAYS = pa.array([2**31 - 1], pa.date32())
ODD = [
    pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"1"]), pa.array([5], pa.timestamp("ms")), pa.array([5], pa.duration("s")),
    pa.array([5], pa.date32()), pa.array([True]), DAYS, pa.array([2**62], pa.duration("s")), pa.array([5], pa.time64("us")),
]  # fmt: skip
FAR = [pa.array([2**62], pa.timestamp("s")), DAYS, pa.array([5], pa.timestamp("ms", "Nowhere/Land"))]


def in_arrow(**changed: pa.Array) -> bytes:
    """Return a row of the set `cards`, some columns changed."""
    columns = {
        "who": pa.array([1]),
        "shop": pa.array(["a"]),
        "paid": pa.array([1]),
        "asked_at": pa.array([AT]),
        "t": pa.array([AT]),
    }
    return stream(pa.table(columns | changed).to_batches())


def test_columns_of_other_types_are_refused(server: Served) -> None:
    query, headers = "/v1/features?set=cards&at_column=t", {"content-type": ARROW}
    assert server.ask("POST", query, in_arrow(), headers)[0] == 200
    for name, arrays in (("paid", ODD), ("who", FAR), ("shop", FAR), ("asked_at", FAR)):
        for each in arrays:
            assert f"column `{name}` " in server.refused(422, in_arrow(**{name: each}), query, **headers)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("name", ["t", "who", "other"])
def test_a_column_that_is_there_twice_is_refused(server: Served, name: str) -> None:
    table = pa.ipc.open_stream(in_arrow(other=pa.array([1]))).read_all()
    twice = table.append_column(name, pa.array([AT]))
    query = "/v1/features?set=cards&at_column=t"
    message = server.refused(422, stream(twice.to_batches()), query, **{"content-type": ARROW})
    assert message == f"column `{name}` is there twice; send it once"


def test_what_is_old_is_flagged(server: Served) -> None:
    cut = END + DAY + 5_000
    fresh = server.read(set="cards", row={**ROW, "who": 4242, "shop": "nowhere"}, at=cut + 36 * HOUR)
    stale = server.read(set="cards", row={**ROW, "who": 4242, "shop": "nowhere"}, at=cut + 36 * HOUR + 1)
    assert fresh["flags"] == [{}]
    assert stale["flags"] == [{"card": ["stale"], "shop": ["stale"]}]


def test_newest_tiles_and_flags_of_the_head_are_told(server: Served, store_path: Path) -> None:
    flagged = 0
    with SqliteStore(store_path) as store:
        reader = FeatureReader(PLANS["cards"], store)
        for at in range(END + 60_000, END + 600_000, 30_000):
            for who in (1, 2, 3, -1):
                row = {"who": who, "shop": "a", "paid": 1, "asked_at": None}
                found = server.read(set="cards", row=row, at=at)
                reading = reader.read([row], at)
                ahead, behind = reading.knowledge["card"][0, 1:].tolist()
                wanted = ["ahead"] * ahead + ["behind"] * behind
                assert found["flags"][0].get("card", []) == wanted
                flagged += bool(wanted)
                there, start, sequence = reading.views["card"].newest[0].tolist()
                assert found["newest"][0]["card"] == ({"start": start, "sequence": sequence} if there else None)
                assert not there or start <= at
    assert flagged


def test_a_view_that_the_store_has_not_is_hidden_and_the_others_are_read(store_path: Path, tmp_path: Path) -> None:
    defs = tmp_path / "defs.py"
    text = Path(__file__).with_name("defs.py").read_text()
    text = text.replace('FeatureView("shop",', 'FeatureView("store_of_another_name",')
    text = text.replace(
        'feature("card.spent_1d")}',
        'feature("card.spent_1d"), "also": feature("store_of_another_name.n_1d").is_null()}',
    )
    defs.write_text(text)
    with serving(tmp_path, store_path, "--defs", str(defs), "--set", "cards") as served:
        found = served.read(row=ROW, at=AT)
        values = dict(zip(found["columns"], found["rows"][0], strict=True))
        assert found["flags"] == [{"store_of_another_name": ["hidden"]}]
        assert values["store_of_another_name.n_1d"] is None and values["also"] is None
        assert values["card.n_1d"] is not None
        status, ready, _ = served.ask("GET", "/readyz")
        assert (status, ready["hidden"]) == (200, {"cards": ["store_of_another_name"]})


def test_sets_are_listed_and_described(server: Served) -> None:
    _, found, _ = server.ask("GET", "/v1/sets")
    cards = next(each for each in found["sets"] if each["name"] == "cards")
    assert cards["fingerprint"] == PLANS["cards"].fingerprint
    assert {"name": "who", "type": "Int64"} in cards["keys"] and cards["sources"] == ["tx"]
    features = {each["name"]: each for each in cards["features"]}
    assert features["card.n_1h"]["description"] == "payments" and features["card.n_1h"]["window"] == "1h"
    assert features["card.shops_1d"]["type"] == "map<string, int64>" and features["share"]["view"] is None
    _, api, _ = server.ask("GET", "/openapi.json")
    assert set(api["paths"]) == {"/v1/features", "/v1/events/{source}", "/v1/sets", "/healthz", "/readyz", "/metrics"}
    example = api["paths"]["/v1/features"]["post"]["requestBody"]["content"]["application/json"]["examples"]["cards"][
        "value"
    ]
    assert server.ask("POST", "/v1/features", example)[0] == 200
    assert "Problems" in api["components"]["schemas"]
