"""The pytest plugin: a fixture that makes cases, and an option for their engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from unskew.pipelines.language import FeatureSet
    from unskew.testing.case import FeatureCase


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--unskew-engine``."""
    parser.getgroup("unskew").addoption(
        "--unskew-engine",
        choices=("oracle", "beam", "flink"),
        default="oracle",
        help="engine that feature cases run on (default: oracle, in milliseconds)",
    )


@pytest.fixture
def feature_case(request: pytest.FixtureRequest) -> Callable[[FeatureSet], FeatureCase]:
    """Return a function from a feature set to a case on the engine of ``--unskew-engine``."""

    def make(feature_set: FeatureSet) -> FeatureCase:
        from unskew.testing.case import FeatureCase  # noqa: PLC0415 - a run without cases does not need it

        return FeatureCase(feature_set, request.config.getoption("--unskew-engine"))

    return make
