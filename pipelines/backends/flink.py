"""The Flink compiler: one source of a plan as a readable SQL job over JSON lines.

`flink_ends` declares where they come from and where the streams go, `flink_lines` holds the layers between a line and an
accepted event, `flink_streams` what is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unskew.pipelines.backends.flink_ends import Ends, Folders, Topics
from unskew.pipelines.backends.flink_identity import identity_hash
from unskew.pipelines.backends.flink_lines import layers
from unskew.pipelines.backends.flink_ordered import decode_ordered, ordered_values
from unskew.pipelines.backends.flink_streams import Stream, account_streams, apart, view_streams
from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.plan import SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.timegrid import DAY

__all__ = [
    "DOWNTIME", "FlinkJob", "Stream", "compile_job", "compile_source", "decode_ordered", "identity_hash",
    "job_streams", "ordered_values", "state_life", "view_streams",
]  # fmt: skip
DOWNTIME = 7 * DAY  # how long a stopped job may wait before its state expires


@dataclass(frozen=True)
class FlinkJob:
    """A compiled source: settings, statements that declare tables and views, the streams and one INSERT for each."""

    source: str
    settings: tuple[tuple[str, str], ...]
    declarations: tuple[str, ...]
    streams: tuple[Stream, ...]
    inserts: tuple[str, ...]

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
    """Compile all views over one source, from a folder of JSON lines to a folder for each stream (`compile_job`)."""
    return compile_job(plan, source, Folders(str(input_folder), str(output_folder), watch), since=since)


def compile_job(plan: SetPlan, source: str, ends: Ends, *, since: int | None = None) -> FlinkJob:
    """Compile all views over one source.

    Parameters
    ----------
    plan
        The set.
    source
        Name of one of its sources.
    ends
        Where the lines come from, and where the streams of `job_streams` go.
    since
        First event time (ms) that the job keeps: the upload's `batch_end`. Sound events before it that are
        not late are archived: closed tiles hold them.

    Raises
    ------
    DefinitionError
        For an unknown source, or a decimal of more than 6 digits after the point.
    """
    streams = job_streams(plan, source, topics=isinstance(ends, Topics))
    log, views = plan.source(source), views_of(plan, source)
    declarations = [
        *ends.source_tables(),
        *(f"CREATE TEMPORARY VIEW {name} AS\n{query}" for name, query in layers(log, since, ends.carried)),
        *(ends.sink_table(each) for each in streams),
    ]
    inserts = tuple(ends.insert(each) for each in streams)
    return FlinkJob(source, settings(log, views, endless=ends.endless), tuple(declarations), streams, inserts)


def views_of(plan: SetPlan, source: str) -> list[ViewPlan]:
    """Return the views over one source."""
    return [each for each in plan.views if each.source == source]


def job_streams(plan: SetPlan, source: str, *, topics: bool) -> tuple[Stream, ...]:
    """Return the streams of a source's job; into topics the account goes as one stream.

    Raises
    ------
    DefinitionError
        For an unknown source.
    """
    if source not in {each.name for each in plan.sources}:
        message = f"source `{source}` is unknown; {nearest(source, [each.name for each in plan.sources])}"
        raise DefinitionError(message)
    log, views = plan.source(source), views_of(plan, source)
    own = [stream for view in views for stream in view_streams(view, log)]
    return (*own, apart(views, log)) if topics else (*own, *account_streams(views, log))


def settings(source: SourcePlan, views: Sequence[ViewPlan], *, endless: bool) -> tuple[tuple[str, str], ...]:
    """Return the settings that the meaning or the sharing of the scan depends on."""
    keep = state_life(source, views)
    # State expires only where the job does not end: heap state pays for the clean-up at each access.
    expiry = (("table.exec.state.ttl", f"{keep} ms"),) if endless else ()
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
