"""A feature server of a world, read all the while; then all that it served is checked against the archive."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import httpx

from tests.live.world import World, wait
from unskew.online.server.client import Client
from unskew.pipelines.errors import UnskewError


def serve(world: World, name: str = "serve", port: int = 0) -> str:
    """Start a server that logs the rows of half the entities; return its address."""
    server = world.start(name, "serve", "--port", str(port), "--served-share", "0.5")
    log = world.folder / f"{name}.log"
    wait(lambda: "http://" in log.read_text() or not server.alive(), told=log.read_text)
    found = re.search(r"http://\S+", log.read_text())
    assert found is not None, log.read_text()
    return found.group()


@contextmanager
def reads(world: World, address: str, pause: float = 0.05) -> Iterator[list[int]]:
    """Read features all the while, at the instant that the traffic has come to; give the replies' statuses, 0 for none."""
    stop, statuses = Event(), []

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=10) as client:
            while not stop.wait(pause):
                rows = [{"card": card, "shop": f'shop {card % 8} é, "x"'} for card in range(0, 40, 7)]
                asked = {"set": world.set, "rows": rows, "at": world.payments.now + 1}
                try:
                    statuses.append(client.post("/v1/features", json=asked).status_code)
                except httpx.TransportError:
                    statuses.append(0)

    thread = Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


@contextmanager
def all_answered(world: World, addresses: Sequence[str], readers: int = 4) -> Iterator[None]:
    """Read from several servers all the while, as many at a time; none of the reads may fail."""
    stop, done, failures = Event(), Counter[int](), list[str]()

    def ask(reader: int) -> None:
        with Client(addresses, world.set) as client:
            while not stop.wait(0.05):
                card = (reader + 4 * done[reader]) % 40
                try:
                    client.read([{"card": card, "shop": f'shop {card % 8} é, "x"'}], world.payments.now + 1)
                except UnskewError as error:
                    failures.append(str(error))
                done[reader] += 1

    threads = [Thread(target=ask, args=(each,)) for each in range(readers)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in threads:
            each.join()
    assert failures == []
    assert min(done[each] for each in range(readers)) > 20


def checked(world: World) -> Any:
    """Archive what is left, and return the report on all that was served."""
    world.run("archive", "--once")
    world.run("archive", "--served", "--archive", str(world.folder / "served"), "--once")
    return report(world)


def report(world: World) -> Any:
    """Return the report on what is in the archives."""
    given = ("--served", str(world.folder / "served"), "--events", str(world.folder / "archive"))
    return json.loads(world.run("parity", *given, "--output", str(world.folder / "report"), "--json"))
