"""Types and ranges of arithmetic, comparisons and choices between values."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from unskew.pipelines.nodes import Node, aligned, is_null_literal, require, with_range
from unskew.pipelines.types import Bool, DataType, Int64


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
        if right.op == "literal" and b_lo > 0:
            return Node(op, with_range(Int64, a_lo // b_lo, a_hi // b_lo), (left, right))
        largest = max(abs(a_lo), abs(a_hi))
        return Node(op, with_range(Int64, -largest - 1, largest), (left, right))
    # a remainder has the divisor's sign and is smaller, at most 1 off for whole encoded units
    return Node(op, with_range(left.type, min(b_lo + 1, 0), max(b_hi - 1, 0)), (left, right))


def bind_abs(op: str, args: tuple[Node, ...]) -> Node:
    """Type the absolute value."""
    require(args[0].type.numeric, op, args)
    return Node(op, with_range(args[0].type, 0, max(abs(each) for each in args[0].type.bounds)), args)


def bind_extreme(op: str, args: tuple[Node, ...]) -> Node:
    """Type `greatest` and `least`, null if an operand is null."""
    same = aligned(op, args)
    require(len(args) > 1 and all(each.type.numeric or each.type.kind == "timestamp" for each in same), op, args)
    return Node(op, widest(same), same)


def bind_comparison(op: str, args: tuple[Node, ...]) -> Node:
    """Type a comparison; strings know only equality, for their order differs between engines."""
    left, right = aligned(op, args)
    ordered = left.type.kind not in ("string", "bool")
    require(ordered or op in ("eq", "ne"), op, args)
    return Node(op, Bool, (left, right))


def bind_choice(op: str, args: tuple[Node, ...]) -> Node:
    """Type `coalesce` and the branches of `if_else`."""
    condition, branches = (args[:1], args[1:]) if op == "if_else" else ((), args)
    require(all(each.type.kind == "bool" for each in condition) and len(branches) > 0, op, args)
    same = aligned(op, branches)
    return Node(op, widest(same), (*condition, *same))
