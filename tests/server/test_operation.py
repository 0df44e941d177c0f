"""Starting, stores that come and go, draining, what the command says."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_process import Server, redis_server
from tests.server.processes import ROOT, Served, command, serving
from tests.server.test_features import AT, ROW
from tests.server.world import PLANS, fill
from unskew.online.store_redis import RedisStore
from unskew.online.store_sqlite import SqliteStore

QUESTION = {"set": "cards", "row": ROW, "at": AT}


def answered(served: Served, status: int, path: str = "/readyz", seconds: float = 30) -> bool:
    """Wait until a probe has a status."""
    until = time.monotonic() + seconds
    while served.ask("GET", path)[0] != status:
        assert time.monotonic() < until, served.ask("GET", path)
        time.sleep(0.05)
    return True


def test_probes_and_metrics(server: Served) -> None:
    assert server.ask("GET", "/healthz")[:2] == (200, {"status": "ok"})
    assert server.ask("GET", "/readyz")[:2] == (
        200,
        {"status": "ready", "sets": dict.fromkeys(PLANS, "ready"), "hidden": {}},
    )
    server.read(**QUESTION)
    server.refused(404, {"set": "none", "row": ROW})
    _, text, _ = server.ask("GET", "/metrics")
    for series in (
        b'unskew_requests_total{route="/v1/features",status="200"} ', b'unskew_requests_total{route="/v1/features",status="404"} ',
        b'unskew_read_seconds_bucket{le="0.001",set="cards"} ', b'unskew_store_seconds_count{op="read"} ', b'unskew_rows_total{set="cards"} ',
        b"unskew_waiting_rows 0.0",
    ):  # fmt: skip
        assert series in text


def test_sigterm_drains_finishes_and_exits_with_0(store_path: Path, tmp_path: Path) -> None:
    with serving(tmp_path, store_path, "--set", "cards") as served:
        statuses, stop = [], threading.Event()

        def ask() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", served.port)
            while not stop.is_set():
                try:
                    connection.request(
                        "POST", "/v1/features", json.dumps(QUESTION), {"content-type": "application/json"}
                    )
                    reply = connection.getresponse()
                    reply.read()
                    statuses.append(reply.status)
                except ConnectionError:  # it takes no new connections: it has left
                    return

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for each in askers:
            each.start()
        time.sleep(0.5)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert served.ask("GET", "/readyz")[:2] == (503, {"status": "draining", "sets": {}, "hidden": {}})
        assert served.process.wait(20) == 0
        stop.set()
        for each in askers:
            each.join(20)
    assert len(statuses) > 20 and set(statuses) == {200}


def test_a_second_signal_cuts_the_drain_short(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / "unskew.toml").write_text("[server]\ndrain = '60s'\n")
    with serving(tmp_path, store_path, "--set", "cards", "--settings", str(tmp_path / "unskew.toml")) as served:
        served.process.send_signal(signal.SIGINT)
        assert answered(served, 503)
        began = time.monotonic()
        assert served.end(signal.SIGINT) == 0
        assert time.monotonic() - began < 20


@pytest.fixture(scope="module")
def redis_store(uploads: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis-of-server"), "--appendonly", "yes") as server:
        with RedisStore(server.url) as store:
            fill(store, uploads, ["cards"])
        yield server


def test_a_store_that_stops_answering_leaves_the_process_healthy(redis_store: Server, tmp_path: Path) -> None:
    settings = "timeout = '700ms'\nmax_waiting = 20\n"
    with serving(tmp_path, redis_store.url, "--set", "cards", settings=settings) as served:
        before = served.read(**QUESTION)
        redis_store.send(signal.SIGSTOP)
        try:
            found: list[tuple[int, str, str, float]] = []

            def ask() -> None:
                began = time.monotonic()
                status, body, headers = served.ask("POST", "/v1/features", QUESTION)
                found.append((status, body["error"]["code"], headers["retry-after"], time.monotonic() - began))

            askers = [threading.Thread(target=ask) for _ in range(40)]
            for each in askers:
                each.start()
            began = time.monotonic()
            assert served.ask("GET", "/healthz")[0] == 200
            assert time.monotonic() - began < 2
            assert served.ask("GET", "/readyz")[0] == 503
            for each in askers:
                each.join(20)
        finally:
            redis_store.send(signal.SIGCONT)
        assert {status for status, *_ in found} == {503} and len(found) == 40
        assert {code for _, code, *_ in found} >= {"overloaded", "store_timeout"}
        assert {after for _, _, after, _ in found} == {"1"}
        assert max(seconds for *_, seconds in found) < 5
        assert answered(served, 200)
        assert served.read(**QUESTION) == before


def test_a_store_that_is_down_is_503_until_it_is_back(redis_store: Server, tmp_path: Path) -> None:
    with serving(tmp_path, redis_store.url, "--set", "cards") as served:
        before = served.read(**QUESTION)
        redis_store.end()
        try:
            assert "cannot be reached" in served.refused(503, QUESTION)
            status, body, headers = served.ask("POST", "/v1/features", QUESTION)
            assert (status, body["error"]["code"], headers["retry-after"]) == (503, "store_down", "1")
            assert served.ask("GET", "/healthz")[0] == 200 and served.ask("GET", "/readyz")[0] == 503
        finally:
            redis_store.start()
        assert answered(served, 200)
        assert served.read(**QUESTION)["rows"] == before["rows"]


def test_kernels_are_compiled_before_it_listens_on_an_empty_store_too(
    tmp_path: Path, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first reads after an upload would wait for the compiler, for longer than they may."""
    kernels, path = tmp_path / "kernels", tmp_path / "store.sqlite"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(kernels))
    with SqliteStore(path) as store, serving(tmp_path, path, "--set", "cards") as served:
        compiled = {each.name for each in kernels.rglob("*.nbc")}
        assert compiled
        fill(store, uploads, ["cards"])
        served.read(**QUESTION)
        assert {each.name for each in kernels.rglob("*.nbc")} == compiled


def test_an_empty_store_is_not_ready_and_one_of_other_definitions_neither(tmp_path: Path, store_path: Path) -> None:
    SqliteStore(tmp_path / "empty.sqlite").close()
    with serving(tmp_path, tmp_path / "empty.sqlite", "--set", "cards") as served:
        assert served.ask("GET", "/readyz")[1]["sets"] == {"cards": "nothing of source `tx` is in the store"}
        assert "holds nothing of source `tx`" in served.refused(503, QUESTION)
    text = (Path(__file__).with_name("defs.py")).read_text()
    (tmp_path / "defs.py").write_text(
        text.replace("count()", "count().where(col('who') > 0)").replace('col("amount").sum()', 'col("big").min()')
    )
    with serving(tmp_path, store_path, "--defs", str(tmp_path / "defs.py"), "--set", "cards") as served:
        status, ready, _ = served.ask("GET", "/readyz")
        assert (status, ready["sets"]) == (503, {"cards": "of other definitions"})
        assert served.read(**QUESTION)["flags"] == [{"card": ["hidden"], "shop": ["hidden"]}]


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        (["--set", "card"], "", "set `card` is unknown; did you mean `cards`?"),
        (["--set", "cards", "--set", "cards"], "", "set `cards` is given twice"),
        (["--store", "none.sqlite"], "", "store `none.sqlite` does not exist; run `unskew upload --store none.sqlite`"),
        (["--store", "redis://127.0.0.1:1/0"], "", "cannot be reached"),
        (["--store", "redis:/:s3cret@host"], "", "store `***` looks like a URL of Redis and is none"),
        (["--host", "0.0.0.0"], "", "host `0.0.0.0` is reached from elsewhere and the server has no keys; add [[server.keys]], or --open"),  # noqa: S104
        (["--host", "192.0.2.1", "--open"], "", "address `192.0.2.1:0` cannot be listened on"),
        (["--max-age", "soon"], "", "duration `soon`"),
        ([], "[server]\nprot = 1\n", "settings [server] have no `prot`; did you mean `port`?"),
        ([], "[[server.keys]]\nname = 'a'\nsha256 = 'x'\n", "no sha256 in hex for key `a`; make one by `unskew keygen`"),
        ([], "[[server.keys]]\nname = 'a'\n", "have a key without `sha256`"),
        ([], "[[server.keys]]\nnam = 'a'\n", "settings [[server.keys]] have no `nam`; did you mean `name`?"),
        ([], "[server]\nkeys = 'secret'\n", "setting `server.keys` is `***`; give tables, [[server.keys]]"),
    ],
)  # fmt: skip
def test_what_keeps_it_from_listening_is_one_line(
    store_path: Path, tmp_path: Path, options: list[str], settings: str, message: str
) -> None:
    (tmp_path / "unskew.toml").write_text(settings)
    words = command(store_path, "--port", "0", "--settings", str(tmp_path / "unskew.toml"), *options)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("unskew: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_a_port_that_is_taken(server: Served, store_path: Path) -> None:
    words = command(store_path, "--set", "cards", "--port", str(server.port))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"address `127.0.0.1:{server.port}` cannot be listened on: Address already in use" in done.stderr
    assert os.path.exists(store_path)
