"""Columns of an online read: blocks of features that were finished together, and a column of each when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unskew.pipelines.arrow import to_arrow
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.states import FeatureType, Values


@dataclass(frozen=True)
class Column:
    """One feature's values over the rows of a request; `texts` are what the codes of a text stand for."""

    values: Values
    texts: Sequence[str] | None = None

    def with_texts(self) -> Values:
        """Return the values; strings themselves instead of their codes."""
        if self.texts is None:
            return self.values
        texts = np.array([*self.texts, ""], object)
        return Values(texts[self.values.data.astype(np.int64)], self.values.valid, self.values.offsets)

    def cells(self, rows: int | None = None) -> list[Any]:
        """Return the first rows' values, or all, as Python objects: instants in ms, lists, maps as dictionaries."""
        valid: list[bool] = self.values.valid[:rows].tolist()
        if self.values.offsets is not None:
            return self.lists(valid, self.values.offsets[: len(valid) + 1].tolist())
        data: list[Any] = self.values.data[: len(valid)].tolist()
        if self.texts is not None:
            return [self.texts[int(each)] if known else None for each, known in zip(data, valid, strict=True)]
        return data if all(valid) else [each if known else None for each, known in zip(data, valid, strict=True)]

    def taken(self, rows: Sequence[int]) -> Column:
        """Return the column of some of the rows."""
        values, own = self.values, list(rows)
        if values.offsets is None:
            return Column(Values(values.data[own], values.valid[own]), self.texts)
        starts, sizes = values.offsets[own], np.diff(values.offsets)[own]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        inner = tuple(Values(each.data[places], each.valid[places]) for each in values.inner)
        return Column(Values(values.data[places], values.valid[own], offsets, None, inner), self.texts)

    def lists(self, valid: Sequence[bool], offsets: Sequence[int]) -> list[Any]:
        """Return lists, or maps where the values have an inner column."""
        data: list[Any] = self.values.data[: offsets[-1]].tolist()
        if self.texts is not None:
            data = [self.texts[int(each)] for each in data]
        if not self.values.inner:
            return [data[lo:hi] if known else None for known, (lo, hi) in zip(valid, pairwise(offsets), strict=True)]
        items: list[Any] = self.values.inner[0].data[: offsets[-1]].tolist()
        return [
            dict(zip(data[lo:hi], items[lo:hi], strict=True)) if known else None
            for known, (lo, hi) in zip(valid, pairwise(offsets), strict=True)
        ]


@dataclass(frozen=True)
class Block:
    """Features of one type over R requests.

    Parameters
    ----------
    names
        (f,) their names.
    data, valid
        (f, R) values, and False where null.
    texts
        What the codes of texts stand for.
    """

    names: tuple[str, ...]
    data: NDArray[np.generic]
    valid: NDArray[np.bool_]
    texts: Sequence[str] | None = None

    def column(self, nth: int) -> Column:
        """Return one of the features."""
        return Column(Values(self.data[nth], self.valid[nth]), self.texts)

    def cells(self, rows: int | None = None) -> list[list[Any]]:
        """Return the cells of each feature, as `Column.cells` does."""
        if self.texts is not None:
            return [self.column(nth).cells(rows) for nth in range(len(self.names))]
        data, valid = self.data[:, :rows], self.valid[:, :rows]
        if np.count_nonzero(valid) < valid.size:  # takes a tenth of `all`
            data = data.astype(object)
            data[~valid] = None
        found: list[list[Any]] = data.tolist()
        return found

    def arrays(self, kind: FeatureType) -> list[pa.Array]:
        """Return the features in Arrow: parts of one array."""
        flat = Values(self.data.reshape(-1), self.valid.reshape(-1))
        found, rows = to_arrow(flat, kind, strings_of(self.texts)), self.data.shape[1]
        return [found.slice(nth * rows, rows) for nth in range(len(self.names))]


class Columns(Mapping[str, Column]):
    """The columns of a reading by full name.

    Parameters
    ----------
    types
        Of all features and derived features, in their order.
    blocks, others
        Where they are.
    """

    def __init__(self, types: Mapping[str, FeatureType], blocks: Sequence[Block], others: Mapping[str, Column]) -> None:
        self.types = types
        self.blocks = blocks
        self.others = others

    @cached_property
    def places(self) -> dict[str, tuple[Block, int]]:
        """Where the features of blocks are."""
        return {name: (block, nth) for block in self.blocks for nth, name in enumerate(block.names)}

    def __getitem__(self, name: str) -> Column:
        """Return one column."""
        if name in self.others:
            return self.others[name]
        block, nth = self.places[name]
        return block.column(nth)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.types)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.types)

    def cells(self, rows: int | None = None) -> dict[str, list[Any]]:
        """Return the first rows' values of each column, or all, as Python objects, in no order of the columns."""
        found = {name: column.cells(rows) for name, column in self.others.items()}
        for block in self.blocks:
            found.update(zip(block.names, block.cells(rows), strict=True))
        return found

    def arrays(self) -> dict[str, pa.Array]:
        """Return each column in Arrow, in no order of the columns."""
        found = {
            name: to_arrow(column.values, self.types[name], strings_of(column.texts))
            for name, column in self.others.items()
        }
        for block in self.blocks:
            found.update(zip(block.names, block.arrays(self.types[block.names[0]]), strict=True))
        return found


def strings_of(texts: Sequence[str] | None) -> pa.Array | None:
    """Return what codes stand for in Arrow."""
    return None if texts is None else pa.array(texts, pa.string())


def null_column(feature: FeaturePlan, rows: int) -> Column:
    """Return a feature that is null in all rows."""
    null, none = np.zeros(rows, np.bool_), Values(np.zeros(0, np.int64), np.zeros(0, np.bool_))
    if feature.type.scalar:
        return Column(Values(np.zeros(rows, np.int64), null), [] if feature.has_text else None)
    inner = (none,) if feature.type.key else ()
    return Column(Values(none.data, null, np.zeros(rows + 1, np.int64), None, inner), [] if feature.has_text else None)


def coded(values: Values, texts: Sequence[Sequence[str]]) -> Column:
    """Return a column whose codes, places in each request's texts, become places in one list."""
    sizes = np.array([len(each) for each in texts], np.int64)
    first = np.cumsum(sizes) - sizes
    codes = values.data.astype(np.int64)
    if values.offsets is None:
        codes = np.where(values.valid, codes + first, 0)
    else:
        codes = codes + np.repeat(first, np.diff(values.offsets))
    return Column(Values(codes, values.valid, values.offsets, None, values.inner), list(chain.from_iterable(texts)))


def typed(values: Values, feature: FeaturePlan) -> Values:
    """Return booleans as such; instants and numbers stay what they are."""
    kind = feature.type.key or feature.type.kind  # a map's values are numbers
    return Values(values.data != 0, values.valid, values.offsets, None, values.inner) if kind == "bool" else values
