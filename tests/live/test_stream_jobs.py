"""The job of a source on a cluster: from Kafka to a store, and what is served is what the backfill computes."""

import pytest

from tests.live.conftest import NewWorld
from tests.live.world import wait
from unskew.pipelines.errors import InputError


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_what_is_served_is_what_the_backfill_computes(new_world: NewWorld, kind: str) -> None:
    world = new_world(kind)
    world.start("materialize", "materialize")
    with world.control() as control:
        control.submit("payments")
        with pytest.raises(InputError, match=r"has the job .* \(running\)"):
            control.submit("payments")
    first = world.send(1500)
    world.send_poison()
    world.settle()
    world.flip()
    world.require_parity()
    world.require_account()

    with world.control() as control:  # a savepoint, and on from there
        control.stop("payments")
    world.send(500)
    world.send_again(first[-300:])
    with world.control() as control:
        job = control.resume("payments")
        assert len(job.job_ids) == 2
    world.settle()
    world.require_parity()
    world.require_account()


def test_other_definitions_take_over_when_they_have_caught_up(new_world: NewWorld) -> None:
    world = new_world("sqlite")
    world.start("materialize", "materialize")
    with world.control() as control:
        control.submit("payments")
    world.send(800)
    world.settle()
    world.flip()
    old = world.job()
    cells = world.require_parity()

    world.define('"least": paid.min().over("1d"),')
    with world.control() as control, pytest.raises(InputError, match=r"other definitions of view `cards`.*upgrade"):
        control.resume("payments")
    world.start("materialize-new", "materialize")
    upgrade = world.start("upgrade", "stream", "upgrade")
    world.send(400)
    wait(lambda: not upgrade.alive(), told=(world.folder / "upgrade.log").read_text)
    world.settle()
    assert world.require_parity() == cells + cells // 14, "one feature more"
    world.require_account()
    assert world.job().epoch != old.epoch
    with world.control() as control:
        assert [each.epoch for each in control.jobs("payments")] == [world.job().epoch]
        assert control.cluster.jobs()[old.job_id] == "CANCELED"
        assert control.replacement("payments", forced=False) is None
