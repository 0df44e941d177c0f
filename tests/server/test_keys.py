"""API keys: who may ask, for what, how often; keys are nowhere to be seen."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.processes import ROOT, Served, serving
from tests.server.test_features import AT, ROW
from unskew.online.live.settings import KeySettings, load_settings
from unskew.online.server.client import Client
from unskew.online.server.keys import Bucket, KeyRing, hash_of, new_key
from unskew.online.server.refusal import Refusal
from unskew.pipelines.errors import InputError

KEYS = {name: new_key() for name in ("cards", "all", "slow", "events")}
QUESTION = {"set": "cards", "row": ROW, "at": AT}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name][0]}"}


@pytest.fixture(scope="module")
def guarded(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    rights = {
        "cards": "sets = ['cards']",
        "all": "sets = ['*']",
        "slow": "sets = ['*']\nrate = 2",
        "events": "events = ['tx']",
    }
    settings = "".join(
        f"[[server.keys]]\nname = '{name}'\nsha256 = '{KEYS[name][1]}'\n{text}\n" for name, text in rights.items()
    )
    with serving(tmp_path_factory.mktemp("keys"), store_path, settings=settings) as found:
        yield found


def test_a_key_opens_its_sets(guarded: Served) -> None:
    assert guarded.ask("POST", "/v1/features", QUESTION, bearer("cards"))[0] == 200
    assert guarded.ask("POST", "/v1/features", QUESTION, bearer("all"))[0] == 200
    assert "key `cards` is not for set `everything`" in guarded.refused(
        403, QUESTION | {"set": "everything"}, **bearer("cards")
    )
    assert "is not for set `none`" in guarded.refused(
        403, QUESTION | {"set": "none"}, **bearer("cards")
    )  # no hint of others
    assert "is not for set `cards`" in guarded.refused(403, QUESTION, **bearer("events"))
    assert "is not for events `tx`" in guarded.refused(403, {}, "/v1/events/tx", **bearer("all"))
    names = [each["name"] for each in guarded.ask("GET", "/v1/sets", headers=bearer("cards"))[1]["sets"]]
    assert names == ["cards"]


@pytest.mark.parametrize(
    "value",
    ["", "Bearer ", "Bearer x", "Basic x", KEYS["all"][0], f"Bearer {KEYS['all'][1]}", "Bearer \xff"],
    ids=["nothing", "no key", "wrong key", "other scheme", "no scheme", "hash of a key", "no text"],
)
def test_without_a_known_key_nothing_opens(guarded: Served, value: str) -> None:
    for method, path in (("POST", "/v1/features"), ("POST", "/v1/events/tx"), ("GET", "/v1/sets")):
        status, body, headers = guarded.ask(
            method, path, QUESTION if method == "POST" else None, {"authorization": value}
        )
        assert (status, body["error"]["code"], headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
        if len(value) > 10:
            assert value.rsplit(maxsplit=1)[-1] not in body["error"]["message"]


def test_probes_need_no_key(guarded: Served) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert guarded.ask("GET", path)[0] == 200


def test_a_rate_is_kept(guarded: Served) -> None:
    replies = [guarded.ask("POST", "/v1/features", QUESTION, bearer("slow")) for _ in range(6)]
    statuses = [each[0] for each in replies]
    assert statuses[:2] == [200, 200] and 429 in statuses
    _, body, headers = next(each for each in replies if each[0] == 429)
    assert body["error"]["code"] == "too_many_requests" and headers["retry-after"] == "1"
    with Client(guarded.url, "cards", key=KEYS["slow"][0]) as client:  # waits as it is told
        assert all(client.read([ROW], AT).row() for _ in range(3))


def test_the_client_says_what_a_wrong_key_is(guarded: Served) -> None:
    with Client(guarded.url, "cards", key="wrong") as client, pytest.raises(InputError, match="no known key was given"):
        client.read([ROW], AT)


def test_keys_are_in_no_log(guarded: Served) -> None:
    for key, digest in KEYS.values():
        assert key not in guarded.log.read_text() and digest not in guarded.log.read_text()


@pytest.mark.parametrize(("given", "rate"), [("'2'", 2), ("2", 2), ("0", 0), ("'0'", 0)])
def test_a_rate_may_be_a_text_and_0_is_no_limit(given: str, rate: int, tmp_path: Path) -> None:
    (key,) = load_settings(written(tmp_path, given), {}).server.keys
    assert (key.rate, type(key.rate)) == (rate, int)
    caller = KeyRing([key], local=False).caller({b"authorization": f"Bearer {KEYS['all'][0]}".encode()})
    for _ in range(rate or 1_000):
        caller.admit()
    if rate:
        with pytest.raises(Refusal, match="passes its rate"):
            caller.admit()


@pytest.mark.parametrize(
    ("given", "shown"), [("-1", "-1"), ("'two'", "two"), ("1.5", "1.5"), ("true", "True"), ("''", "")]
)
def test_what_is_no_rate_is_refused(given: str, shown: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_settings(written(tmp_path, given), {})
    assert str(refused.value) == f"setting `server.keys.rate` is `{shown}`; give a whole number from 0 on"


def written(folder: Path, rate: str) -> Path:
    """Write settings with a key of that rate."""
    path = folder / "unskew.toml"
    path.write_text(f"[[server.keys]]\nname = 'a'\nsha256 = '{KEYS['all'][1]}'\nrate = {rate}\n")
    return path


def test_a_bucket_holds_one_second() -> None:
    bucket = Bucket(2)
    assert [bucket.take(10.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert [bucket.take(10.5), bucket.take(10.5)] == [0.0, 0.5]
    assert [bucket.take(99.0) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_a_server_without_keys_knows_its_own_names_only() -> None:
    local, anyone = KeyRing([], local=True), KeyRing([], local=False)
    for host in (b"127.0.0.1:8080", b"localhost", b"[::1]:8080"):
        assert local.caller({b"host": host}) is local.anyone
    for host in (b"evil.example", b"127.0.0.1.evil.example:80", b"", b"[::2]"):
        with pytest.raises(Refusal):
            local.caller({b"host": host})
        assert anyone.caller({b"host": host}) is anyone.anyone
    keyed = KeyRing([KeySettings("a", hash_of(b"key"), ("*",))], local=True)
    assert keyed.caller({b"host": b"x", b"origin": b"y", b"authorization": b"bearer key"}).may("set", "any")


def test_keygen_prints_what_the_settings_take() -> None:
    words = [
        sys.executable,
        "-m",
        "unskew.pipelines.cli",
        "keygen",
        "--name",
        'a "b"',
        "--set",
        "cards",
        "--events",
        "tx",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    first, _, rest = done.stdout.partition("\n")
    key = re.fullmatch(r"key, shown this once: (unskew_[\w-]{43})", first)
    assert key is not None
    (found,) = tomllib.loads(rest)["server"]["keys"]
    assert found == {"name": 'a "b"', "sha256": hash_of(key[1].encode()), "sets": ["cards"], "events": ["tx"]}
