"""A temporary folder goes with its owner, or with the next one where that was killed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unskew.online.scratch import YOUNG, scratch

OWNER = (
    "from unskew.online.scratch import scratch\nwith scratch('own-') as folder:\n    print(folder, flush=True); input()"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_owner_left_goes_with_the_next(temporary: Path) -> None:
    folders = {}
    for name in ("killed", "alive"):
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER], env={**os.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert owner.stdout is not None
        folders[name] = Path(owner.stdout.readline().strip()), owner
    for folder, _ in folders.values():
        (folder / "a.jar").touch()
    killed, alive = folders["killed"], folders["alive"]
    killed[1].kill()
    killed[1].wait()
    with scratch("own-"):
        assert killed[0].is_dir()  # it is young: its owner may be about to take the lock
    for folder, _ in folders.values():
        old = folder.stat().st_mtime - 2 * YOUNG
        os.utime(folder, (old, old))
    with scratch("other-"):
        assert killed[0].is_dir()
    with scratch("own-") as own:
        assert sorted(temporary.iterdir()) == sorted([alive[0], Path(own)])
    alive[1].communicate("\n", timeout=10)
    assert list(temporary.iterdir()) == []
