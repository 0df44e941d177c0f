"""Opens the store that the settings name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from unskew.online.live.settings import StoreSettings
from unskew.pipelines.errors import InputError, StoreError

if TYPE_CHECKING:
    from unskew.online.store import Store

REDIS = ("redis", "rediss")
SUSPECT = re.compile(r"redis|(?![./]).*:.*@", re.IGNORECASE)  # a mistyped URL, perhaps with a password


def is_redis(url: str) -> bool:
    """Return whether a store is named by a URL of Redis; else it is the path of an SQLite file.

    Raises
    ------
    InputError
        If it is a URL of something else, or looks like one of Redis and is none; it is not shown.
    """
    scheme, found, _ = url.partition("://")
    if found and scheme in REDIS:
        return True
    if SUSPECT.match(url):
        message = "store `***` looks like a URL of Redis and is none; give redis://HOST:PORT/0, or ./ before the path of an SQLite file"
        raise InputError(message)
    if found:
        message = f"store `{scheme}://` is unknown; give redis://HOST:PORT/0, rediss:// or the path of an SQLite file"
        raise InputError(message)
    return False


def open_store(settings: StoreSettings) -> Store:
    """Open a store, and make an SQLite file, and its folder, where there is none.

    Raises
    ------
    StoreError
        If it cannot be opened or is no store of unskew; `StoreDown` if it cannot be reached.
    """
    if is_redis(settings.url):
        from unskew.online.store_redis import RedisStore  # noqa: PLC0415 - only where it is used

        return RedisStore(
            settings.url,
            username=settings.username,
            password=settings.password.reveal(),
            ssl_cafile=settings.ssl_cafile,
        )
    from unskew.online.store_sqlite import SqliteStore  # noqa: PLC0415

    make_folder(settings.url)
    return SqliteStore(settings.url)


def make_folder(url: str) -> None:
    """Make the folder of an SQLite file."""
    folder = Path(url).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"folder `{folder}` of store `{url}` cannot be made: {error.strerror}; name another file"
        raise StoreError(message) from error
