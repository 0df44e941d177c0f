"""Where parity looks: entities, positions of the log and instants, most of them near an edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import ColumnPlan, SetPlan
from unskew.pipelines.timegrid import DAY
from unskew.validation.log import Ints, Log

POSITIONS = 400  # most positions of the log at which probes are taken
UPLOADS = (0.45, 0.7)  # where uploads are cut, as shares of the log's time
STRANGERS = 0.01  # share of the probes whose key no event has
FLIP_AFTER = 3_600_000  # ms from a cut until reads see its upload


@dataclass(frozen=True)
class Flip:
    """An upload of the run: its cut (ms), and the position from which on reads see it."""

    cut: int
    position: int


def plan_uploads(logs: Mapping[str, Log]) -> list[Flip]:
    """Place the uploads along the log; positions count over all sources.

    Raises
    ------
    InputError
        If there is no row at all.
    """
    arrival, seq = together(logs)
    if not len(seq):
        message = "the events hold no row; give a log with some"
        raise InputError(message)
    first, last = int(arrival[0]), int(arrival[-1])
    found = []
    for share in UPLOADS:
        cut = first + int((last - first) * share)
        at = min(int(np.searchsorted(arrival, cut + FLIP_AFTER)), len(seq) - 1)
        found.append(Flip(cut, int(seq[at])))
    return found


def together(logs: Mapping[str, Log]) -> tuple[Ints, Ints]:
    """Return arrivals and sequence numbers of all sources' rows, in order of arrival."""
    seq = np.concatenate([each.seq for each in logs.values()])
    order = np.argsort(seq)
    return np.concatenate([each.arrival for each in logs.values()])[order], seq[order]


def choose_probes(plan: SetPlan, logs: Mapping[str, Log], flips: list[Flip], count: int, seed: int) -> pa.Table:
    """Choose `count` probes after the first upload.

    Returns
    -------
    pyarrow.Table
        Keys and request columns as the events hold them, ``t`` (ms) and ``asof`` (the position: every row
        with a sequence number up to it has been read), ascending by `asof`.

    Raises
    ------
    InputError
        If no row follows the first upload.
    """
    rng = np.random.default_rng(seed)
    arrival, seq = together(logs)
    later = np.flatnonzero(seq >= flips[0].position)
    if not len(later):
        message = f"only `{len(seq)}` events, none after the first upload; give a longer log"
        raise InputError(message)
    positions = np.sort(rng.choice(later, min(POSITIONS, len(later), count), replace=False))
    at = np.sort(rng.choice(positions, count))
    kind = rng.integers(0, 4, count)
    row = sound_rows(logs, seq)[near_rows(rng, at, kind, len(seq))]
    now = np.maximum.accumulate(arrival)[at]
    happened = event_times(logs, seq)[row]
    newest = np.searchsorted([each.position for each in flips], seq[at], side="right") - 1
    ends = np.array([max(log.source.batch_end(each.cut) for log in logs.values()) for each in flips])[newest]
    t = np.maximum(instants(rng, plan, kind, now, happened, ends), ends)
    columns = {"t": pa.array(t), "asof": pa.array(seq[at])}
    return pa.table({**cells_at(plan, logs, seq[row], rng), **columns})


def near_rows(rng: np.random.Generator, at: Ints, kind: Ints, rows: int) -> Ints:
    """Choose the row whose entities are read: the next one, one just read, one soon after, or any."""
    nearby = [
        at + 1,
        at - rng.integers(0, 20, len(at)),
        at + 1 + rng.integers(0, 20, len(at)),
        rng.integers(0, rows, len(at)),
    ]
    found: Ints = np.clip(np.choose(kind, nearby), 0, rows - 1)
    return found


def sound_rows(logs: Mapping[str, Log], seq: Ints) -> Ints:
    """Return for each row itself, or the last one before it (else the first after) that is not quarantined."""
    sound = np.zeros(len(seq), np.bool_)
    for log in logs.values():
        sound[np.searchsorted(seq, log.seq)] = log.sound
    places = np.flatnonzero(sound)
    if not len(places):
        message = f"all `{len(seq)}` events are quarantined; correct the events or the source's types"
        raise InputError(message)
    found: Ints = places[np.maximum(np.searchsorted(places, np.arange(len(seq)), side="right") - 1, 0)]
    return found


def event_times(logs: Mapping[str, Log], seq: Ints) -> Ints:
    """Return the event time of each row, ms; of a quarantined one its arrival."""
    found = np.empty(len(seq), np.int64)
    for log in logs.values():
        found[np.searchsorted(seq, log.seq)] = np.where(log.sound, log.ts, log.arrival)
    return found


def instants(rng: np.random.Generator, plan: SetPlan, kind: Ints, now: Ints, happened: Ints, ends: Ints) -> Ints:
    """Choose instants: the event's own, about now, on edges of windows and tiles, long after, or by `batch_end`."""
    windows = list({each.window for view in plan.views for each in view.features})
    window = rng.integers(0, len(windows), len(now))
    size, hop, delay = (
        np.array([getattr(each, name) for each in windows])[window] for name in ("finite_size", "hop", "delay")
    )
    nudge = rng.integers(-1, 2, len(now))
    own = happened + rng.integers(0, 2, len(now))
    silent = now + rng.integers(0, 40 * DAY, len(now)) * (rng.integers(0, 8, len(now)) == 0)
    edge = happened + delay + nudge  # the event at the head
    leaves = (happened // hop + 1) * hop + size + delay + nudge  # its tile at the tail
    on_tile = (now // hop) * hop + nudge
    closed = ends + rng.integers(0, 2, len(now)) * (size + delay) + nudge  # closed tiles end at the head, or the tail
    return np.choose(
        np.where(kind == 0, rng.integers(0, 2, len(now)) * 4, 1 + rng.integers(0, 5, len(now))),
        [own, silent, leaves, on_tile, edge, closed],
    )


def cells_at(plan: SetPlan, logs: Mapping[str, Log], seq: Ints, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Return keys and request columns: those of the row itself, where its source has them, else of any row."""
    keys = {asked.name: key.name for view in plan.reads for asked, key in zip(view.spine_keys, view.keys, strict=True)}
    wanted = {**{each.name: each.name for each in plan.request}, **keys}
    found: dict[str, pa.Array] = {}
    for name, column in wanted.items():
        owners = [each for each in logs.values() if column in each.table.column_names]
        if not owners:
            found[name] = requested(next(each for each in plan.request if each.name == name), len(seq), rng)
            continue
        found[name] = cells_of(column, owners, seq, rng)
        if name in keys:
            strangers = pa.array(rng.random(len(seq)) < STRANGERS)
            found[name] = pc.if_else(strangers, stranger([each.table[column] for each in owners]), found[name])
    return found


def requested(column: ColumnPlan, n: int, rng: np.random.Generator) -> pa.Array:
    """Draw values of a request column that no source has: few, so that they meet, and nulls."""
    lo, hi = column.type.bounds
    small = [each for each in (0, 1, 2, -1) if lo <= each * column.type.units <= hi]
    kinds: dict[str, tuple[list[Any], pa.DataType]] = {
        "string": (["", "a", "é", "0"], pa.string()), "bool": ([True, False], pa.bool_()), "float": (small, pa.float64()),
    }  # fmt: skip
    values, kind = kinds.get(column.type.kind, (small, pa.int64()))
    return pa.array([([*values, None])[each] for each in rng.integers(0, len(values) + 1, n)], kind)


def stranger(columns: Sequence[pa.ChunkedArray]) -> pa.Scalar:
    """Return a key that no event has; null where the type is no number and no text."""
    kind = columns[0].type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.scalar("nobody's", kind)
    if pa.types.is_integer(kind):
        taken = {key for each in columns for key in each.unique().to_pylist()}
        return pa.scalar(next(each for each in range(len(taken) + 1) if each not in taken), kind)
    return pa.scalar(None, kind)


def cells_of(name: str, owners: list[Log], seq: Ints, rng: np.random.Generator) -> pa.Array:
    """Return one column's cells at the given rows; a row of a source without the column takes a random row's."""
    pieces = [each.table[name].filter(pa.array(each.sound)) for each in owners]
    column = pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks])
    numbers = np.concatenate([each.seq[each.sound] for each in owners])
    order = np.argsort(numbers)
    at = np.minimum(np.searchsorted(numbers[order], seq), len(numbers) - 1)
    mine = numbers[order][at] == seq
    rows: NDArray[np.int64] = order[np.where(mine, at, rng.integers(0, len(numbers), len(seq)))]
    return column.take(pa.array(rows)).combine_chunks()
