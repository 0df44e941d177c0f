"""Laws: states merge in any grouping and order, inverses undo, and no size, split or order of the work changes a bit."""

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.conformance.cases import STREAMED
from tests.conformance.test_batch import spine_table, table
from tests.depth import DEPTH
from tests.online.stream_rows import stream_rows
from tests.simulation.world import PLAN, SOURCE, START, VIEW, draw_rows
from tests.strategies import World
from unskew.backfill import bucket, events, training
from unskew.backfill import upload as uploads
from unskew.backfill.training import backfill
from unskew.backfill.upload import upload
from unskew.backfill.window_states import Column, field_state
from unskew.online import kernels
from unskew.online.asked import entity_key
from unskew.online.materialise import Materialiser
from unskew.online.multisets import merged
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines import plan
from unskew.pipelines.nodes import literal
from unskew.pipelines.states import LISTS, SCALARS, FieldKind, StateField, Values
from unskew.pipelines.timegrid import DAY

ONE = literal(1)
quick = settings(deadline=None, max_examples=100 * DEPTH)  # the first call compiles
KINDS = {"add": kernels.ADD, "min": kernels.MIN, "max": kernels.MAX, "first": kernels.FIRST, "last": kernels.LAST}
columns = st.lists(st.none() | st.integers(-3, 3) | st.integers(-(2**40), 2**40), max_size=30).map(
    lambda cells: Column(
        np.array([each or 0 for each in cells], np.int64), np.array([each is not None for each in cells], np.bool_),
        inner=(Column(np.arange(len(cells)), np.ones(len(cells), np.bool_)),),
    )
)  # fmt: skip


def state(kind: FieldKind, column: Column, lo: int, hi: int) -> Values:
    inner = (StateField("add", ONE), StateField("max", ONE)) if kind == "multiset" else ()
    own = Column(column.data, column.valid, None, column.inner * len(inner))
    return field_state(StateField(kind, ONE, 3, inner), own, np.array([lo]), np.array([hi]), None, kind == "multiset")


def cell(found: Values) -> int | None:
    return int(found.data[0]) if found.valid[0] else None


@pytest.mark.parametrize("kind", SCALARS)
@quick
@given(column=columns, data=st.data())
def test_scalars_merge_in_any_grouping(kind: FieldKind, column: Column, data: st.DataObject) -> None:
    n = len(column.data)
    bounds = sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=5)))
    parts = [cell(state(kind, column, *pair)) for pair in pairwise(bounds)]
    known = [each for each in parts if each is not None]
    forward: int | None = 0 if kind == "add" else None
    for each in known:
        forward = int(kernels.merged(KINDS[kind], forward is not None, forward or 0, each))
    assert forward == cell(state(kind, column, bounds[0], bounds[-1]))
    if kind in ("add", "min", "max"):  # these do not depend on the order
        backward: int | None = 0 if kind == "add" else None
        for each in reversed(known):
            backward = int(kernels.merged(KINDS[kind], backward is not None, backward or 0, each))
        assert backward == forward
    if kind == "add":
        whole, left, right = (
            cell(state(kind, column, *pair)) or 0 for pair in ((0, n), (0, bounds[0]), (bounds[0], n))
        )
        assert whole - left == right


@quick
@given(columns, st.data())
def test_multisets_merge_by_value_and_their_counts_have_inverses(column: Column, data: st.DataObject) -> None:
    middle = data.draw(st.integers(0, len(column.data)))
    whole = state("multiset", column, 0, len(column.data))
    parts = [state("multiset", column, 0, middle), state("multiset", column, middle, len(column.data))]
    values = np.concatenate([each.data for each in parts]).astype(np.int64)
    order = np.argsort(values, kind="stable")
    at = np.flatnonzero(np.diff(values[order], prepend=values[order][:1] - 1)) if len(order) else np.zeros(0, np.int64)
    assert values[order][at].tolist() == whole.data.tolist()

    def together(kind: str, pieces: Sequence[NDArray[np.int64]]) -> list[int]:
        return merged(kind, np.concatenate(pieces)[order], np.ones(len(order), np.bool_), at)[0].tolist()  # type: ignore[no-any-return]

    counts = [each.counts for each in parts if each.counts is not None]
    assert whole.counts is not None
    assert together("add", counts) == whole.counts.tolist()
    assert together("add", [each.inner[0].data.astype(np.int64) for each in parts]) == whole.inner[0].data.tolist()
    assert together("max", [each.inner[1].data.astype(np.int64) for each in parts]) == whole.inner[1].data.tolist()
    left = dict(zip(parts[0].data.tolist(), counts[0].tolist(), strict=True))
    rest = {key: n - left.get(key, 0) for key, n in zip(whole.data.tolist(), whole.counts.tolist(), strict=True)}
    assert {key: n for key, n in rest.items() if n} == dict(
        zip(parts[1].data.tolist(), counts[1].tolist(), strict=True)
    )


@pytest.mark.parametrize("kind", LISTS)
@quick
@given(column=columns, data=st.data())
def test_lists_are_the_best_of_their_parts(kind: FieldKind, column: Column, data: st.DataObject) -> None:
    middle = data.draw(st.integers(0, len(column.data)))
    states = [state(kind, column, *pair) for pair in ((0, len(column.data)), (0, middle), (middle, len(column.data)))]
    assert [each.valid.tolist() for each in states] == [[len(each.data) > 0] for each in states]
    whole, left, right = (each.data.tolist() for each in states)
    found = {
        "first_k": [*left, *right], "last_k": [*right, *left],
        "top_k": sorted([*left, *right], reverse=True), "bottom_k": sorted([*left, *right]),
    }  # fmt: skip
    assert found[kind][:3] == whole


def records_of(rows: Sequence[dict[str, Any]], cuts: Sequence[int]) -> list[bytes]:
    """Return the open records after the stream's rows came in batches that end at these positions."""
    with SqliteStore(":memory:") as store:
        writer = Materialiser(store, PLAN, SOURCE.name, "job", version_life=2**60)
        batch = stream_rows(PLAN, SOURCE.name, rows)[VIEW.name]
        for low, high in zip([0, *cuts], [*cuts, len(rows)], strict=True):
            part = [(each, sliced(table, low, high)) for each, table in batch]
            writer.apply({VIEW.name: part})
        return store.open_records("job", VIEW.name, [entity_key([who]) for who in (1, 2)])


def sliced(rows: pa.Table, low: int, high: int) -> pa.Table:
    lo, hi = np.searchsorted(rows["seq"].to_numpy(), [low, high])
    return rows.slice(lo, hi - lo)


@settings(max_examples=50 * DEPTH, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 24), max_size=4))
def test_any_batches_of_the_stream_give_the_same_records(seed: int, cuts: list[int]) -> None:
    rows = draw_rows(random.Random(seed), 24)  # noqa: S311
    rows.sort(key=lambda row: row["seen"])
    assert records_of(rows, sorted(cuts)) == records_of(rows, [])


def test_no_size_of_batches_buckets_and_chunks_changes_a_bit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = plan(STREAMED)
    draw = random.Random(5)  # noqa: S311
    rows = [
        {"id": n, "part": "a", "ts": START + draw.randrange(3 * DAY), "who": draw.choice((1, 2, 3)), "where": draw.choice("ab"),
         "i": draw.choice((None, -5, 0, 7)), "big": draw.choice((None, -(2**40), 1)), "b": draw.choice((None, True, False)),
         "s": draw.choice(("", "é", "b", None)), "at": draw.choice((None, 0, 10**12))}
        for n in range(300)
    ]  # fmt: skip
    spine = [
        {"t": START + draw.randrange(4 * DAY), "who": draw.choice((1, 2, 3)), "where": draw.choice("ab")}
        for _ in range(100)
    ]
    logs = {each.name: table(each.columns, rows) for each in found.sources}
    asked = spine_table(found, World({}, spine))
    expected = backfill(found, logs, asked)
    upload(found, logs, output=tmp_path / "usual", cut=START + 4 * DAY)
    for rows_per_batch, buckets, entries in ((100, 3, 1),):
        monkeypatch.setattr(events, "ROWS_PER_BATCH", rows_per_batch)
        monkeypatch.setattr(bucket, "ENTRIES_AT_ONCE", entries)
        for module in (training, uploads):
            monkeypatch.setattr(module, "buckets", lambda _, buckets=buckets: buckets)
        assert backfill(found, logs, asked).equals(expected)
        upload(found, logs, output=tmp_path / f"{buckets}", cut=START + 4 * DAY)
        for view in found.views:
            assert packed(tmp_path / f"{buckets}" / view.name) == packed(tmp_path / "usual" / view.name)


def packed(folder: Path) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in pq.read_table(folder).to_pylist())
