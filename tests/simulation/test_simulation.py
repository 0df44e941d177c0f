"""Simulated schedules read what the tiles hold, and planted bugs are found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest import MonkeyPatch

from tests.depth import DEPTH
from tests.redis_process import Server
from tests.simulation.run import failing, failure, small
from tests.simulation.world import InRedis, draw
from unskew.online import kernels, multisets, open_tiles, view_read
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines.timegrid import Window

SEEDS = 1_000 * DEPTH


def test_no_schedule_fails() -> None:
    assert failing(range(SEEDS)) == (SEEDS, [])


def test_no_schedule_fails_over_redis(redis: Server) -> None:
    assert failing(range(SEEDS // 3), InRedis(redis.port, 1)) == (SEEDS // 3, [])


def all_taken(patch: MonkeyPatch) -> None:
    patch.setattr(
        open_tiles, "guarded", lambda group, *_: (np.ones(len(group), np.bool_), np.zeros(len(group), np.bool_))
    )


def flip_without_end(patch: MonkeyPatch) -> None:
    sound = SqliteStore.flip

    def flip(store: SqliteStore, generation: int, ends: Any, instant: int) -> None:
        sound(store, generation, {name: (cut, end) for name, (cut, end) in ends.items()}, instant)
        store.connection.execute("UPDATE pointer SET batch_end = batch_end - 3600000")

    patch.setattr(SqliteStore, "flip", flip)


def head_included(patch: MonkeyPatch) -> None:
    sound: Any = kernels.scalar_states

    def states(*args: Any) -> Any:
        return sound(*args[:6], args[6] + 1, *args[7:])

    patch.setattr(view_read, "scalar_states", states)


def counts_lost(patch: MonkeyPatch) -> None:
    sound = multisets.merged
    patch.setattr(multisets, "merged", lambda _, *rows: sound("max", *rows))


def closed_cut_short(patch: MonkeyPatch) -> None:
    sound = Window.tail
    patch.setattr(Window, "tail", lambda window, t: sound(window, t) + window.hop)


@pytest.mark.parametrize("plant", [all_taken, flip_without_end, head_included, counts_lost, closed_cut_short])
def test_a_planted_bug_is_found_and_made_small(plant: Callable[[MonkeyPatch], None], monkeypatch: MonkeyPatch) -> None:
    plant(monkeypatch)
    seed = next((each for each in range(SEEDS) if failure(draw(each))), None)
    assert seed is not None
    schedule = draw(seed)
    found = small(schedule)
    assert failure(found)
    assert len(found.ops) <= min(len(schedule.ops), 6)
    assert len(found.rows) <= min(len(schedule.rows), 4)
