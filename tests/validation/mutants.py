"""Deliberate bugs, each a patch of the part that it would be a bug of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pytest import MonkeyPatch

from unskew.backfill import bucket_rows, order, window_states
from unskew.online import kernels, materialise, open_tiles, view_read
from unskew.online.program import Program
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines.backends import beam_judge, beam_sql, flink_lines, flink_ordered, flink_streams, sql
from unskew.pipelines.backends.sql import DUCKDB, FLINK, Dialect
from unskew.pipelines.nodes import Node
from unskew.pipelines.plan import SourcePlan, ViewPlan
from unskew.pipelines.states import COUNT_ROWS, StateField, Values
from unskew.pipelines.timegrid import HOUR, Window
from unskew.validation import served

Patch = Callable[[MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """A bug: how to plant it, and the causes that the report may give most of its cells."""

    plant: Patch
    causes: tuple[str, ...]


# Expressions, in either engine's SQL


def rendered(rewrite: Callable[[Callable[..., str], Node, Dialect], str | None], of: Dialect) -> Patch:
    """Plant another rendering of some nodes."""

    def plant(patch: MonkeyPatch) -> None:
        sound = sql.render

        def render(node: Node, dialect: Dialect) -> str:
            return (dialect is of and rewrite(render, node, dialect)) or sound(node, dialect)

        for module in (sql, flink_streams, beam_sql):
            patch.setattr(module, "render", render)

    return plant


def two_valued(render: Callable[..., str], node: Node, dialect: Dialect) -> str | None:
    if node.op != "ne":
        return None
    left, right = (render(each, dialect) for each in node.args)
    return f"({left} IS DISTINCT FROM {right})"


def null_as_zero(_: Callable[..., str], node: Node, dialect: Dialect) -> str | None:
    number = node.op == "column" and node.type.kind in ("int", "decimal")
    return f"COALESCE({dialect.identifier(str(node.value))}, CAST(0 AS BIGINT))" if number else None


def truncated(render: Callable[..., str], node: Node, dialect: Dialect) -> str | None:
    if node.op != "floordiv":
        return None
    left, right = (render(each, dialect) for each in node.args)
    return f"({left} {dialect.integer_division} NULLIF({right}, 0))"


# The stream: all in the SQL that Flink runs


def coarse_tiles(patch: MonkeyPatch) -> None:
    def tile_start(_: ViewPlan, source: SourcePlan) -> str:
        return f"`{source.event_time}` - `{source.event_time}` % CAST({HOUR} AS BIGINT)"

    patch.setattr(flink_streams, "tile_start", tile_start)


def ties_by_arrival(patch: MonkeyPatch) -> None:
    def ordered(source: SourcePlan, value: str, kind: str) -> str:
        parts = [flink_ordered.ordered_integer(each) for each in (f"`{source.event_time}`", "_arrival")]
        return " || ' ' || ".join(f"({each})" for each in [*parts, flink_ordered.ordered_text(value, kind)])

    patch.setattr(flink_streams, "ordered_sql", ordered)


def copies_counted(patch: MonkeyPatch) -> None:
    sound = flink_lines.accepted
    patch.setattr(flink_lines, "accepted", lambda source: sound(replace(source, deduplicate=False)))


def fate(old: str, new: str) -> Patch:
    """Plant another rule of fates."""

    def plant(patch: MonkeyPatch) -> None:
        sound = flink_lines.fated

        def fated(source: SourcePlan, since: int | None) -> str:
            text = sound(source, since)
            assert old in text
            return text.replace(old, new)

        patch.setattr(flink_lines, "fated", fated)

    return plant


def float_sums(patch: MonkeyPatch) -> None:
    sound = flink_streams.combined

    def combined(column: str, field: StateField) -> str:
        if field.kind != "add" or field == COUNT_ROWS:
            return sound(column, field)
        return f"CAST(SUM(CAST({column} AS DOUBLE) / 100) OVER w * 100 AS BIGINT)"

    patch.setattr(flink_streams, "combined", combined)


def expired_at(position: int) -> Patch:
    """Plant a job that lost all state at a position of the log."""

    def plant(patch: MonkeyPatch) -> None:
        sound = flink_streams.running

        def running(rows: str, columns: Sequence[str], group: Sequence[str]) -> str:
            return sound(rows, columns, [*group, f"seq >= CAST({position} AS BIGINT)"])

        patch.setattr(flink_streams, "running", running)

    return plant


def stream_mutants(half: int) -> dict[str, Mutant]:
    """Return the bugs of the stream; `half` is a position in the middle of what is read."""
    return {
        "wrong hop": Mutant(coarse_tiles, ("boundary",)),
        "tie broken by arrival": Mutant(ties_by_arrival, ("tie",)),
        "a duplicate counted twice": Mutant(copies_counted, ("duplicate",)),
        "null counted as zero": Mutant(rendered(null_as_zero, FLINK), ("null_vs_zero",)),
        "a late event applied": Mutant(fate("    WHEN _late THEN 'late'\n", ""), ("lateness",)),
        "two-valued filter logic": Mutant(rendered(two_valued, FLINK), ("engine", "null_vs_zero", "lost_tile")),
        "truncated division": Mutant(rendered(truncated, FLINK), ("engine",)),
        "float sums": Mutant(float_sums, ("precision", "engine")),
        "expired state": Mutant(expired_at(half), ("expired_state",)),
        "exclusive batch_end": Mutant(fate("`at` < CAST", "`at` <= CAST"), ("boundary",)),
    }


# The uploads


def late_dropped(patch: MonkeyPatch) -> None:
    sound = beam_judge.drop_later

    def drop_later(connection: Any, *others: Any) -> dict[str, int]:
        found = sound(connection, *others)
        ((late,),) = connection.execute("DELETE FROM judged WHERE __late").fetchall()
        return {"later": found.get("later", 0) + int(late)}

    patch.setattr(beam_judge, "drop_later", drop_later)


def copies_uploaded(patch: MonkeyPatch) -> None:
    patch.setattr(beam_judge, "losers", lambda _: None)


def ids_ignored(patch: MonkeyPatch) -> None:
    def sorted_rows(entity: Any, columns: Sequence[Any]) -> Any:
        return order.sorted_rows(entity, [columns[0], columns[-1]])

    patch.setattr(bucket_rows, "sorted_rows", sorted_rows)


UPLOADS = {
    "a late event dropped": Mutant(late_dropped, ("lateness",)),
    "a duplicate uploaded twice": Mutant(copies_uploaded, ("duplicate",)),
    "null uploaded as zero": Mutant(rendered(null_as_zero, DUCKDB), ("null_vs_zero",)),
}

# The store and the reads


def unguarded(patch: MonkeyPatch) -> None:
    patch.setattr(
        open_tiles,
        "guarded",
        lambda group, _n, _arrival: (np.ones(len(group), np.bool_), np.zeros(len(group), np.bool_)),
    )


def never_flipped(patch: MonkeyPatch) -> None:
    sound = SqliteStore.flip

    def flip(store: SqliteStore, generation: int, ends: Mapping[str, tuple[int, int]], instant: int) -> None:
        if generation == 1:
            sound(store, generation, ends, instant)

    patch.setattr(SqliteStore, "flip", flip)


def old_records(patch: MonkeyPatch) -> None:
    sound = SqliteStore.flip
    patch.setattr(SqliteStore, "flip", lambda store, _, ends, instant: sound(store, 1, ends, instant))


def head_included(patch: MonkeyPatch) -> None:
    sound: Any = kernels.scalar_states

    def scalar_states(*arguments: Any) -> Any:
        return sound(*arguments[:6], arguments[6] + 1, *arguments[7:])

    patch.setattr(view_read, "scalar_states", scalar_states)


def tail_excluded(patch: MonkeyPatch) -> None:
    sound = Program.window_table.func  # type: ignore[attr-defined]

    def window_table(program: Program) -> Any:
        table = sound(program)
        table[:, 0] -= table[:, 1]
        return table

    patch.setattr(Program, "window_table", property(window_table))


def tile_lost(patch: MonkeyPatch) -> None:
    """Lose the tile with the most rows of those that are read."""

    class Torn(materialise.Changelog):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            (tiles, rows), *others = self.streams["spending"]
            owned = rows.filter(pa.compute.is_valid(rows["key0"]))
            counted = (
                owned.group_by(["key0", "tile_start"]).aggregate([("n", "max")]).sort_by([("n_max", "descending")])
            )
            card, start = counted["key0"][0], counted["tile_start"][0]
            lost = pa.compute.and_(pa.compute.equal(rows["key0"], card), pa.compute.equal(rows["tile_start"], start))
            kept = rows.filter(pa.compute.invert(lost))
            self.streams["spending"] = [(tiles, kept), *others]
            self.positions[tiles.name] = np.maximum.accumulate(kept["seq"].to_numpy())

    patch.setattr(served, "Changelog", Torn)


READS = {
    "a stale generation, never flipped": Mutant(never_flipped, ("stale_batch", "lateness")),
    "a stale generation under a new batch_end": Mutant(old_records, ("stale_batch",)),
    "inclusive head": Mutant(head_included, ("boundary",)),
    "exclusive tail": Mutant(tail_excluded, ("boundary", "lost_tile")),
    "a tile lost": Mutant(tile_lost, ("lost_tile",)),
}

# The backfill


def window_edge(name: str, change: int) -> Patch:
    def plant(patch: MonkeyPatch) -> None:
        sound = getattr(Window, name)
        patch.setattr(Window, name, lambda window, t: sound(window, t) + change)

    return plant


def known_at(sql_text: str) -> Patch:
    return lambda patch: patch.setattr(beam_sql, "known_sql", lambda _job, _source: sql_text)


def float_prefixes(patch: MonkeyPatch) -> None:
    sound = window_states.sums

    def sums(column: window_states.Column, lo: Any, hi: Any) -> Values:
        if np.abs(column.data).max(initial=0) <= 1_000:  # no amount
            return sound(column, lo, hi)
        prefix = np.concatenate((np.zeros(1), np.cumsum(np.where(column.valid, column.data, 0) / 100)))
        return Values((prefix[hi] - prefix[lo]) * 100, np.ones(len(lo), np.bool_))

    patch.setattr(window_states, "sums", sums)


BACKFILLS = {
    "inclusive head": Mutant(window_edge("head", 1), ("boundary",)),
    "exclusive tail": Mutant(window_edge("tail", 1), ("boundary",)),
    "tie broken by arrival": Mutant(ids_ignored, ("tie",)),
    "a duplicate counted twice": Mutant(copies_uploaded, ("duplicate",)),
    "null counted as zero": Mutant(rendered(null_as_zero, DUCKDB), ("null_vs_zero",)),
    "two-valued filter logic": Mutant(rendered(two_valued, DUCKDB), ("engine", "null_vs_zero", "lost_tile")),
    "truncated division": Mutant(rendered(truncated, DUCKDB), ("engine",)),
    "float sums": Mutant(float_prefixes, ("precision", "engine")),
    "a late event never known": Mutant(
        known_at(f"CASE WHEN __late THEN {beam_sql.NEVER} ELSE __sequence END"), ("lateness",)
    ),
    "a late event known at once": Mutant(known_at("__sequence"), ("lateness",)),
}
