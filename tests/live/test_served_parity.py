"""What the feature server answered under traffic and through an upload, checked row by row against the archive."""

import json

from tests.live.conftest import NewWorld
from tests.live.serving import checked, reads, report, serve
from tests.live.world import World, wait


def erased(world: World, card: int, *words: str) -> int:
    """Erase a card from what was served; return how many rows that were."""
    told = world.run("erase", "--served", str(world.folder / "served"), "--key", f"card={card}", "--json", *words)
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
    address = serve(world)
    with reads(world, address) as statuses:
        world.send(400, rate=100)
        world.run("archive", "--once")
        cut = str(world.payments.now - 60_000)  # the topic's clock is not this machine's
        words = ("--events", str(world.folder / "archive"), "--output", str(world.folder / "upload"), "--cut", cut)
        upload = world.start("upload", "upload", *words, "--store", world.store_url)
        world.send(1200, rate=100)
        wait(lambda: not upload.alive())
        world.send(300, rate=100)
    world.settle()
    with world.control() as control:
        pointer = control.store.pointer("payments")
        assert pointer is not None
        assert pointer.generation == 1
    assert set(statuses) == {200}
    world.processes["serve"].end()  # what waits is written
    found = checked(world)
    assert found["unexplained"] == 0, found
    assert found["probes"] == 3 * len(statuses), "of six entities three are sampled, always"
    assert found["equal"] > found["cells"] / 10, "reads are of the instant of the newest event, so many are in flight"
    assert found["causes"].keys() <= {"in_flight", "late"}
    assert (world.folder / "report" / "parity.txt").read_text().startswith(f"parity of {world.set}: PASSED")

    rows = {card: erased(world, card, "--dry-run") for card in range(0, 40, 7)}
    assert sorted(rows.values()) == [0] * 3 + [len(statuses)] * 3
    erased(world, next(card for card, n in rows.items() if n))
    found = report(world)
    assert (found["unexplained"], found["probes"]) == (0, 2 * len(statuses))
