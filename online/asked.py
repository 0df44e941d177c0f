"""What a read is asked for: rows of keys and request columns, checked and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from unskew.pipelines.encoding import Cell, encode_cell
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import ColumnPlan, SetPlan
from unskew.pipelines.states import Values


@dataclass(frozen=True)
class Asked:
    """R encoded rows.

    Parameters
    ----------
    keys
        For each view that the set reads the (R,) entities, as keys of the store.
    cells
        For each request column the (R,) encoded values.
    """

    keys: Mapping[str, Sequence[bytes]]
    cells: Mapping[str, Sequence[Cell]]
    rows: int

    def taken(self, rows: Sequence[int]) -> Asked:
        """Return some of the rows."""
        keys = {name: [own[row] for row in rows] for name, own in self.keys.items()}
        return Asked(keys, {name: [own[row] for row in rows] for name, own in self.cells.items()}, len(rows))


class Form:
    """The columns that a set's reads need.

    Parameters
    ----------
    plan
        Of the set.
    """

    def __init__(self, plan: SetPlan) -> None:
        self.request = {each.name: each for each in plan.request}
        self.columns = plan.spine_keys() | self.request
        self.views: dict[tuple[ColumnPlan, ...], list[str]] = {}  # views of the same keys: an entity is encoded once
        for view in plan.reads:
            self.views.setdefault(view.spine_keys, []).append(view.name)

    def asked(self, rows: Sequence[Mapping[str, Any]]) -> Asked:
        """Check and encode rows.

        Raises
        ------
        InputError
            If there is no row, or a key or a request column is missing or refused by its type.
        """
        self.check(rows)
        keys: dict[str, Sequence[bytes]] = {}
        for columns, views in self.views.items():
            own = [entity_key([encode_cell(each, row[each.name]) for each in columns]) for row in rows]
            keys |= dict.fromkeys(views, own)
        cells = {name: [encode_cell(column, row[name]) for row in rows] for name, column in self.request.items()}
        return Asked(keys, cells, len(rows))

    def check(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Refuse rows without a key or a request column."""
        if not rows:
            message = "no rows were given; give at least one with the keys of the set's entities"
            raise InputError(message)
        for row in rows:
            for name in self.columns:
                if name not in row:
                    message = f"column `{name}` is missing in the request; it needs: {', '.join(f'`{each}`' for each in self.columns)}"
                    raise InputError(message)


def entity_key(cells: Sequence[object]) -> bytes:
    """Return an entity's encoded key cells as the store's key."""
    return orjson.dumps(cells)


def together(parts: Sequence[Asked]) -> Asked:
    """Return the rows of several requests of one set as one."""
    if len(parts) == 1:
        return parts[0]
    keys: dict[str, Sequence[bytes]] = {}
    for name in parts[0].keys:
        keys[name] = [key for each in parts for key in each.keys[name]]
    cells = {name: [cell for each in parts for cell in each.cells[name]] for name in parts[0].cells}
    return Asked(keys, cells, sum(each.rows for each in parts))


def request_values(column: ColumnPlan, cells: Sequence[Cell]) -> Values:
    """Return a request column as derived features take it."""
    valid = np.array([each is not None for each in cells])
    kind = object if column.type.kind == "string" else np.int64
    return Values(np.array([0 if each is None else each for each in cells], kind), valid)
