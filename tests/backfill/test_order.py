"""Codes of entities and the order of rows are those of a plain sort of tuples."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unskew.backfill.order import ascending, entity_codes, ranks, repeated, sorted_rows

SMALL = st.integers(-2, 2) | st.sampled_from([-(2**63), 2**63 - 1])
TEXT = st.sampled_from(["", "a", "é", "\uffff", "😀"])  # U+FFFF and the face: UTF-8 and UTF-16 order them unlike
KEYS = st.tuples(SMALL | st.none(), TEXT | st.none())
SOUND = st.tuples(SMALL, TEXT)


def columns(rows: list[Any]) -> list[pa.ChunkedArray]:
    kinds = (pa.int64(), pa.string())
    return [pa.chunked_array([pa.array([row[at] for row in rows], kind)]) for at, kind in enumerate(kinds)]


@given(st.lists(KEYS, min_size=1, max_size=12), st.lists(SOUND, max_size=12))
def test_entities_are_equal_keys(asked: list[Any], events: list[Any]) -> None:
    codes, owners = entity_codes(columns(asked), columns(events))
    assert sorted(set(codes.tolist())) == list(range(len(set(asked))))
    named = dict(zip(asked, codes.tolist(), strict=True))
    assert [named[each] for each in asked] == codes.tolist()
    assert owners.tolist() == [named.get(each, -1) for each in events]


@pytest.mark.parametrize("wide", [1, 70_000])  # above 16 bits there is no radix pass
@given(st.lists(st.tuples(st.integers(0, 2), SMALL, SMALL), max_size=20), st.booleans())
def test_rows_are_sorted_as_tuples(wide: int, rows: list[tuple[int, int, int]], in_order: bool) -> None:
    if in_order:
        rows = sorted(rows, key=lambda row: row[1:])
    entity, ts, position = (np.array([row[at] for row in rows], np.int64) for at in range(3))
    found = sorted_rows(entity * wide, [ts, position])
    assert [rows[each] for each in found] == sorted(rows)
    assert ascending([ts, position]) == (sorted(row[1:] for row in rows) == [row[1:] for row in rows])


@given(st.lists(SOUND, max_size=12))
def test_strings_rank_by_their_bytes_and_repeats_are_seen(rows: list[tuple[int, str]]) -> None:
    numbers, texts = columns(rows)
    order = np.lexsort((ranks(texts),))
    assert [rows[each][1].encode() for each in order] == sorted(row[1].encode() for row in rows)
    assert repeated([numbers, texts]) == (len(set(rows)) < len(rows))
