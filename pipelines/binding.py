"""Row expressions with types and ranges: the form that every engine compiles.

Binding lowers what the user wrote to the few primitive operations
over encoded values (`nodes`). Scales are aligned, hours and weekdays become integer division,
and every node carries the range of its value, so that nothing can pass 2**62.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from unskew.pipelines import casts, lowering, texts
from unskew.pipelines.arithmetic import bind_abs, bind_arithmetic, bind_choice, bind_comparison, bind_extreme
from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.expr import Expr
from unskew.pipelines.nodes import Node, aligned, literal, require
from unskew.pipelines.types import Bool, DataType

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
DERIVED_ONLY = {"div": "`//` or ratio()", "clip": "greatest() and least()", "sign": "if_else()", "round": "a cast"}
DERIVED_ONLY |= dict.fromkeys(("log1p", "log", "exp", "sqrt", "cosine", "distance"), "a derived feature")


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
        return casts.cast(args[0], expr.value)
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


def bind_logic(op: str, args: tuple[Node, ...]) -> Node:
    """Type three-valued logic."""
    require(all(each.type.kind == "bool" for each in args), op, args)
    return Node(op, Bool, args)


def bind_is_null(op: str, args: tuple[Node, ...]) -> Node:
    """Type a null test."""
    return Node(op, Bool, args)


def bind_isin(op: str, args: tuple[Node, ...]) -> Node:
    """Type a membership test: members must be exact in the unit of the value."""
    return Node(op, Bool, aligned(op, args))


Binder = Callable[[str, tuple[Node, ...]], Node]
BINDERS: dict[str, Binder] = {
    **dict.fromkeys(("add", "sub", "mul", "floordiv", "mod"), bind_arithmetic),
    **dict.fromkeys(COMPARISONS, bind_comparison),
    **dict.fromkeys(("and", "or", "not"), bind_logic),
    **dict.fromkeys(("coalesce", "if_else"), bind_choice),
    **dict.fromkeys(("greatest", "least"), bind_extreme),
    **dict.fromkeys(lowering.DATE_PARTS, lowering.date_part),
    **dict.fromkeys(("lower", "upper", "length", "concat"), texts.bind_text),
    **dict.fromkeys(("substr", "split_part", "starts_with", "contains"), texts.bind_with_literals),
    "abs": bind_abs,
    "bucketize": lowering.bucketize,
    "is_null": bind_is_null,
    "isin": bind_isin,
}
