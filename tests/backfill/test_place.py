"""A run whose workers share nothing but ``--temp_location`` with the one who starts it."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from tests.backfill.test_faults import EVENTS, SET, SPINE
from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.pipelines.backends import beam_judge
from unskew.pipelines.errors import EngineError, InputError

FAR = "far://bucket/"


class FarFiles(FileSystem):  # type: ignore[misc]
    """Files at ``far://``, as an object store has them: no folders, and no path that opens on this machine."""

    root = Path()

    @classmethod
    def scheme(cls) -> str:
        return "far"

    def join(self, first: str, *rest: str) -> str:
        return "/".join((first.rstrip("/"), *rest))

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for each in sorted(self.root.rglob("*")):
            path = f"far://{each.relative_to(self.root)}"
            if each.is_file() and path.startswith(dir_or_prefix):
                yield FileMetadata(path, each.stat().st_size)

    def create(self, path: str, mime_type: str = "", compression_type: str = "") -> Any:  # noqa: ARG002
        place(path).parent.mkdir(parents=True, exist_ok=True)
        return place(path).open("wb")

    def open(self, path: str, mime_type: str = "", compression_type: str = "") -> Any:  # noqa: ARG002
        return place(path).open("rb")

    def delete(self, paths: list[str]) -> None:
        for each in paths:
            if not place(each).is_file():
                raise BeamIOError(each)
            place(each).unlink()

    def exists(self, path: str) -> bool:
        return place(path).is_file()

    def copy(self, *_: Any) -> None:
        raise NotImplementedError

    rename = size = last_updated = checksum = metadata = copy


def place(path: str) -> Path:
    return FarFiles.root / path.removeprefix("far://")


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the flags of a run with a scratch at ``far://``, of which nothing may stay."""
    monkeypatch.setattr(FarFiles, "root", tmp_path / "elsewhere")
    yield [f"--temp_location={FAR}scratch", "--direct_running_mode=in_memory"]
    assert [each for each in (tmp_path / "elsewhere").rglob("*") if each.is_file()] == []


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the jobs that workers get."""
    found: list[Any] = []
    sound = beam_judge.OfJob.__init__

    def kept(self: Any, job: Any) -> None:
        found.append(job)
        sound(self, job)

    monkeypatch.setattr(beam_judge.OfJob, "__init__", kept)
    return found


def test_workers_need_no_path_of_this_machine(far: list[str], jobs: list[Any], tmp_path: Path) -> None:
    events, spine = EVENTS().slice(0, 20_000), SPINE().slice(0, 5_000)
    pq.write_table(events, tmp_path / "log.parquet", row_group_size=6_000)
    here = backfill(SET, tmp_path / "log.parquet", spine, output=tmp_path / "here")
    del jobs[:]
    assert backfill(SET, tmp_path / "log.parquet", spine, output=tmp_path / "there", options=far) == here
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert backfill(SET, events, spine, options=far).equals(backfill(SET, events, spine))
    reused = backfill(
        SET, tmp_path / "log.parquet", spine, output=tmp_path / "again", reuse=tmp_path / "here", options=far
    )
    assert reused["reused"] == 4
    assert contents(tmp_path / "again") == contents(tmp_path / "here")
    packed = upload(SET, events, output=tmp_path / "upload", options=far)
    assert packed == upload(SET, events, output=tmp_path / "upload-here")
    assert jobs
    assert not [each for each in jobs if each.shuffle.startswith(FAR) and str(tmp_path).encode() in pickle.dumps(each)]


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.glob("part-*")}


def test_a_temp_location_that_beam_cannot_reach_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^temp_location `nowhere://x` is of no kind that Beam can reach: "):
        backfill(SET, EVENTS(), SPINE(), output=tmp_path / "out", options=["--temp_location=nowhere://x"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["upload", "training set"])
def test_what_a_worker_wrote_on_its_own_disk_is_missed(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lonely(self: Any) -> None:
        self.job = replace(beam_judge.unpacked(self.packed), output=str(tmp_path / "disk of the worker"))

    monkeypatch.setattr(beam_judge.OfJob, "setup", lonely)
    events, one = EVENTS().slice(0, 100), ["--direct_running_mode=in_memory"]
    wanted = "where only its own machine sees it; give --temp_location a folder that every worker"
    with pytest.raises(EngineError, match=wanted):
        if what == "upload":
            upload(SET, events, output=tmp_path / "out", cut=100 * 86_400_000, options=one)
        else:
            backfill(SET, events, SPINE().slice(0, 100), output=tmp_path / "out", options=one)
    assert not (tmp_path / "out").exists()
