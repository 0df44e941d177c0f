"""What a view costs: tiles and bytes of one busy entity, at most, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass

from unskew.pipelines.plan import SourcePlan, ViewPlan
from unskew.pipelines.records import HEADER, Layout, closed_layout, open_layout
from unskew.pipelines.timegrid import DAY, LIFETIME

WORD = 8  # bytes
DAYS_BETWEEN = 2 * DAY  # ms; an upload a day, and `batch_end` is floored to one


@dataclass(frozen=True)
class Cost:
    """Upper bounds for one entity that is active in every tile.

    Parameters
    ----------
    closed_tiles, open_tiles
        Rows of the uploaded record, and of the stream's since then: one version each.
    closed_bytes, open_bytes
        Their size, entries of lists included.
    bytes_per_value
        What each value of each multiset adds in each tile, closed or open, whichever is larger.
    """

    closed_tiles: int
    closed_bytes: int
    open_tiles: int
    open_bytes: int
    bytes_per_value: int


def view_cost(view: ViewPlan, source: SourcePlan) -> Cost:
    """Return what a view's tiles cost at most."""
    closed = {hop: tiles_of(view, hop) for hop in view.hops}
    open_tiles = -(-(source.allowed_lateness + DAYS_BETWEEN) // view.hop)
    texts = [source.column(each).type.kind == "string" for each in source.event_id]
    layouts = closed_layout(view), open_layout(view, texts)
    sizes = [size(layout, view, closed if side == 0 else {view.hop: open_tiles}) for side, layout in enumerate(layouts)]
    values = [len(each.columns) * WORD for layout in layouts for each in layout.sections if each.kind == "values"]
    return Cost(sum(closed.values()), sizes[0], open_tiles, sizes[1], max(values, default=0))


def tiles_of(view: ViewPlan, hop: int) -> int:
    """Return how many closed tiles of a grid the windows of a view reach; all before finite windows is one tile."""
    windows = [each.window for each in view.features if each.window.hop == hop]
    finite = max((each.finite_size + each.delay for each in windows), default=0)
    return -(-finite // hop) + any(each.size == LIFETIME for each in windows)


def size(layout: Layout, view: ViewPlan, tiles: dict[int, int]) -> int:
    """Return the bytes of a record without values of multisets."""
    words = HEADER + len(layout.sections)
    lists = {each.k for each in view.fields}
    for section in layout.sections:
        rows = {"tiles": 1, "values": 0, "entries": max(lists)}[section.kind] * tiles[section.hop]
        words += rows * len(section.columns)
    return words * WORD
