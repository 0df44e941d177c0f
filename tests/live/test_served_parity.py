"""What the feature server answered under traffic and through an upload, checked row by row against the archive."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx

from tests.live.conftest import NewWorld
from tests.live.world import World, wait


def run(world: World, *words: str) -> str:
    """Run a command of ours to its end."""
    return ended(begun(world, *words))


def begun(world: World, *words: str) -> "subprocess.Popen[str]":
    """Start a command of ours."""
    return subprocess.Popen(world.command(*words), cwd=world.folder, stdout=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> str:
    """Return what a command printed; it must have succeeded."""
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


@contextmanager
def reads(world: World, address: str) -> Iterator[list[int]]:
    """Read features all the while, at the instant that the traffic has come to."""
    stop, statuses = Event(), []

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=10) as client:
            while not stop.is_set():
                rows = [{"card": card, "shop": f'shop {card % 8} é, "x"'} for card in range(0, 40, 7)]
                found = client.post("/v1/features", json={"set": "live", "rows": rows, "at": world.payments.now + 1})
                statuses.append(found.status_code)
                time.sleep(0.05)

    thread = Thread(target=ask)
    thread.start()
    yield statuses
    stop.set()
    thread.join()


def served_address(world: World) -> str:
    """Start a server that logs the rows of half the entities; return its address."""
    server = world.start("serve", "serve", "--port", "0", "--served-share", "0.5")
    log = world.folder / "serve.log"
    wait(lambda: "http://" in log.read_text() or not server.alive(), told=log.read_text)
    found = re.search(r"http://\S+", log.read_text())
    assert found is not None, log.read_text()
    return found.group()


def erased(world: World, card: int, *words: str) -> int:
    """Erase a card from what was served; return how many rows that were."""
    told = run(world, "erase", "--served", str(world.folder / "served"), "--key", f"card={card}", "--json", *words)
    (found,) = json.loads(told)["erased"].values()
    return int(found["rows"])


def test_what_was_served_is_explained(new_world: NewWorld) -> None:
    world = new_world("redis")
    world.start("materialize", "materialize")
    world.start("run", "stream", "run")
    wait(world.read_by, told=(world.folder / "run.log").read_text)
    world.payments.step = 400_000
    world.send(1500)  # five days of history
    world.settle()
    world.payments.step = 20_000
    address = served_address(world)
    with reads(world, address) as statuses:
        world.send(400, rate=100)
        run(world, "archive", "--once")
        cut = str(world.payments.now - 60_000)  # the topic's clock is not this machine's
        words = ("--events", str(world.folder / "archive"), "--output", str(world.folder / "upload"), "--cut", cut)
        upload = begun(world, "upload", *words, "--store", world.store_url)
        world.send(1200, rate=100)
        ended(upload)
        world.send(300, rate=100)
    world.settle()
    with world.control() as control:
        pointer = control.store.pointer("payments")
        assert pointer is not None
        assert pointer.generation == 1
    assert set(statuses) == {200}
    world.processes["serve"].end()  # what waits is written
    run(world, "archive", "--once")
    run(world, "archive", "--served", "--archive", str(world.folder / "served"), "--once")
    checked = ("--served", str(world.folder / "served"), "--events", str(world.folder / "archive"))
    report = json.loads(run(world, "parity", *checked, "--output", str(world.folder / "report"), "--json"))
    assert report["unexplained"] == 0, report
    assert report["probes"] == 3 * len(statuses), "of six entities three are sampled, always"
    assert report["equal"] > report["cells"] / 10, "reads are of the instant of the newest event, so many are in flight"
    assert report["causes"].keys() <= {"in_flight", "late"}
    assert (world.folder / "report" / "parity.txt").read_text().startswith("parity of live: PASSED")

    rows = {card: erased(world, card, "--dry-run") for card in range(0, 40, 7)}
    assert sorted(rows.values()) == [0] * 3 + [len(statuses)] * 3
    erased(world, next(card for card, n in rows.items() if n))
    report = json.loads(run(world, "parity", *checked, "--output", str(world.folder / "report"), "--json"))
    assert (report["unexplained"], report["probes"]) == (0, 2 * len(statuses))
