"""Every block of the README is run: its Python, its commands, and the report that it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
COMMAND = ".venv/bin/unskew "


def bodies(kind: str) -> list[str]:
    return [body for found, body in BLOCKS if found == kind]


def test_python_blocks_run_in_order() -> None:
    names: dict[str, object] = {}
    assert bodies("python")
    for block in bodies("python"):
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - the point of the test


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"\bmake (\w+)", TEXT))
    assert used >= {"demo", "test"}  # run by tests/test_demo.py and by whoever runs this
    assert used <= targets


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run all commands in order, as in a checkout, and return what they print."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "feature_defs").symlink_to(ROOT / "feature_defs")
    lines = [line for body in bodies("sh") for line in body.splitlines() if line.startswith(COMMAND)]
    assert len(lines) > 5
    out = []
    for line in lines:
        command = [sys.executable, "-m", "unskew.pipelines.cli", *shlex.split(line.removeprefix(COMMAND))]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, (line, done.stderr)
        out.append(done.stdout)
    return "\n".join(out)


def test_the_commands_print_what_is_shown(printed: str) -> None:
    (report,) = bodies("text")
    assert report.strip() in printed
