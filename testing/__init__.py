"""Unit tests of features: events written as a table, values asserted at instants, on any engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unskew.testing.case import FeatureCase

__all__ = ["FeatureCase"]


def __getattr__(name: str) -> Any:
    """Import the case once it is asked for: pytest loads this package in every run, for the plugin."""
    if name != "FeatureCase":
        message = f"module `{__name__}` has no attribute `{name}`"
        raise AttributeError(message)
    from unskew.testing.case import FeatureCase  # noqa: PLC0415

    return FeatureCase
