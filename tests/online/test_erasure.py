"""Erasure online, and over the whole path: archive, upload, store and one run of Flink."""

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.erasure_world import (
    CARDS,
    DAY,
    END,
    GONE,
    HOUR,
    MARK,
    PLAN,
    archive,
    contents,
    holding,
    lines,
    packed,
    rows,
)
from tests.online.stream_rows import stream_rows
from unskew.backfill.upload import upload
from unskew.online.account import take_account
from unskew.online.changelog import read_changelog
from unskew.online.erase_output import OutputPlace
from unskew.online.erasure import StorePlace
from unskew.online.materialise import Materialiser, materialise
from unskew.online.read import FeatureReader
from unskew.online.store import Store
from unskew.online.store_sqlite import SqliteStore
from unskew.online.stream import run_id, run_stream
from unskew.online.upload import load_upload
from unskew.pipelines.backends.flink import compile_source
from unskew.pipelines.cli import app
from unskew.pipelines.erasure import subject
from unskew.pipelines.errors import InputError, StoreError
from unskew.pipelines.raw_lines import is_of

CUT = END + DAY
DEFS = "from tests.erasure_world import SET\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that holds the card: archive, upload, store, stream."""
    folder = tmp_path_factory.mktemp("made")
    archive(folder / "archive", rows())
    upload(PLAN, folder / "archive", output=folder / "upload", cut=CUT)
    (folder / "in").mkdir()
    log = lines(rows())
    (folder / "in" / "log.jsonl").write_text("\n".join(log) + "\n", encoding="utf-8")
    run_stream(PLAN, "tx", folder / "in", folder / "stream", since=END)
    fill(folder, folder / "store.sqlite")
    (folder / "defs.py").write_text(DEFS)
    return folder


def fill(folder: Path, store: Path) -> None:
    """Load everything twice: a store keeps generations and epochs."""
    with SqliteStore(store) as opened:
        load_upload(opened, PLAN, folder / "upload", CUT)
        load_upload(opened, PLAN, folder / "upload", CUT + 1)
        materialise(opened, PLAN, "tx", folder / "stream", "another")
        materialise(opened, PLAN, "tx", folder / "stream", run_id(folder / "stream"))


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "world"))


def command(world: Path, *more: str, key: str = f"card={GONE}") -> list[str]:
    return [
        "erase", "--defs", str(world / "defs.py"), "--key", key, "--events", str(world / "archive"),
        "--upload", str(world / "upload"), "--stream", str(world / "stream"), "--store", str(world / "store.sqlite"), *more,
    ]  # fmt: skip


def read(store: Path, cards: tuple[str, ...], at: int) -> list[dict[str, Any]]:
    with SqliteStore(store) as opened:
        asked = [{"card": card, "payee": "a", "shop": shop} for card in cards for shop in range(3)]
        found: list[dict[str, Any]] = FeatureReader(PLAN, opened).read(asked, at).table().to_pylist()
        return found


INSTANTS = (END, END + HOUR, 11 * DAY)


def test_the_whole_path(world: Path) -> None:
    """Everything of the card goes; every other card's values stay, and all that is made anew is as if it never was."""
    store = world / "store.sqlite"
    before = {at: read(store, CARDS[1:], at) for at in INSTANTS}
    nobody = {at: read(store, ("nobody",), at) for at in INSTANTS}
    assert read(store, (GONE,), 11 * DAY) != nobody[11 * DAY]
    job = compile_source(PLAN, "tx", world / "in", world / "stream", since=END)
    account = take_account(job, world / "stream", lines=405)
    done = CliRunner().invoke(app, command(world, "--json"), catch_exceptions=False)
    found = json.loads(done.stdout)
    counts = {name.split()[0]: held for name, held in found["erased"].items()}
    assert counts["archive"] == {"rows": 100}
    assert counts["upload"] == {"records of card": 1, "records of pair": 3}
    assert counts["store"]["closed records of card"] == counts["store"]["open records of card"] == 2
    assert counts["store"]["closed records of pair"] == 6
    assert counts["stream"]["lines of quarantine"] == 3
    assert counts["stream"]["lines of late"] == 4
    assert counts["stream"]["rows of card__tiles"] == counts["stream"]["rows of pair__tiles"] > 0
    assert not [*holding(world / "archive"), *holding(world / "upload")]
    assert {each.split("/")[0] for each in holding(world / "stream")} <= {"_checkpoints"}
    named = any(each.startswith(f"checkpoints in {world / 'stream'}") for each in found["not_erased"])
    assert named or not holding(world / "stream")  # a job that has ended may have left one
    assert not [each for each in world.glob("store*") if MARK.encode() in each.read_bytes()]
    for at in INSTANTS:
        assert read(store, CARDS[1:], at) == before[at]
        assert read(store, (GONE,), at) == nobody[at]
    left = read_changelog(world / "stream", next(each for each in job.streams if each.name == "quarantine"))
    assert [b"5001" in each or b'"y"' in each for each in left["raw"].to_pylist()] == [True, True]
    erased = take_account(job, world / "stream", lines=405)
    assert erased.reasons.pop("erased") == 3
    assert replace(erased, reasons={}) == replace(account, reasons={})
    fill(world, world / "anew.sqlite")
    assert all(read(world / "anew.sqlite", CARDS[1:], at) == before[at] for at in INSTANTS)
    assert all(read(world / "anew.sqlite", (GONE,), at) == nobody[at] for at in INSTANTS)
    upload(PLAN, world / "archive", output=world / "again", cut=CUT)
    upload(PLAN, archive(world / "unseen", rows(CARDS[1:])), output=world / "never", cut=CUT)
    assert packed(world / "again") == packed(world / "never")
    again = CliRunner().invoke(app, command(world), catch_exceptions=False)
    assert again.stdout.startswith(f"card={GONE}: nothing was found, nothing was erased\n")


def test_a_dry_run_changes_nothing(world: Path) -> None:
    before = contents(world)
    done = CliRunner().invoke(app, command(world, "--dry-run"), catch_exceptions=False)
    assert "card=" in done.stdout
    assert "would be erased" in done.stdout
    assert "100 rows" in done.stdout
    assert "tiles of view `shop`, of other entities" in done.stdout
    assert {name for name, data in before.items() if contents(world).get(name) != data} == set()


def test_a_checkpoint_that_was_cut_off_is_named_too(world: Path) -> None:
    shutil.rmtree(world / "stream" / "_checkpoints", ignore_errors=True)
    cut_off = world / "stream" / "_checkpoints" / "job" / "chk-2"
    cut_off.mkdir(parents=True)
    (cut_off / "state").write_bytes(b"state")
    done = CliRunner().invoke(app, command(world, "--dry-run", "--json"), catch_exceptions=False)
    assert any(each.startswith(f"checkpoints in {world / 'stream'}") for each in json.loads(done.stdout)["not_erased"])


def test_mistakes_are_one_line_and_change_nothing(world: Path) -> None:
    before = contents(world)
    cases = {
        "key column `crd` is of no view": command(world, key="crd=1"),
        "is not of type `Int64`": command(world, key="shop=x"),
        "is no COLUMN=VALUE": command(world, key="card"),
        "is given twice": command(world, "--key", "card=x"),
        "no-upload` is no upload": command(world, "--upload", str(world / "no-upload")),
        "no-stream` is no stream's output": command(world, "--stream", str(world / "no-stream")),
        "no-set` does not exist": command(world, "--training-set", str(world / "no-set")),
        "nothing was given to erase from": command(world)[:5],
        "no.sqlite` does not exist": [*command(world)[:-1], str(world / "no.sqlite")],
        "no-archive` does not exist": [*command(world)[:6], str(world / "no-archive"), *command(world)[7:]],
    }
    for message, arguments in cases.items():
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert contents(world) == before


def test_a_composite_key_leaves_the_card(world: Path) -> None:
    who = subject(PLAN, {"shop": 1, "card": GONE})
    (before,) = {row["card.n_lifetime"] for row in read(world / "store.sqlite", (GONE,), 11 * DAY)}
    with SqliteStore(world / "store.sqlite") as store:
        place = StorePlace(who, store)
        assert place.find() == {"closed records of pair": 2, "open records of pair": 2}
        place.erase()
        assert place.find() == {"closed records of pair": 0, "open records of pair": 0}
    found = read(world / "store.sqlite", (GONE,), 11 * DAY)
    assert [row["card.n_lifetime"] for row in found] == [before] * 3
    assert [row["pair.n_7d"] > 0 for row in found] == [True, False, True]
    output = OutputPlace(who, world / "stream")
    held = output.find()
    assert held["rows of pair__tiles"] > 0
    assert "rows of card__tiles" not in held


def test_records_of_every_job_go_by_a_part_of_their_key(fresh_store: Callable[[], Store]) -> None:
    with fresh_store() as store:
        for epoch in ("one", "two"):
            Materialiser(store, PLAN, "tx", epoch).apply(stream_rows(PLAN, "tx", rows()))
        nothing = {"closed records of card": 0, "closed records of pair": 0}
        place = StorePlace(subject(PLAN, {"card": GONE}), store)
        assert place.find() == nothing | {"open records of card": 2, "open records of pair": 2 * 3}
        place.erase()
        assert place.find() == nothing | {"open records of card": 0, "open records of pair": 0}
        others = [StorePlace(subject(PLAN, {"card": each}), store).find()["open records of card"] for each in CARDS[1:]]
        assert others == [2] * len(others)


def test_what_a_job_carries_is_named(world: Path) -> None:
    stream = world / "stream"
    (stream / "_checkpoints" / "chk-1").mkdir(parents=True)
    (stream / "_checkpoints" / "chk-1" / "_metadata").write_text("x")
    (stream / "card__tiles" / ".part-x.inprogress.1").write_text("x")
    (stream / "_input").mkdir(exist_ok=True)
    checkpoints, unfinished, copy = OutputPlace(subject(PLAN, {"card": GONE}), stream).remains()
    assert "drops its state of a tile 8.0 days after the tile's last event" in checkpoints
    assert "1 unfinished part(s)" in unfinished
    assert "the copy of the log" in copy
    (stream / "other__tiles").mkdir()
    with pytest.raises(InputError, match="holds `other__tiles`, which set `world` has not"):
        OutputPlace(subject(PLAN, {"card": GONE}), stream).find()


@pytest.mark.parametrize(
    ("line", "mine"),
    [
        ('{"card": "k"}', True),
        ('{"card": "kk", "note": "k"}', False),
        ('{"card": null, "card_no": "k"}', True),
        ('{"payload": {"card": "k"}}', True),
        ('{"payload": [{"card": "k"}]}', True),
        ('{"payload": [{"card": "k"}, 1]}', True),  # what is inside an array is not read, but the text is there
        ('{"card": "x", "card_no": "k"}', False),
        ('{"card": "x", "card": "k"}', True),
        ('{"card": ["k"]}', True),  # no string, but the text is there
        ('{"card": "k"', True),
        ('{"card": "kk"', False),
        ('["k"]', True),
        ('{"card": NaN, "x": "k"}', True),
        ("", False),
    ],
)
def test_whose_a_line_is(line: str, mine: bool) -> None:
    encoded = base64.b64encode(line.encode()).decode()
    assert is_of(encoded, PLAN.source("tx"), subject(PLAN, {"card": "k"})) == mine


@pytest.mark.parametrize(
    ("value", "mine"),
    [("42", True), ('"42"', True), ("42e0", True), ("42.0", True), ("4.2", False), ("142", False), ("true", False), ('"042"', False)],
)  # fmt: skip
def test_whose_a_number_is(value: str, mine: bool) -> None:
    """42.0 is no integer, so its line is quarantined; it is hers all the same."""
    encoded = base64.b64encode(f'{{"shop": {value}}}'.encode()).decode()
    assert is_of(encoded, PLAN.source("tx"), subject(PLAN, {"shop": 42})) == mine


def replaced_often(path: Path) -> SqliteStore:
    """Return a store whose records were written again and again, and dropped."""
    store = SqliteStore(path)
    for epoch in ("one", "two"):
        writer = Materialiser(store, PLAN, "tx", epoch)
        found = rows()
        for start in range(0, 400, 40):
            writer.apply(stream_rows(PLAN, "tx", found[: start + 40]))
    return store


def test_the_file_keeps_no_earlier_copy(tmp_path: Path) -> None:
    with replaced_often(tmp_path / "store") as store:
        assert any(MARK.encode() in each.read_bytes() for each in tmp_path.iterdir())
        StorePlace(subject(PLAN, {"card": GONE}), store).erase()
        assert not any(MARK.encode() in each.read_bytes() for each in tmp_path.iterdir())


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    replaced_often(tmp_path / "store").close()
    connection = sqlite3.connect(tmp_path / "store", isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM open").fetchone()
    yield connection
    connection.close()


def test_a_reader_that_holds_on_is_named_and_a_rerun_completes(reader: sqlite3.Connection, tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "store") as store:
        store.connection.execute("PRAGMA busy_timeout = 100")
        place = StorePlace(subject(PLAN, {"card": GONE}), store)
        with pytest.raises(StoreError, match="is being read: the records are deleted, but its log still holds them"):
            place.erase()
        assert set(place.find().values()) == {0}
        reader.execute("COMMIT")
        place.erase()
        assert not any(MARK.encode() in each.read_bytes() for each in tmp_path.iterdir())
