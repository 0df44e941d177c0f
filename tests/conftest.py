"""Fixtures that several folders share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers"]
# a loaded machine is slow, which is no failure
settings.register_profile("unskew", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("unskew")
SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return the path of a file of real data; without it, skip on a laptop and fail in CI."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            reason = f"real data `{name}` is not beside the checkout"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find
