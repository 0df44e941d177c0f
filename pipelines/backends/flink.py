"""The Flink compiler: one source of a plan as a readable SQL job over JSON lines.

`flink_lines` holds the layers between a line and an accepted event, `flink_streams` what is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unskew.pipelines.backends.flink_identity import identity_hash
from unskew.pipelines.backends.flink_lines import layers, source_table
from unskew.pipelines.backends.flink_ordered import decode_ordered, ordered_values
from unskew.pipelines.backends.flink_pieces import quoted
from unskew.pipelines.backends.flink_streams import Stream, account_streams, sink_table, view_streams
from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.plan import SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.timegrid import DAY

__all__ = [
    "DOWNTIME", "FlinkJob", "Stream", "compile_source", "decode_ordered", "identity_hash", "ordered_values",
    "state_life", "view_streams",
]  # fmt: skip
DOWNTIME = 7 * DAY  # how long a stopped job may wait before its state expires


@dataclass(frozen=True)
class FlinkJob:
    """A compiled source: settings, statements that declare tables and views, and the streams."""

    source: str
    settings: tuple[tuple[str, str], ...]
    declarations: tuple[str, ...]
    streams: tuple[Stream, ...]

    @property
    def inserts(self) -> tuple[str, ...]:
        """One INSERT for each stream; all go into one statement set."""
        return tuple(f"INSERT INTO {quoted(each.name)}\n{each.query}" for each in self.streams)

    @property
    def text(self) -> str:
        """The whole job as a script for Flink's SQL client."""
        settings = [f"SET '{name}' = '{value}'" for name, value in self.settings]
        body = [*settings, *self.declarations, "EXECUTE STATEMENT SET\nBEGIN", *self.inserts, "END"]
        return ";\n\n".join(body).replace("BEGIN;", "BEGIN") + ";\n"


def compile_source(
    plan: SetPlan,
    source: str,
    input_folder: str | Path,
    output_folder: str | Path,
    *,
    watch: bool = False,
    since: int | None = None,
) -> FlinkJob:
    """Compile all views over one source.

    Parameters
    ----------
    plan
        The set.
    source
        Name of one of its sources.
    input_folder, output_folder
        Absolute paths or URIs; one folder below the output for each stream.
    watch
        Look for new files each second and never end, instead of reading what is there.
    since
        First event time (ms) that the job keeps: the upload's `batch_end`. Sound events before it that are
        not late are archived: closed tiles hold them.

    Raises
    ------
    DefinitionError
        For an unknown source, or a decimal of more than 6 digits after the point.
    """
    if source not in {each.name for each in plan.sources}:
        message = f"source `{source}` is unknown; {nearest(source, [each.name for each in plan.sources])}"
        raise DefinitionError(message)
    log = plan.source(source)
    views = [each for each in plan.views if each.source == source]
    streams = (*(stream for view in views for stream in view_streams(view, log)), *account_streams(views, log))
    declarations = [
        source_table(str(input_folder), watch=watch),
        *(f"CREATE TEMPORARY VIEW {name} AS\n{query}" for name, query in layers(log, since)),
        *(sink_table(each, str(output_folder)) for each in streams),
    ]
    return FlinkJob(source, settings(log, views, watch=watch), tuple(declarations), streams)


def settings(source: SourcePlan, views: Sequence[ViewPlan], *, watch: bool) -> tuple[tuple[str, str], ...]:
    """Return the settings that the meaning or the sharing of the scan depends on."""
    keep = state_life(source, views)
    # State expires only where the job does not end: heap state pays for the clean-up at each access.
    expiry = (("table.exec.state.ttl", f"{keep} ms"),) if watch else ()
    return (
        ("table.local-time-zone", "UTC"),
        ("parallelism.default", "1"),  # rows are read, deduplicated and written in the order of the log
        *expiry,
        ("table.optimizer.reuse-optimize-block-with-digest-enabled", "true"),  # one scan for all sinks
        ("pipeline.object-reuse", "true"),
    )


def state_life(source: SourcePlan, views: Sequence[ViewPlan]) -> int:
    """Return how long after a tile's last event a watched job keeps its state, ms."""
    return source.allowed_lateness + max(each.hop for each in views) + DOWNTIME
