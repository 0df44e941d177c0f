"""A gate that cannot fail is worth nothing: each deliberate bug, planted alone, is found in a run of the real engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest import MonkeyPatch, TempPathFactory

from tests.validation.mutants import BACKFILLS, READS, UPLOADS, Mutant, stream_mutants, unguarded
from tests.validation.world import Values, World, make_world, run_jobs
from unskew.validation.parity import Report
from unskew.validation.served import Served

STREAMS = list(stream_mutants(0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("sound"), seeds=range(3), probes=2_000)


@pytest.fixture(scope="module")
def served(world: World, tmp_path_factory: TempPathFactory) -> Served:
    return world.served(scratch=tmp_path_factory.mktemp("reads"))


@pytest.fixture(scope="module")
def values(world: World) -> Values:
    return world.backfills()


@pytest.fixture(scope="module")
def bugs(world: World) -> dict[str, Mutant]:
    return stream_mutants((world.flips[0].position + world.logs["payments"].table.num_rows) // 2)


@pytest.fixture(scope="module")
def streams(world: World, bugs: dict[str, Mutant], tmp_path_factory: TempPathFactory) -> dict[str, Path]:
    """Run the job of each bug."""
    folders = {name: tmp_path_factory.mktemp("stream") for name in bugs}
    jobs = []
    for name, bug in bugs.items():
        with MonkeyPatch.context() as patch:
            bug.plant(patch)
            jobs.append(world.job(folders[name]))
        assert jobs[-1] != world.job(folders[name])
    run_jobs(jobs)
    return folders


@pytest.fixture
def patch() -> Iterator[MonkeyPatch]:
    with MonkeyPatch.context() as found:
        yield found


def require_found(report: Report, mutant: Mutant) -> None:
    """Assert that the gate fails, and that most of the wrong cells have a cause that fits."""
    assert report.unexplained > 0
    named = sum(report.causes[each] for each in mutant.causes)
    assert 2 * named > report.unexplained, report.causes


def test_the_sound_engines_pass(world: World, served: Served, values: Values) -> None:
    report = world.compared(served, values)
    assert report.unexplained == 0, report.defects
    assert report.rejected == 0
    assert all(report.causes[each] for each in ("late", "in_flight", "ahead", "behind"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_bug_of_the_stream_is_found(
    name: str, world: World, bugs: dict[str, Mutant], streams: dict[str, Path], values: Values, tmp_path: Path
) -> None:
    report = world.compared(world.served(stream=streams[name], scratch=tmp_path), values)
    require_found(report, bugs[name])
    assert (report.rejected > 0) == (name == "expired state")  # the guard kept the good tile


def test_expired_state_is_found_without_the_guard(
    world: World, bugs: dict[str, Mutant], streams: dict[str, Path], values: Values, patch: MonkeyPatch, tmp_path: Path
) -> None:
    unguarded(patch)
    report = world.compared(world.served(stream=streams["expired state"], scratch=tmp_path), values)
    require_found(report, bugs["expired state"])
    assert report.rejected == 0


@pytest.mark.parametrize("name", UPLOADS)
def test_a_bug_of_the_upload_is_found(name: str, world: World, values: Values, tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "reads").mkdir()
    with MonkeyPatch.context() as planted:
        UPLOADS[name].plant(planted)
        world.upload(tmp_path / "uploads")
    report = world.compared(world.served(uploads=tmp_path / "uploads", scratch=tmp_path / "reads"), values)
    require_found(report, UPLOADS[name])


@pytest.mark.parametrize("name", READS)
def test_a_bug_of_the_read_is_found(
    name: str, world: World, values: Values, patch: MonkeyPatch, tmp_path: Path
) -> None:
    READS[name].plant(patch)
    require_found(world.compared(world.served(scratch=tmp_path), values), READS[name])


@pytest.mark.parametrize("name", BACKFILLS)
def test_a_bug_of_the_backfill_is_found(name: str, world: World, served: Served) -> None:
    with MonkeyPatch.context() as planted:
        BACKFILLS[name].plant(planted)
        wrong = world.backfills()
    require_found(world.compared(served, wrong), BACKFILLS[name])
