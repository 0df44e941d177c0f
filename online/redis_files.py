"""Redis' own files: what was deleted stands in them until they are written anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from redis.exceptions import RedisError, ResponseError

from unskew.online.redis_client import RedisClient
from unskew.pipelines.errors import StoreError

PATIENCE, PAUSE = 600.0, 0.05  # seconds
WORKING = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")


def rewrite_files(client: RedisClient) -> None:
    """Write Redis' append-only file and its snapshot anew, where it keeps them, and wait until that is done.

    Raises
    ------
    StoreError
        If Redis does not let this user do that, or it failed or did not end in ten minutes.
    """
    try:
        if idle(client)["aof_enabled"]:
            finish(client, lambda: client.command("BGREWRITEAOF"), "aof_last_bgrewrite_status")
        if keeps_snapshots(client):
            finish(client, lambda: client.command("BGSAVE"), "rdb_last_bgsave_status")
    except RedisError as error:
        raise left(client, str(error)) from error


def keeps_snapshots(client: RedisClient) -> bool:
    """Return whether Redis makes snapshots by itself; where it does not tell, it may."""
    try:
        found = cast("dict[str, str]", client.writes.config_get("save"))
    except ResponseError:  # of servers that others run
        return True
    return found.get("save", "") != ""


def finish(client: RedisClient, start: Callable[[], object], status: str) -> None:
    """Start a rewrite and wait for it."""
    idle(client)  # one that runs began before the deletes
    start()
    found = idle(client)[status]
    if found != "ok":
        raise left(client, f"{status}: {found}")


def idle(client: RedisClient) -> dict[str, Any]:
    """Wait until Redis rewrites no file; return what it says of them."""
    until = time.monotonic() + PATIENCE
    while True:
        found = cast("dict[str, Any]", client.writes.info("persistence"))
        if not any(found.get(each) for each in WORKING):
            return found
        if time.monotonic() > until:
            raise left(client, f"still busy after {PATIENCE:.0f} s")
        time.sleep(PAUSE)


def left(client: RedisClient, why: str) -> StoreError:
    """Return the error of files that still hold what was deleted."""
    return StoreError(
        f"store `{client.address}` has deleted the records, but its files may hold them: `{why}`; run again, or BGREWRITEAOF and BGSAVE"
    )
