"""From columns to the network's input: which columns, in which order, as which numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unskew.pipelines.errors import InputError, ModelError, nearest
from unskew.pipelines.manifest import MANIFEST
from unskew.pipelines.plan import SetPlan

NUMERIC = ("int", "float", "bool", "decimal")


@dataclass(frozen=True)
class Column:
    """A column that the network reads.

    Attributes
    ----------
    name
        Full name of a feature, of a derived feature or of a request column.
    size
        k for a list of at most k values; 0 for a plain value.
    units
        Of a request column that is no feature: values are rounded to whole 1/units, as the plan encodes them, so
        that 85.64999999999999 and a decimal 85.65 give the same score. 0: as is.
    """

    name: str
    size: int = 0
    units: int = 0

    @property
    def width(self) -> int:
        """Number of values in a row."""
        return max(self.size, 1)


@dataclass(frozen=True)
class Inputs:
    """What the network reads of a set, in order, and what it leaves out.

    Attributes
    ----------
    columns
        Request columns, features, derived features; each in the order of the plan.
    ignored
        Names of strings, timestamps and lists of them: no number that a network can use.
    """

    columns: tuple[Column, ...]
    ignored: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of values in a row, F."""
        return sum(each.width for each in self.columns)


def inputs_of(plan: SetPlan) -> Inputs:
    """Choose the numeric columns of a set.

    Raises
    ------
    ModelError
        If there are none.
    """
    found: list[Column] = []
    ignored: list[str] = []
    for request in plan.request:
        column = Column(request.name, units=0 if request.type.kind in ("int", "bool") else request.type.units)
        _sort_out(column, request.type.kind, found, ignored)
    for name, feature in plan.features().items():
        size = feature.parameters[0] if feature.type.repeated else 0
        _sort_out(Column(name, size), "map" if feature.type.key else feature.type.kind, found, ignored)
    found += [Column(each.name) for each in plan.derived]
    if not found:
        message = f"set `{plan.name}` has no numeric feature; a model needs one at least"
        raise ModelError(message)
    return Inputs(tuple(found), tuple(ignored))


def _sort_out(column: Column, kind: str, found: list[Column], ignored: list[str]) -> None:
    """Put a column where its kind belongs."""
    if kind in NUMERIC:
        found.append(column)
    else:
        ignored.append(column.name)


def matrix(inputs: Inputs, columns: pa.Table | Mapping[str, Any]) -> NDArray[np.float64]:
    """Return (N, F) float64 values, NaN for null.

    Parameters
    ----------
    columns
        An Arrow table, or for each name a sequence of N values; a plain value (or one list, for a list column) is
        one row. Lists shorter than their size are filled up with NaN.

    Raises
    ------
    ModelError
        If a column is missing, holds no numbers (or lists where none are expected), or has another number of rows than the others.
    """
    names = columns.column_names if isinstance(columns, pa.Table) else columns.keys()
    parts: list[NDArray[np.float64]] = []
    for each in inputs.columns:
        if each.name not in names:
            message = f"column `{each.name}` that the model reads is missing; {nearest(each.name, names)}"
            raise ModelError(message)
        try:
            part = _part(each, columns[each.name])
        except (pa.ArrowException, TypeError, ValueError) as error:
            message = (
                f"column `{each.name}` holds no numbers: {str(error).splitlines()[0]}; give what the backfill gives"
            )
            raise ModelError(message) from error
        if parts and len(part) != len(parts[0]):
            message = (
                f"column `{each.name}` has {len(part)} rows, others have {len(parts[0])}; give the same rows of all"
            )
            raise ModelError(message)
        parts.append(part)
    return np.concatenate(parts, axis=1)


def _part(column: Column, value: Any) -> NDArray[np.float64]:
    """Return (N, size) values of one column."""
    plain = value is None or np.isscalar(value)
    if plain:
        # One row of a request: Arrow would take longer than the model.
        found = np.full((1, column.width), np.nan if value is None else float(value))
    else:
        found = _values(column, _arrow(value, column.size))
    if column.units:
        # Divided, not multiplied by 0.01: the one float nearest to the decimal.
        found = np.floor(found * column.units + 0.5) / column.units
    return found


def _arrow(value: Any, size: int) -> pa.Array:
    """Return a column as one Arrow array; a list column may come as the one list of one row."""
    if isinstance(value, pa.ChunkedArray):
        return value.combine_chunks()
    if isinstance(value, pa.Array):
        return value
    nested = any(not np.isscalar(each) for each in value)
    return pa.array(value if not size or nested else [value], from_pandas=True)


def _values(column: Column, array: pa.Array) -> NDArray[np.float64]:
    """Return (N, size) values of an array."""
    found = np.full((len(array), column.width), np.nan)
    if pa.types.is_null(array.type):
        return found
    if pa.types.is_list(array.type) != (column.size > 0):
        message = f"found `{array.type}`"
        raise TypeError(message)
    if not column.size:
        return _floats(array)[:, None]
    row = pc.list_parent_indices(array).to_numpy()
    # Position within its list: how far behind the first entry of the same row.
    position = np.arange(len(row)) - np.searchsorted(row, row)
    inside = position < column.size
    found[row[inside], position[inside]] = _floats(array.flatten())[inside]
    return found


def _floats(array: pa.Array) -> NDArray[np.float64]:
    """Return (N,) values, NaN for null."""
    if not (pa.types.is_primitive(array.type) or pa.types.is_decimal(array.type)) or pa.types.is_temporal(array.type):
        message = f"found `{array.type}`"
        raise TypeError(message)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    values = array.cast(pa.float64(), safe=False).fill_null(float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)


def read_training_set(source: pa.Table | str | Path, plan: SetPlan) -> pa.Table:
    """Return the rows of a training set, after a check that it was made by these definitions.

    Parameters
    ----------
    source
        What `unskew.backfill.training.backfill` gave, or the folder that it wrote.

    Raises
    ------
    InputError
        If the folder is no training set, or of other definitions; named are the features that differ.
    """
    if isinstance(source, pa.Table):
        return source
    folder = Path(source)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        stamped = dict(manifest["fingerprints"])
        table = pa.concat_tables([pq.read_table(each) for each in sorted(folder.glob("*.parquet"))])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"folder `{folder}` is no training set; give the output of `unskew backfill`"
        raise InputError(message) from error
    if manifest.get("fingerprint") != plan.fingerprint:
        reason = differences(plan.fingerprints(), stamped) or "its request columns differ"
        message = (
            f"training set `{folder}` is of other definitions than set `{plan.name}`: {reason}; run the backfill again"
        )
        raise InputError(message)
    return table


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Say which of the wanted features have another fingerprint or none; empty where none differs."""
    changed = [each for each in wanted if each in found and found[each] != wanted[each]]
    missing = [each for each in wanted if each not in found]
    parts = [(changed, "changed"), (missing, "missing")]
    return "; ".join(f"{len(names)} {word} ({quoted(names)})" for names, word in parts if names)


def quoted(names: list[str]) -> str:
    """Quote the first few names."""
    shown = ", ".join(f"`{each}`" for each in names[:5])
    return shown + (", ..." if len(names) > 5 else "")  # noqa: PLR2004 - as above


def labels_of(table: pa.Table, label: str) -> NDArray[np.int64]:
    """Return (N,) labels, 0 or 1, of a boolean or integer column.

    Raises
    ------
    InputError
        If the column is missing, has nulls or other values.
    """
    if label not in table.column_names:
        message = f"label column `{label}` is missing in the training set; {nearest(label, table.column_names)}"
        raise InputError(message)
    column = table[label]
    if not (pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)):
        message = f"label column `{label}` is `{column.type}`; give booleans, or the integers 0 and 1"
        raise InputError(message)
    if column.null_count:
        message = f"label column `{label}` has {column.null_count} null(s); leave out rows whose label is not known"
        raise InputError(message)
    values = np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)
    other = values[(values != 0) & (values != 1)]
    if len(other):
        message = f"label column `{label}` holds `{other[0]}`; only 0 and 1 are labels"
        raise InputError(message)
    return values


def times_of(table: pa.Table, time: str) -> NDArray[np.int64]:
    """Return (N,) epoch ms of a timestamp or int64 ms column; finer instants are floored.

    Raises
    ------
    InputError
        If the column is missing, has nulls or is neither.
    """
    if time not in table.column_names:
        message = f"time column `{time}` is missing in the training set; {nearest(time, table.column_names)}"
        raise InputError(message)
    column = table[time]
    if column.null_count or not (pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type)):
        message = (
            f"time column `{time}` is `{column.type}` with {column.null_count} null(s); give timestamps or int64 ms"
        )
        raise InputError(message)
    if pa.types.is_timestamp(column.type):
        per_ms = {"s": 1 / 1000, "ms": 1, "us": 1_000, "ns": 1_000_000}[column.type.unit]
        ticks = np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)
        return ticks * 1000 if per_ms < 1 else ticks // int(per_ms)
    return np.asarray(column.to_numpy(), np.int64)
