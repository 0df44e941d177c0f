"""Row expressions with types and ranges: the form that every engine compiles.

Binding lowers what the user wrote to the few primitive operations
over encoded values (`nodes`). Scales are aligned, hours and weekdays become integer division,
and every node carries the range of its value, so that nothing can pass 2**62.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product

from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.expr import Expr
from unskew.pipelines.nodes import (
    ARITHMETIC,
    Node,
    aligned,
    as_number,
    is_null_literal,
    literal,
    require,
    scaled,
    with_range,
)
from unskew.pipelines.timegrid import DAY, HOUR
from unskew.pipelines.types import Bool, DataType, Int64, String, Timestamp

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
DERIVED_ONLY = {"div": "`//` or ratio()", "log1p": "a derived feature", "clip": "if_else()"}
MONDAY_OFFSET = 3  # 1970-01-01 was a Thursday


Columns = Mapping[str, DataType]


def bind(expr: Expr, columns: Columns, projections: Mapping[str, Expr]) -> Node:
    """Type an expression against a source's columns.

    Parameters
    ----------
    expr
        What the user wrote.
    columns
        Type of each column of the source.
    projections
        Derived columns of the source, replaced by their expressions.

    Raises
    ------
    DefinitionError
        On an unknown column, a wrong type, an operation that only derived features have,
        or a value that could pass 2**62.
    """
    if expr.op == "column":
        return bind_column(str(expr.value), columns, projections)
    if expr.op == "literal":
        return literal(expr.value)
    if expr.op in ("request", "feature"):
        message = f"{expr.op} `{expr.value}` cannot stand in a row expression; use it in derived={{...}}"
        raise DefinitionError(message)
    if expr.op in DERIVED_ONLY:
        message = f"operation `{expr.op}` is not exact on rows; use {DERIVED_ONLY[expr.op]}"
        raise DefinitionError(message)
    args = tuple(bind(each, columns, projections) for each in expr.args)
    if expr.op == "cast":
        return cast(args[0], expr.value)
    return BINDERS[expr.op](expr.op, args)


def bind_column(name: str, columns: Columns, projections: Mapping[str, Expr]) -> Node:
    """Return the typed column, or the typed projection of that name."""
    if name in projections:
        rest = {key: value for key, value in projections.items() if key != name}
        return bind(projections[name], columns, rest)
    if name not in columns:
        message = f"column `{name}` is unknown; {nearest(name, [*columns, *projections])}"
        raise DefinitionError(message)
    return Node("column", columns[name], (), name)


def widest(args: tuple[Node, ...]) -> DataType:
    """Return the type of a choice between operands: the hull of their ranges."""
    first = args[0].type
    if first.kind == "string" or any(each.type.lo is None for each in args):
        return next((each.type for each in args if each.type.lo is None), first)
    present = [each.type.bounds for each in args if not is_null_literal(each)] or [(0, 0)]
    return replace(first, lo=min(lo for lo, _ in present), hi=max(hi for _, hi in present), precision=0, quantum=0.0)


def bind_arithmetic(op: str, args: tuple[Node, ...]) -> Node:
    """Type ``+ - * // %`` and derive the range of the result from its corners."""
    require(all(each.type.numeric for each in args), op, args)
    if op == "mul":
        kind = args[0].type if args[0].type.units != 1 else args[1].type
        result = replace(kind, units=args[0].type.units * args[1].type.units)
        corners = [a * b for a, b in product(args[0].type.bounds, args[1].type.bounds)]
        return Node(op, with_range(result, min(corners), max(corners)), args)
    left, right = aligned(op, args)
    (a_lo, a_hi), (b_lo, b_hi) = left.type.bounds, right.type.bounds
    if op == "add":
        return Node(op, with_range(left.type, a_lo + b_lo, a_hi + b_hi), (left, right))
    if op == "sub":
        return Node(op, with_range(left.type, a_lo - b_hi, a_hi - b_lo), (left, right))
    if op == "floordiv":
        largest = max(abs(a_lo), abs(a_hi))
        return Node(op, with_range(Int64, -largest - 1, largest), (left, right))
    return Node(op, with_range(left.type, min(b_lo, 0), max(b_hi, 0)), (left, right))


def bind_comparison(op: str, args: tuple[Node, ...]) -> Node:
    """Type a comparison; strings know only equality, for their order differs between engines."""
    left, right = aligned(op, args)
    ordered = left.type.kind not in ("string", "bool")
    require(ordered or op in ("eq", "ne"), op, args)
    return Node(op, Bool, (left, right))


def bind_logic(op: str, args: tuple[Node, ...]) -> Node:
    """Type three-valued logic."""
    require(all(each.type.kind == "bool" for each in args), op, args)
    return Node(op, Bool, args)


def bind_is_null(op: str, args: tuple[Node, ...]) -> Node:
    """Type a null test."""
    return Node(op, Bool, args)


def bind_choice(op: str, args: tuple[Node, ...]) -> Node:
    """Type `coalesce` and the branches of `if_else`."""
    condition, branches = (args[:1], args[1:]) if op == "if_else" else ((), args)
    require(all(each.type.kind == "bool" for each in condition) and len(branches) > 0, op, args)
    same = aligned(op, branches)
    return Node(op, widest(same), (*condition, *same))


def bind_isin(op: str, args: tuple[Node, ...]) -> Node:
    """Type a membership test: members must be exact in the unit of the value."""
    return Node(op, Bool, aligned(op, args))


def bind_date_part(op: str, args: tuple[Node, ...]) -> Node:
    """Lower an hour or a weekday to floored division on milliseconds, UTC."""
    require(args[0].type.kind == "timestamp", op, args)
    millis = replace(args[0], type=replace(Int64, lo=Timestamp.lo, hi=Timestamp.hi))
    if op == "hour_of_day":
        return bind_arithmetic("mod", (bind_arithmetic("floordiv", (millis, literal(HOUR))), literal(24)))
    days = bind_arithmetic("floordiv", (millis, literal(DAY)))
    return bind_arithmetic("mod", (bind_arithmetic("add", (days, literal(MONDAY_OFFSET))), literal(7)))


Binder = Callable[[str, tuple[Node, ...]], Node]
BINDERS: dict[str, Binder] = {
    **dict.fromkeys(ARITHMETIC, bind_arithmetic),
    **dict.fromkeys(COMPARISONS, bind_comparison),
    **dict.fromkeys(("and", "or", "not"), bind_logic),
    **dict.fromkeys(("coalesce", "if_else"), bind_choice),
    **dict.fromkeys(("hour_of_day", "day_of_week"), bind_date_part),
    "is_null": bind_is_null,
    "isin": bind_isin,
}


def cast(node: Node, to: object) -> Node:
    """Convert between numbers (floored to fewer digits), booleans and integers to strings."""
    if not isinstance(to, DataType):
        message = f"cast to `{to!r}` is no type; use Int64, Decimal(p, s) or String"
        raise DefinitionError(message)
    if node.type.kind == to.kind and node.type.units == to.units:
        return node
    if node.type.kind == "int" and to.kind == "string":
        return Node("to_string", String, (node,))
    if node.type.kind == "bool" and to.kind == "int":
        return as_number(node)
    require(node.type.numeric and to.kind in ("int", "decimal"), f"cast to {to}", (node,))
    fine = scaled(node, math.lcm(node.type.units, to.units))
    factor = fine.type.units // to.units
    if factor > 1:
        raw = replace(fine, type=replace(fine.type, kind="int", units=1))
        fine = bind_arithmetic("floordiv", (raw, literal(factor)))
    return replace(fine, type=replace(fine.type, kind=to.kind, units=to.units))
