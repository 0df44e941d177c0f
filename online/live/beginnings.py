"""Where a job begins: offsets of its topic, or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

from unskew.online.checkpoints import newest_checkpoint, require_living
from unskew.online.live.jobs import Job
from unskew.online.live.settings import Settings
from unskew.online.live.topics import offsets_since, topic_of
from unskew.pipelines.errors import EngineError, StoreError
from unskew.pipelines.plan import SourcePlan


def starting_offsets(
    settings: Settings, source: SourcePlan, since: int | None, *, as_it_is: bool = False
) -> dict[int, int]:
    """Return for each partition the first offset whose events may be at or after `since`, ms.

    Raises
    ------
    EngineError
        If the broker may have deleted some of them.
    """
    topic = topic_of(source)
    first = offsets_since(settings.kafka, topic, None)
    found = first if since is None else offsets_since(settings.kafka, topic, since - source.max_future_skew)
    gone = [each for each, offset in found.items() if offset == first[each] > 0]
    if gone and not as_it_is:
        where = "its begin" if since is None else "batch_end"
        message = f"topic `{topic}` no longer has partition `{gone[0]}` from {where} on, but from offset `{first[gone[0]]}`; upload a newer archive, or give --as-it-is and do without"
        raise EngineError(message)
    return found


def resuming_point(job: Job, now: int) -> str | None:
    """Return the newest complete checkpoint of a job; None where there is none.

    Parameters
    ----------
    now
        The clock, ms since the epoch.

    Raises
    ------
    InputError
        If its state has expired.
    """
    found = newest_checkpoint(local_folder(job.checkpoints))
    if found is None:
        return None
    require_living(found, now, "run `unskew stream rebuild`")
    return found.as_uri()


def local_folder(uri: str) -> Path:
    """Return a folder that this machine sees too.

    Raises
    ------
    StoreError
        If it is none.
    """
    found = urlparse(uri)
    if found.scheme != "file":
        message = f"checkpoints `{uri}` cannot be listed from here; mount them as a folder"
        raise StoreError(message)
    return Path(found.path)
