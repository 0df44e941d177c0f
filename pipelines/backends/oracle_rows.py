"""The oracle's row expressions, one row at a time: null in, null out, but for those that say otherwise."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from unskew.pipelines.nodes import Node

Cell = int | bool | str | None  # encoded
INT64 = (-(2**63), 2**63 - 1)  # the range of a column that declares none


def comparable(cell: Any) -> Any:
    """Return strings as their UTF-8 bytes, which is how they are ordered."""
    return cell.encode() if isinstance(cell, str) else cell


STRICT: dict[str, Callable[..., Cell]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "floordiv": lambda a, b: a // b if b else None,
    "mod": lambda a, b: a - b * (a // b) if b else None,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "not": operator.not_, "abs": abs, "greatest": max, "least": min,
    "length": len, "concat": lambda *args: "".join(args),
    "lower": lambda text: "".join(chr(ord(each) + 32) if "A" <= each <= "Z" else each for each in text),
    "upper": lambda text: "".join(chr(ord(each) - 32) if "a" <= each <= "z" else each for each in text),
    "substr": lambda text, start, length: text[start - 1 : start - 1 + length],
    "split_part": lambda text, separator, part: dict(enumerate(text.split(separator), 1)).get(part),
    "starts_with": lambda text, prefix: text.startswith(prefix),
    "contains": lambda text, part: part in text, "truncdiv": lambda a, b: int(Fraction(a, b)),
}  # fmt: skip
LENIENT: dict[str, Callable[..., Cell]] = {
    "and": lambda *args: False if False in args else None if None in args else True,
    "or": lambda *args: True if True in args else None if None in args else False,
    "is_null": lambda a: a is None,
    "coalesce": lambda *args: next((each for each in args if each is not None), None),
    "if_else": lambda condition, then, otherwise: then if condition is True else otherwise,
    "isin": lambda a, *members: None if a is None else True if a in members else None if None in members else False,
}


def lifted(node: Node, cells: Mapping[str, Cell]) -> Cell:
    """Return the value of a row expression."""
    if node.op == "column":
        return cells[str(node.value)]
    if node.op == "literal":
        return node.value
    args = [lifted(each, cells) for each in node.args]
    if node.op in LENIENT:
        return LENIENT[node.op](*args)
    if None in args:
        return None
    return CASTS[node.op](*args, node) if node.op in CASTS else STRICT[node.op](*args)


def as_text(cell: Any, node: Node) -> str:
    """Write a boolean as true or false, a decimal with all its digits."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    units = node.args[0].type.units
    return f"{Decimal(cell).scaleb(1 - len(str(units))):f}"


def as_number(text: str, node: Node) -> int | None:
    """Read plain digits in the type's units; null for another form, more digits, or past int64."""
    digits = len(str(node.type.units)) - 1
    pattern = r"-?(0|[1-9][0-9]{0,18})" + (rf"([.][0-9]{{1,{digits}}})?" if digits else "")
    if re.fullmatch(pattern, text, re.ASCII) is None:
        return None
    number = int(Fraction(text) * node.type.units)
    return number if INT64[0] <= number <= INT64[1] else None


def register_of(cell: Any, _: Node) -> int:
    """Return register and rank of a value: three hex digits of its MD5, and the leading zero bits of the next 52."""
    encoded = cell if isinstance(cell, str) else str(int(cell))
    digest = hashlib.md5(encoded.encode(), usedforsecurity=False).hexdigest()
    bits = f"{int(digest[3:16], 16):052b}"
    return int(digest[:3], 16) * 64 + len(bits) - len(bits.lstrip("0")) + 1


CASTS: dict[str, Callable[..., Cell]] = {"to_string": as_text, "to_number": as_number, "hll_register": register_of}
