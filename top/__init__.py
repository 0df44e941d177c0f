"""The clients of the feature server; all else is in the packages below this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unskew.online.server.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    """Import a client where it is first used: importing a package of unskew must not import HTTP and Arrow."""
    if name in __all__:
        from unskew.online.server import client  # noqa: PLC0415

        return getattr(client, name)
    message = f"module `unskew` has no attribute `{name}`"
    raise AttributeError(message)
