"""Every Python block of the README runs, every command of its shell blocks exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", [body for kind, body in BLOCKS if kind == "python"])
def test_python_blocks_run(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - the point of the test


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"\bmake (\w+)", TEXT))
    assert used
    assert used <= targets
