"""Typed primitive operations over encoded values: what every engine compiles.

A node carries the range of its value, so that nothing can pass 2**62.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.types import VALUE_LIMIT, Bool, DataType, Int64, String

PRIMITIVES = (
    "column", "literal", "add", "sub", "mul", "floordiv", "mod",
    "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not",
    "abs", "truncdiv", "greatest", "least",
    "is_null", "coalesce", "if_else", "isin", "to_string", "to_number",
    "lower", "upper", "length", "substr", "split_part", "concat", "starts_with", "contains",
    "hll_register",
)  # fmt: skip
ARITHMETIC = ("add", "sub", "mul", "floordiv", "mod", "abs", "truncdiv")


@dataclass(frozen=True)
class Node:
    """A typed primitive operation.

    Parameters
    ----------
    op
        One of `PRIMITIVES`.
    type
        Type of the value, with its range in encoded units.
    args
        Operands.
    value
        Name of a column, or the encoded value of a literal (int, bool, str or None).
    """

    op: str
    type: DataType
    args: tuple[Node, ...] = ()
    value: int | bool | str | None = None

    def columns(self) -> frozenset[str]:
        """Return the names of the columns that it reads."""
        if self.op == "column":
            return frozenset((str(self.value),))
        return frozenset().union(*(each.columns() for each in self.args))

    def to_json(self) -> list[object]:
        """Return the canonical form, without ranges: they do not change the value."""
        leaf = [] if self.op not in ("column", "literal") else [self.value]
        return [self.op, self.type.kind, self.type.units, *leaf, *(each.to_json() for each in self.args)]


def literal(value: object) -> Node:
    """Type a literal; a float is taken as the exact decimal that it prints as."""
    if value is None or isinstance(value, bool):
        return Node("literal", Bool, (), value)
    if isinstance(value, str):
        return Node("literal", String, (), value)
    text = repr(value)
    if isinstance(value, float) and ("e" in text or not math.isfinite(value)):
        message = f"literal `{text}` has no short decimal form; use an integer or a decimal such as 0.25"
        raise DefinitionError(message)
    digits = len(text.partition(".")[2]) if isinstance(value, float) else 0
    encoded = int(text.replace(".", "")) if isinstance(value, float) else int(str(value))
    if abs(encoded) > VALUE_LIMIT:
        message = f"literal `{text}` is too large; the limit is 2**62"
        raise DefinitionError(message)
    kind = replace(Int64, kind="decimal" if digits else "int", units=10**digits)
    return Node("literal", with_range(kind, encoded, encoded), (), encoded)


def with_range(data_type: DataType, lo: int, hi: int) -> DataType:
    """Return the type with that range, or refuse a range that could pass 2**62."""
    if lo < -VALUE_LIMIT or hi > VALUE_LIMIT:
        message = f"a value of this expression could reach `{max(-lo, hi)}`, past 2**62; declare a tighter range"
        raise DefinitionError(message)
    return replace(data_type, lo=lo, hi=hi, precision=0, quantum=0.0)


def is_null_literal(node: Node) -> bool:
    """Return whether the node is the literal null, which takes any type."""
    return node.op == "literal" and node.value is None


def require(condition: bool, op: str, args: tuple[Node, ...]) -> None:
    """Refuse operands of a wrong type."""
    if not condition:
        kinds = ", ".join(str(each.type) for each in args)
        message = f"operation `{op}` is not defined on ({kinds}); cast or choose other columns"
        raise DefinitionError(message)


def scaled(node: Node, units: int) -> Node:
    """Express a number in a finer unit: `units` a multiple of its own."""
    factor = units // node.type.units
    if factor == 1:
        return node
    lo, hi = node.type.bounds
    kind = "decimal" if node.type.kind == "int" else node.type.kind
    finer = with_range(replace(node.type, kind=kind, units=units), lo * factor, hi * factor)
    if node.op == "literal" and isinstance(node.value, int):
        return Node("literal", finer, (), node.value * factor)
    factor_node = Node("literal", with_range(Int64, factor, factor), (), factor)
    return Node("mul", finer, (node, factor_node))


def aligned(op: str, args: tuple[Node, ...]) -> tuple[Node, ...]:
    """Bring numbers to one unit; leave operands of one other kind as they are."""
    typed = [each for each in args if not is_null_literal(each)]
    if all(each.type.numeric for each in typed) and typed:
        units = math.lcm(*(each.type.units for each in typed))
        return tuple(
            Node("literal", replace(typed[0].type, units=units)) if is_null_literal(each) else scaled(each, units)
            for each in args
        )
    kinds = {each.type.kind for each in typed}
    require(len(kinds) <= 1, op, args)
    kind = typed[0].type if typed else Bool
    return tuple(replace(each, type=kind) if is_null_literal(each) else each for each in args)


def as_number(node: Node) -> Node:
    """Return a boolean as 0, 1 or null; every other node as it is."""
    if node.type.kind != "bool":
        return node
    one, zero = literal(1), literal(0)
    missing = Node("literal", replace(Int64, lo=0, hi=1))
    known = Node("if_else", replace(Int64, lo=0, hi=1), (node, one, zero))
    return Node("if_else", known.type, (Node("is_null", Bool, (node,)), missing, known))


def truncated(node: Node, divisor: int) -> Node:
    """Return the quotient by a positive whole number, truncated toward zero."""
    lo, hi = (int(abs(each) // divisor) * (1 if each > 0 else -1) for each in node.type.bounds)
    return Node("truncdiv", with_range(Int64, lo, hi), (node, literal(divisor)))


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all below it."""
    yield node
    for each in node.args:
        yield from walk(each)


def computed_columns(node: Node) -> frozenset[str]:
    """Return the columns whose values enter arithmetic; without a declared range they get +-2**40."""
    names = [each.columns() for each in walk(node) if each.op in ARITHMETIC]
    return frozenset().union(*names)


def value_columns(node: Node) -> frozenset[str]:
    """Return the columns whose values can be the node's value, not those that only decide it."""
    if node.op == "column":
        return node.columns()
    if node.type.kind == "bool":
        return frozenset()
    args = node.args[1:] if node.op == "if_else" else node.args
    return frozenset().union(*(value_columns(each) for each in args))


def masked(condition: Node | None, node: Node) -> Node:
    """Return the node where the condition is true, null where it is false or null."""
    if condition is None:
        return node
    missing = Node("literal", node.type)
    return Node("if_else", node.type, (condition, node, missing))


def present(node: Node, value: Node) -> Node:
    """Return `value` where the node is not null, else null."""
    return masked(Node("not", Bool, (Node("is_null", Bool, (node,)),)), value)
