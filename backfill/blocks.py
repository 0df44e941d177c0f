"""Blocks of a training set: some rows of the spine, the features of all views in their order, what is derived.

Features arrive in the order of each bucket's kernels, (entity, t); a block puts them at their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from unskew.backfill.events import encode_columns
from unskew.backfill.kernels import Ints, scatter_bits
from unskew.backfill.order import flat
from unskew.pipelines.arrow import to_arrow
from unskew.pipelines.derived import evaluate, features_read
from unskew.pipelines.errors import EngineError
from unskew.pipelines.plan import FeaturePlan, SetPlan
from unskew.pipelines.states import FeatureType, Values, prefix_sums

WORD = 8  # bytes of the types that are scattered; others are few and taken by Arrow


def training_block(
    plan: SetPlan,
    spine: pa.Table,
    first: int,
    parts: Mapping[str, Sequence[pa.Table]],
    kept: pa.Table | None = None,
) -> pa.Table:
    """Join spine, features and derived features of one block.

    Parameters
    ----------
    spine
        The block's rows as given, (n,).
    first
        Number of its first row in the whole spine.
    parts
        By view: tables of ``__row``, ascending, and features, the view's among them; they may hold other blocks' rows.
    kept
        Features that are taken over, in the block's order of rows.

    Raises
    ------
    EngineError
        If a row has not just one value of each feature.
    """
    result = spine
    known = set() if kept is None else set(kept.column_names)
    for view in plan.reads:
        found = [within(each, first, spine.num_rows) for each in parts.get(view.name, ())]
        rows = sum(len(target) for _, target in found)
        if rows != spine.num_rows and not known.issuperset(each.name for each in view.features):
            message = (
                f"view `{view.name}` gave {rows} rows for {spine.num_rows} of the spine: Beam's runner lost some; "
                "run again with --direct_running_mode=in_memory and please report this"
            )
            raise EngineError(message)
        for feature in view.features:
            if kept is not None and feature.name in known:
                result = result.append_column(feature.name, kept[feature.name])
                continue
            pieces = [(flat(each[feature.name]), target) for each, target in found]
            result = result.append_column(feature.name, placed(feature, pieces, rows))
    if not plan.derived:
        return result
    columns = derived_inputs(plan, spine, result)
    for each in plan.derived:
        value = to_arrow(evaluate(each.expression, columns, spine.num_rows), FeatureType("float"), None)
        result = result.append_column(each.name, value)
    return result


def within(part: pa.Table, first: int, rows: int) -> tuple[pa.Table, Ints]:
    """Return a part's rows of the block, and where in the block they belong."""
    row = flat(part["__row"]).to_numpy()
    lo, hi = np.searchsorted(row, (first, first + rows))
    return part.slice(lo, hi - lo), row[lo:hi] - first


def placed(feature: FeaturePlan, pieces: Sequence[tuple[pa.Array, Ints]], rows: int) -> pa.Array:
    """Return a feature of one block from the parts that have its rows."""
    if not pieces:
        none = np.zeros(0, np.int64)
        offsets = None if feature.type.scalar else np.zeros(1, np.int64)
        strings = pa.array([], pa.string()) if "string" in (feature.type.kind, feature.type.key) else None
        return to_arrow(Values(none, np.zeros(0, np.bool_), offsets), feature.type, strings)
    kind = pieces[0][0].type
    if not pa.types.is_primitive(kind) or kind.bit_width != WORD * 8:
        order = np.argsort(np.concatenate([target for _, target in pieces]))
        return pa.concat_arrays([each for each, _ in pieces]).take(pa.array(order))
    out = np.empty(rows, np.int64)
    valid = np.ones(rows, np.bool_) if any(each.null_count for each, _ in pieces) else None
    for each, target in pieces:
        if len(each):
            out[target] = np.frombuffer(each.buffers()[1], np.int64, len(each), each.offset * WORD)
        if valid is not None and each.null_count:
            scatter_bits(np.frombuffer(each.buffers()[0], np.uint8), each.offset, target, valid)
    bits = None if valid is None else pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(kind, rows, [bits, pa.py_buffer(out)])


def derived_inputs(plan: SetPlan, spine: pa.Table, features: pa.Table) -> dict[str, Values]:
    """Return what the derived features read, as arrays: features, and encoded columns of the request."""
    read = sorted(set().union(*(features_read(each.expression) for each in plan.derived)))
    found = {each: as_values(features[each]) for each in read}
    if plan.request:
        coded = encode_columns(spine, plan.request)
        found |= {each.name: as_values(coded[each.name]) for each in plan.request}
    return found


def as_values(column: pa.ChunkedArray) -> Values:
    """Return a column as an array with its nulls apart; of a list its numbers and their bounds."""
    valid = column.is_valid().to_numpy().astype(np.bool_, copy=False)
    if pa.types.is_list(column.type):
        lists = flat(column)
        sizes = lists.value_lengths().fill_null(0).to_numpy()
        entries = as_values(pa.chunked_array([lists.flatten()])).data
        return Values(entries, valid, prefix_sums(sizes))
    if pa.types.is_string(column.type):
        return Values(column.to_numpy(), valid)
    if pa.types.is_timestamp(column.type) or pa.types.is_boolean(column.type):
        column = column.cast(pa.int64())
    zero = pa.scalar(0, column.type)
    return Values(column.fill_null(zero).to_numpy(), valid)
