"""Records hold what was packed into them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.cases import EVERYTHING
from unskew.feature_defs.fraud import fraud
from unskew.pipelines import plan
from unskew.pipelines.records import Layout, Rows, ascending, closed_layout, open_layout, pack, unpack

LAYOUTS = [closed_layout(view) for each in (EVERYTHING, fraud) for view in plan(each).views]
LAYOUTS += [open_layout(view, [True, False]) for view in plan(EVERYTHING).views]


@st.composite
def packed(draw: st.DrawFn) -> tuple[Layout, list[Rows], int, list[str]]:
    layout = draw(st.sampled_from(LAYOUTS))
    records = draw(st.integers(0, 4))
    strings = ascending(draw(st.lists(st.text(max_size=3), max_size=4)))
    rows = []
    for section in layout.sections:
        n = draw(st.integers(0, 5)) if records else 0
        owner = np.sort(draw(st.lists(st.integers(0, max(records - 1, 0)), min_size=n, max_size=n)))
        numbers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n)
        places = st.lists(st.integers(-1, len(strings) - 1), min_size=n, max_size=n)
        columns = {
            each: np.array(draw(places if each in section.strings else numbers), np.int64) for each in section.columns
        }
        rows.append(Rows.of(owner.astype(np.int64), columns))
    return layout, rows, records, strings


def text(rows: Rows, name: str, strings: list[str]) -> list[str | None]:
    return [strings[each] if each >= 0 else None for each in rows.column(name)]


@given(packed())
def test_unpack_gives_back_what_was_packed(drawn: tuple[Layout, list[Rows], int, list[str]]) -> None:
    layout, rows, records, strings = drawn
    blobs = pack(layout, rows, records, strings)
    assert len(blobs) == records
    assert all(len(each) % 8 == 0 for each in blobs)
    found, named = unpack(layout, blobs)
    for section, left, right in zip(layout.sections, rows, found, strict=True):
        assert left.record.tolist() == right.record.tolist()
        for name in section.columns:
            if name in section.strings:
                assert text(left, name, strings) == text(right, name, named)
            else:
                assert left.column(name).tolist() == right.column(name).tolist()


def test_a_layout_survives_json() -> None:
    assert [Layout.from_json(each.to_json()) for each in LAYOUTS] == LAYOUTS
