"""What a test needs of the machine."""

import os

import pytest


def missing(reason: str) -> None:
    """Skip on a laptop, fail in CI: there every part has to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
