"""The served log as a source: a topic and an archive like those of events, so that the archiver keeps it."""

from __future__ import annotations

from unskew.pipelines.plan import ColumnPlan, SourcePlan
from unskew.pipelines.timegrid import DAY
from unskew.pipelines.types import String, Timestamp

KEPT = {"retention.ms": str(7 * DAY), "message.timestamp.type": "CreateTime"}  # on its topic
ALWAYS = 36_500 * DAY  # ms: a row is archived whatever its instant is
COLUMNS = {"at": Timestamp, "arrived": Timestamp, "entity": String, "fingerprint": String, "content": String}


def served_source(name: str) -> SourcePlan:
    """Return the source of a set's served rows.

    Its columns: the instant that was read at, when the row was written, the entity's key in the store, the set's
    fingerprint, and the row as `online.served_rows` writes it.
    """
    return SourcePlan(
        name=f"served.{name}",
        columns=tuple(ColumnPlan(column, kind) for column, kind in COLUMNS.items()),
        event_time="at",
        event_id=(),
        arrival="arrived",
        allowed_lateness=ALWAYS,
        max_future_skew=ALWAYS,
        deduplicate=False,
        topic=f"unskew.served.{name}",
        archive=f"build/served/{name}",
    )
