"""Casts between types."""

from __future__ import annotations

import math
from dataclasses import replace

from unskew.pipelines.arithmetic import bind_arithmetic, bind_comparison
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.nodes import Node, as_number, literal, masked, require, scaled
from unskew.pipelines.types import Bool, DataType, Int64, String


def cast(node: Node, to: object) -> Node:
    """Convert to another type.

    Numbers are floored to fewer digits, floats rounded to their quantum; a string that is no number of the
    type's range becomes null; a boolean is 0 or 1, a number true where it is not 0; an instant is its milliseconds.
    """
    if not isinstance(to, DataType):
        message = f"cast to `{to!r}` is no type; use Int64, Decimal(p, s), Float(lo, hi), Bool, Timestamp or String"
        raise DefinitionError(message)
    if node.type.kind == to.kind and node.type.units == to.units:
        return node
    if to.kind == "string":
        require(node.type.kind in ("int", "decimal", "bool"), f"cast to {to}", (node,))
        return Node("to_string", String, (node,))
    if node.type.kind == "string":
        require(to.kind in ("int", "decimal"), f"cast to {to}", (node,))
        return parsed(node, to)
    if node.type.kind == "timestamp" or to.kind == "timestamp":
        return instant(node, to)
    if to.kind == "bool":
        return bind_comparison("ne", (node, literal(0)))
    return rescaled(as_number(node), to)


def parsed(node: Node, to: DataType) -> Node:
    """Read a string as a number; null where it is none, or out of range."""
    lo, hi = to.bounds
    number = Node("to_number", replace(to, lo=lo, hi=hi), (node,))
    low, high = (Node("literal", number.type, (), each) for each in (lo, hi))  # in the type's own units
    return masked(Node("and", Bool, (Node("ge", Bool, (number, low)), Node("le", Bool, (number, high)))), number)


def instant(node: Node, to: DataType) -> Node:
    """Take milliseconds for an instant, or an instant for its milliseconds."""
    require({node.type.kind, to.kind} == {"timestamp", "int"}, f"cast to {to}", (node,))
    lo, hi = node.type.bounds if to.kind == "int" else to.bounds
    taken = replace(node, type=replace(node.type, kind=to.kind, lo=lo, hi=hi))
    if to.kind == "int":
        return taken
    millis = replace(node, type=replace(Int64, lo=node.type.bounds[0], hi=node.type.bounds[1]))
    return masked(
        Node("and", Bool, (Node("ge", Bool, (millis, literal(lo))), Node("le", Bool, (millis, literal(hi))))), taken
    )


def rescaled(node: Node, to: DataType) -> Node:
    """Express a number in other units: floored to fewer, rounded half up to the quanta of a float."""
    if to.kind == "float":
        raw = replace(node, type=replace(node.type, kind="int", units=1))
        doubled = bind_arithmetic(
            "add", (bind_arithmetic("mul", (raw, literal(2 * to.units))), literal(node.type.units))
        )
        quanta = bind_arithmetic("floordiv", (doubled, literal(2 * node.type.units)))
        return replace(quanta, type=replace(quanta.type, kind="float", units=to.units, quantum=to.quantum))
    fine = scaled(node, math.lcm(node.type.units, to.units))
    factor = fine.type.units // to.units
    if factor > 1:
        raw = replace(fine, type=replace(fine.type, kind="int", units=1))
        fine = bind_arithmetic("floordiv", (raw, literal(factor)))
    return replace(fine, type=replace(fine.type, kind=to.kind, units=to.units))
