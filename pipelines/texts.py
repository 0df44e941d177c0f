"""Types of operations on strings. Lengths and places count code points; letters are those of ASCII."""

from __future__ import annotations

from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.nodes import Node, require, with_range
from unskew.pipelines.types import Bool, DataType, Int64, String

LONGEST = 2**31 - 1  # code points of a string
LITERALS: dict[str, tuple[type, ...]] = {
    "substr": (int, int), "split_part": (str, int), "starts_with": (str,), "contains": (str,),
}  # fmt: skip


def bind_text(op: str, args: tuple[Node, ...]) -> Node:
    """Type an operation on strings alone."""
    require(len(args) > 0 and all(each.type.kind == "string" for each in args), op, args)
    return Node(op, with_range(Int64, 0, LONGEST) if op == "length" else String, args)


def bind_with_literals(op: str, args: tuple[Node, ...]) -> Node:
    """Type an operation on a string and literals: texts that are not empty, whole numbers from 1 on."""
    require(args[0].type.kind == "string", op, args[:1])
    for each, kind in zip(args[1:], LITERALS[op], strict=True):
        value = each.value if each.op == "literal" and each.type.units == 1 else None
        if (
            isinstance(value, bool)
            or not isinstance(value, kind)
            or not value
            or (isinstance(value, int) and value < 1)
        ):
            wanted = "a text that is not empty" if kind is str else "a whole number from 1 on"
            message = f"operation `{op}` was given `{value!r}`, which is not {wanted} written in the definition"
            raise DefinitionError(message)
    result: DataType = Bool if op in ("starts_with", "contains") else String
    return Node(op, result, args)
