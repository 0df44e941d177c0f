"""A real Redis: writers at once, zombies, crashes, and what is said when it does not answer."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count as numbers
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError, ResponseError
from typer.testing import CliRunner

from tests.erasure_world import GONE, MARK
from tests.erasure_world import PLAN as CARDS
from tests.erasure_world import rows as card_rows
from tests.online.stream_rows import stream_rows
from tests.online.test_store import DAY, HOUR, PLAN, read, row, uploaded
from tests.online.test_writers import EVENTS, parts, values
from tests.redis_process import Server, free_port, redis_server
from unskew.online.asked import entity_key
from unskew.online.erasure import StorePlace
from unskew.online.live.settings import Secret, StoreSettings, load_settings
from unskew.online.materialise import Materialiser
from unskew.online.read import FeatureReader
from unskew.online.store import Changed, ViewContent
from unskew.online.store_redis import ATTEMPTS, RedisStore
from unskew.online.stores import is_redis, open_store
from unskew.online.upload import load_upload
from unskew.pipelines.cli import app
from unskew.pipelines.erasure import subject
from unskew.pipelines.errors import InputError, StoreDown, StoreError
from unskew.pipelines.records import Layout

SHORT = 0.4  # seconds that a read waits for a Redis that is paused
Opened = Callable[..., RedisStore]


@pytest.fixture
def empty(redis: Server) -> Iterator[Opened]:
    """Return what opens one more store on the same, at first empty, database."""
    with redis.client() as client:
        client.flushall()
    made: list[RedisStore] = []

    def another(**more: Any) -> RedisStore:
        made.append(RedisStore(redis.url, **more))
        return made[-1]

    yield another
    for each in made:
        each.close()


def test_a_zombie_that_was_paused_loses_nothing(empty: Opened) -> None:
    batches = stream_rows(PLAN, "tx", EVENTS)
    zombie, other = (Materialiser(empty(), PLAN, "tx", "job", version_life=2**60) for _ in range(2))
    store: Any = zombie.store
    sound, calls = store.swapped, numbers()

    def paused(*given: Any) -> list[int]:
        if next(calls) == 0:  # between its read and its write everything happens
            other.apply(batches)
        found: list[int] = sound(*given)
        return found

    store.swapped = paused
    zombie.apply(parts(batches, 0, 50))
    assert next(calls) == 2  # refused as a whole, then merged anew
    found = values(empty())
    Materialiser(empty(), PLAN, "tx", "alone").apply(batches)
    assert found == values(empty())
    assert (other.applied.events, zombie.applied.events, empty().written("job").applied) == (
        len(EVENTS),
        0,
        len(EVENTS),
    )


def test_what_was_closed_meanwhile_is_not_counted_again(empty: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = stream_rows(PLAN, "tx", EVENTS)
    zombie, other = (Materialiser(empty(), PLAN, "tx", "job") for _ in range(2))
    other.apply(batches)
    store: Any = zombie.store
    sound, calls = store.versions, numbers()

    def paused(*given: Any) -> Any:
        if next(calls) == 0:  # an upload closes all tiles, and the other writer drops them
            store.flip(store.new_generation(), {"tx": (2 * DAY, DAY)}, 2 * DAY)
            other.apply(batches)
        return sound(*given)

    monkeypatch.setattr(store, "versions", paused)
    zombie.apply(batches)
    assert (zombie.applied.events, store.written("job").applied) == (0, len(EVENTS))
    assert store.written("job").overtaken == 2 * len(EVENTS)  # an account can no longer be exact, and says so


def test_a_write_whose_outcome_is_unknown_counts_once(empty: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = stream_rows(PLAN, "tx", [*EVENTS, *(row(n, 1_000, who=1) for n in range(300, 310))])
    writer = Materialiser(empty(), PLAN, "tx", "job")
    client: Any = writer.store.client  # type: ignore[attr-defined]
    sound, calls = client.run, numbers()

    def cut_off(*given: Any) -> Any:
        found = sound(*given)
        if next(calls) == 0:
            message = "the answer is lost"
            raise StoreDown(message)
        return found

    monkeypatch.setattr(client, "run", cut_off)
    writer.apply(batches)
    assert next(calls) == 2
    once = Materialiser(empty(), PLAN, "tx", "once")
    once.apply(batches)
    assert writer.applied == once.applied
    assert empty().written("job") == empty().written("once")


def test_only_what_another_changed_is_changed_again(empty: Opened) -> None:
    store, other = empty(), empty()
    keys = [b"%d" % n for n in range(600)]
    asked: list[list[int]] = []

    def change(places: Sequence[int], old: Sequence[bytes]) -> Changed:
        asked.append(list(places))
        if len(asked) == 1:
            other.update_open(
                "job", "v", [b"7", b"599"], lambda _, was: Changed([b"other" for _ in was], [0, 0], [1, 1], [0, 0])
            )
        return Changed([was + b"mine" for was in old], [1] * len(old), [2] * len(old), [3] * len(old))

    assert store.update_open("job", "v", keys, change) == (600, 1200, 1800)
    assert asked == [list(range(600)), [7, 599]]
    assert store.open_records("job", "v", [b"6", b"7"]) == [b"mine", b"othermine"]
    assert store.written("job") == store.written("job", "v") == (600, 1202, 1800)


def test_changing_for_ever_ends_with_an_error(empty: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = empty(), empty()
    monkeypatch.setattr("unskew.online.store_redis.time.sleep", lambda _: None)

    def change(places: Sequence[int], old: Sequence[bytes]) -> Changed:
        other.update_open("job", "v", [b"1"], lambda *_: Changed([b"other"], [0], [0], [0]))
        return Changed([*old], [0] * len(places), [0] * len(places), [0] * len(places))

    with pytest.raises(StoreError, match=f"changed by others {ATTEMPTS} times in a row"):
        store.update_open("job", "v", [b"1"], change)


def test_an_erased_record_is_not_written_back(empty: Opened) -> None:
    store, other = empty(), empty()
    layout = ViewContent(Layout(()))
    store.put_content("open", "job", "v", layout)
    store.update_open("job", "v", [b"1"], lambda *_: Changed([b"old"], [0], [0], [0]))

    def change(_: Sequence[int], old: Sequence[bytes]) -> Changed:
        if old == [b"old"]:
            other.erase({"v": [b"1"]})
        return Changed([old[0] + b"new"], [0], [0], [0])

    store.update_open("job", "v", [b"1"], change)
    assert store.open_records("job", "v", [b"1"]) == [b"new"]


def test_a_killed_redis_comes_back_with_all_that_it_answered(tmp_path: Path) -> None:
    batches = stream_rows(PLAN, "tx", EVENTS)
    with redis_server(tmp_path, "--appendonly", "yes") as server, RedisStore(server.url, timeout=SHORT) as store:
        writer = Materialiser(store, PLAN, "tx", "job")
        writer.apply(parts(batches, 0, 200))
        before = values(store)
        server.end()  # kill -9
        with pytest.raises(StoreDown, match=r"cannot be reached; check the address"):
            values(store)
        with pytest.raises(StoreDown, match="cannot be reached"):
            writer.apply(parts(batches, 200, 240))
        server.start()
        assert values(store) == before
        writer.apply(parts(batches, 190, 240))  # some come again
        assert store.written("job").applied == len(EVENTS)
        server.end()
        server.start()
        assert store.jobs() == {}  # idle connections are made anew
        assert len(values(store)) == 9


def test_a_paused_redis_keeps_nobody(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, RedisStore(server.url, timeout=SHORT, write_timeout=SHORT) as store:
        Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", EVENTS))
        reader = FeatureReader(PLAN, store)
        expected = reader.read([{"who": 1}], 5 * HOUR).row()
        server.send(signal.SIGSTOP)
        for asked in (
            lambda: reader.read([{"who": 1}], 5 * HOUR),
            lambda: store.pointer("tx"),
            lambda: RedisStore(server.url, timeout=SHORT),
        ):
            began = time.monotonic()
            with pytest.raises(StoreDown, match="does not answer in time"):
                asked()
            assert time.monotonic() - began < 5 * SHORT
        with pytest.raises(StoreDown, match="does not answer in time"):
            Materialiser(store, PLAN, "tx", "other")
        server.send(signal.SIGCONT)
        assert reader.read([{"who": 1}], 5 * HOUR).row() == expected


def test_a_password_is_needed_and_not_shown(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "right") as server:
        refusals: tuple[dict[str, Any], ...] = ({}, {"password": "wrong"}, {"username": "nobody", "password": "wrong"})
        for given in refusals:
            with pytest.raises(StoreError, match="refuses the user or the password") as refused:
                RedisStore(server.url, **given)
            assert not isinstance(refused.value, StoreDown)
            assert "wrong" not in str(refused.value)
        settings = StoreSettings(url=server.url, password=Secret("right"))
        with open_store(settings) as store:
            assert store.pointer("tx") is None
        with RedisStore(server.url.replace("//", "//:right@")) as store:
            assert store.address == server.url
            assert store.pointer("tx") is None


def test_commands_take_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "defs.py").write_text("from tests.online.test_store import cards\nSET = cards()\n")
    folder = uploaded(tmp_path / "up")
    ask = ["get", "--defs", str(tmp_path / "defs.py"), "--at", str(10 * DAY), "who=1", "--json"]
    with redis_server(tmp_path, "--requirepass", "right") as server:
        with pytest.raises(StoreError, match="refuses the user or the password"):
            CliRunner().invoke(app, [*ask, "--store", server.url], catch_exceptions=False)
        monkeypatch.setenv("UNSKEW_STORE_PASSWORD", "right")
        with pytest.raises(StoreError, match="holds nothing of source `tx`; run `unskew upload`"):
            CliRunner().invoke(app, [*ask, "--store", server.url], catch_exceptions=False)
        with RedisStore(server.url, password="right") as store:  # noqa: S106 - of this server
            load_upload(store, PLAN, folder, 11 * DAY)
            expected = read(store, 10 * DAY, 1)
        done = CliRunner().invoke(app, [*ask, "--store", server.url], catch_exceptions=False)
    assert json.loads(done.stdout)["rows"] == [expected]


def test_no_room_and_no_writes_are_told(tmp_path: Path, redis: Server) -> None:
    with redis_server(tmp_path, "--maxmemory", "1") as server, RedisStore(server.url) as store:
        with pytest.raises(StoreDown, match="is out of memory"):
            store.put_closed(1, "v", ((b"%d" % n, bytes(5_000)) for n in range(1_000)))
        with pytest.raises(StoreDown, match="is out of memory"):
            store.update_open("job", "v", [b"1"], lambda *_: Changed([bytes(100)], [0], [0], [0]))
        assert store.open_records("job", "v", [b"1"]) == [b""]
    with redis_server(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        with pytest.raises(
            StoreError, match=r"may evict records \(`allkeys-lru`\); set its maxmemory-policy to noeviction"
        ):
            RedisStore(server.url)
    with redis_server(tmp_path, "--replicaof", f"127.0.0.1 {redis.port}") as server, RedisStore(server.url) as store:
        for write in (
            lambda: store.put_job("job", {}),
            lambda: store.update_open("job", "v", [b"1"], lambda *_: Changed([b""], [0], [0], [0])),
        ):
            with pytest.raises(StoreError, match="is a read-only replica; name the primary"):
                write()


def test_other_answers_are_told_in_one_line(empty: Opened) -> None:
    store = empty()
    store.client.writes.set("unskew:jobs", "text")
    with pytest.raises(
        StoreError, match=r"^store `redis://127\.0\.0\.1:\d+/0` failed: `WRONGTYPE .*`; look at the server's log$"
    ):
        store.jobs()
    store.client.writes.set("unskew:pointer", "text")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.read({"v": ("v", "s")}, {"v": [b"1"]})
    for error in (BusyLoadingError(""), ResponseError("BUSY Redis is busy running a script")):
        assert isinstance(store.client.error(error), StoreDown)
    with pytest.raises(StoreDown, match="cannot be reached"):
        RedisStore(f"redis://127.0.0.1:{free_port()}")
    store.client.writes.set("unskew:format", "99")
    with pytest.raises(StoreError, match="has format `99`, not `1`"):
        empty()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host", "store `http://` is unknown; give redis://HOST:PORT/0"),
        ("redis://:secret@host/one", r"store `redis://\*\*\*` is no address; give redis://HOST:PORT/0, no more"),
        ("redis://user:secret", "is no address"),
        ("redis://host/0?password=secret", "is no address"),
        (
            "redis:/:secret@host",
            r"store `\*\*\*` looks like a URL of Redis and is none; give redis://HOST:PORT/0, or ./",
        ),
        ("redis:/:secret", "looks like a URL of Redis"),
        ("Redis//secret@host/0", "looks like a URL of Redis"),
        ("rdis:/:secret@host/0", "looks like a URL of Redis"),
        ("http://:secret@host", "looks like a URL of Redis"),
        ("redis://host:port/0", "is no address"),
        ("rediss://host/0?ssl_cert_reqs=none", "is no address"),
        ("redis:///0", "is no address"),
    ],
)
def test_bad_urls_are_refused_and_not_shown(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        open_store(StoreSettings(url=url))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("text", ["store = 'redis://:secret@host'", "[store]\nurl = ['redis://:secret@host']"])
def test_settings_of_another_form_are_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    (tmp_path / "unskew.toml").write_text(text)
    with pytest.raises(InputError, match="store") as refused:
        load_settings(tmp_path / "unskew.toml", {})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("path", ["./redis.sqlite", "/a:b@c/store.sqlite", "a@b/store.sqlite", "c:/store.sqlite"])
def test_paths_of_files_are_no_urls(path: str) -> None:
    assert not is_redis(path)


DAMAGE: dict[str, Callable[[Any], object]] = {
    "a closed record": lambda client: client.hset("unskew:closed:1:card", entity_key([1]), bytes(100)),
    "a closed record cut off": lambda client: client.hset("unskew:closed:1:card", entity_key([1]), b"x"),
    "an open record": lambda client: client.hset("unskew:open:job:card", entity_key([1]), bytes(100)),
    "an open record cut off": lambda client: client.hset("unskew:open:job:card", entity_key([1]), b"too short"),
    "a layout": lambda client: client.hset("unskew:content", "closed:1:card", '["[1", "{}"]'),
    "a pointer": lambda client: client.hset("unskew:pointer", "end:tx", "abc"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_store_is_an_error_of_one_line(what: str, empty: Opened, tmp_path: Path) -> None:
    store = empty()
    load_upload(store, PLAN, uploaded(tmp_path / "up"), 11 * DAY)
    Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", [row(1000, 9 * DAY + HOUR, who=1)]))
    assert read(store, 9 * DAY + HOUR + 1, 1)["card.n_2h"] > 0
    DAMAGE[what](store.client.writes)
    with pytest.raises(StoreError, match="build it anew"):
        read(store, 9 * DAY + HOUR + 1, 1)


def test_erasure_leaves_nothing_in_the_files(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--save", "3600 1")
    with redis_server(tmp_path, *options) as server, RedisStore(server.url) as store:
        for epoch in ("one", "two"):
            Materialiser(store, CARDS, "tx", epoch).apply(stream_rows(CARDS, "tx", card_rows()))
        store.client.writes.save()
        assert files_with_mark(tmp_path)
        place = StorePlace(subject(CARDS, {"card": GONE}), store)
        assert sum(place.find().values()) > 0
        place.erase()
        assert set(place.find().values()) == {0}
        assert files_with_mark(tmp_path) == []
        store.client.writes.config_set("save", "")
        place.erase()


def files_with_mark(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file() and MARK.encode() in each.read_bytes()]


def test_over_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(
            [*made, "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no certificate can be made: {error}")
    port = free_port()
    options = (
        "--tls-port",
        str(port),
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-auth-clients",
        "no",
    )
    with redis_server(tmp_path, *options):
        url = f"rediss://127.0.0.1:{port}/0"
        with pytest.raises(StoreDown, match="cannot be reached"):  # signed by nobody known
            RedisStore(url)
        with open_store(StoreSettings(url=url, ssl_cafile=str(certificate))) as store:
            Materialiser(store, PLAN, "tx", "job").apply(stream_rows(PLAN, "tx", EVENTS))
            assert read(store, 5 * HOUR, 1)["card.n_2h"] > 0
        with pytest.raises(StoreDown, match="cannot be reached"):  # another name than the certificate's
            open_store(StoreSettings(url=url.replace("127.0.0.1", "localhost"), ssl_cafile=str(certificate)))
