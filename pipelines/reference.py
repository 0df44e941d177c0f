"""The reference of aggregates and functions, written from the tables that the engines read.

``python -m unskew.pipelines.reference`` prints ``docs/functions.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from unskew.pipelines import Bool, Decimal, Int64, String, Timestamp, col, functions
from unskew.pipelines.aggregates import AGGREGATES, Aggregate
from unskew.pipelines.backends.sql import DUCKDB, FLINK, render
from unskew.pipelines.binding import BINDERS, bind
from unskew.pipelines.derived import ARITY
from unskew.pipelines.expr import Expr, call
from unskew.pipelines.nested import OUTER
from unskew.pipelines.nodes import Node, literal
from unskew.pipelines.states import GROUPED, FieldKind, Lift

COLUMNS = {"a": Int64(-1000, 1000), "b": Int64(-1000, 1000), "d": Decimal(6, 2), "s": String, "t": Timestamp, "u": Bool}
LONGEST = 150  # characters of SQL that a table shows
# kind of a field -> over a window in Beam, over tiles in the online read, for each event in Flink
ENGINES: dict[FieldKind, tuple[str, str, str]] = {
    "add": ("difference of two prefix sums", "sum of tiles", "`SUM(x) OVER`"),
    "min": ("monotone queue", "smallest of tiles", "`MIN(x) OVER`"),
    "max": ("monotone queue", "largest of tiles", "`MAX(x) OVER`"),
    "first": ("first valid position", "first tile that has one", "`MIN` of (ts, id, value) as ordered text"),
    "last": ("last valid position", "last tile that has one", "`MAX` of (ts, id, value) as ordered text"),
    "first_k": ("first k valid positions", "entries of tiles, first k", "one row for each entry"),
    "last_k": ("last k valid positions", "entries of tiles, last k", "one row for each entry"),
    "top_k": ("ranks in a binary indexed tree", "entries of tiles, sorted", "one row for each entry"),
    "bottom_k": ("ranks in a binary indexed tree", "entries of tiles, sorted", "one row for each entry"),
    "multiset": ("counts added and evicted", "rows of tiles, merged by value", "`COUNT(*) OVER` (entity, tile, value)"),
}


def reference() -> str:
    """Return the whole page, Markdown."""
    parts = [
        "# Aggregates and functions",
        "This page is written by `python -m unskew.pipelines.reference` from the tables that the engines read; a test keeps it"
        " true, and another that the conformance suite exercises each of its rows in every engine.",
        "## Aggregates",
        '`col("x").mean()`, `count()`, `ratio(a, b)`; each takes `.where(condition)` and `.by(category)` or `.per(period)` (where the last column'
        " says so) before `.over(windows)`. S(p) is the sum of p-th powers; `f64` rounds once.",
        aggregates(),
        "## Over categories",
        "A count, sum, min or max by category takes one aggregate more, over the categories' values:"
        ' `col("x").sum().per("1d").mean()` is the mean of daily sums, `count().by(col("shop")).max()` the visits to the shop most'
        " visited. A category or period without rows has no value: the mean is over active days.",
        outer(),
        "## State fields",
        "What an engine keeps for each kind of field. A window is read in one pass in Beam, from tiles online; Flink writes one"
        " row with the running state of the tile for each event.",
        fields(),
        "## Row expressions",
        "In aggregates, filters, categories and projections. `a` and `b` are whole numbers, `d` a decimal, `s` a string, `t` an"
        " instant, `u` a boolean; long SQL is cut.",
        rows(),
        "## Derived features",
        "Over features and request columns, float64; one implementation (NumPy, IEEE operations alone) for the training set, the"
        " online read and the scorer.",
        derived(),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in rows)


def aggregates() -> str:
    """Write the table of aggregates."""
    head = ("aggregate", "of", "value", "empty window", "formula", "fields of the state", "by category")
    return table(head, (aggregate(name, each) for name, each in AGGREGATES.items()))


def aggregate(name: str, each: Aggregate) -> tuple[str, ...]:
    """Return a row of the table of aggregates, taken over decimals of at most 6 digits."""
    inputs = tuple(bind(col("d"), COLUMNS, {}) for _ in range(each.inputs))
    kinds = [
        field.kind
        for field in each.fields(Lift(inputs, None, bind(col("t"), COLUMNS, {}), (3,) * len(each.parameters)))
    ]
    counted = [f"{kinds.count(kind)} {kind}" if kinds.count(kind) > 1 else kind for kind in dict.fromkeys(kinds)]
    of = f"{each.inputs} column{'s' if each.inputs > 1 else ''}" if each.inputs else "rows"
    call_of = f"{name}({', '.join(each.parameters)})" if each.parameters else name
    empty = "null" if each.empty is None else str(each.empty)
    grouped = all(kind in GROUPED for kind in kinds)
    return (
        f"`{call_of}`",
        of,
        str(each.result(inputs or (bind(col("d"), COLUMNS, {}),))),
        empty,
        each.formula,
        ", ".join(counted),
        "yes" if grouped else "no",
    )


def outer() -> str:
    """Write the table of aggregates over categories."""
    head = ("aggregate", "value of integers", "empty window", "formula over the categories' values v")
    one = (literal(1),)
    lines = (
        (f"`{name}`", str(each.result(one)), "null" if each.empty is None else str(each.empty), each.formula)
        for name, each in OUTER.items()
    )
    return table(head, lines)


def fields() -> str:
    """Write the table of state fields."""
    return table(("field", "Beam", "online read", "Flink"), ((f"`{kind}`", *words) for kind, words in ENGINES.items()))


def examples() -> dict[str, tuple[str, Expr]]:
    """Return an example of each operation on rows, as written and built."""
    a, b, d, s, t, u = (col(name) for name in COLUMNS)
    found: dict[str, tuple[str, Expr]] = {
        "add": ("a + b", a + b), "sub": ("a - b", a - b), "mul": ("a * b", a * b), "floordiv": ("a // b", a // b),
        "mod": ("a % b", a % b), "eq": ("s == \"x\"", s == "x"), "ne": ("s != \"x\"", s != "x"), "lt": ("a < d", a < d),
        "le": ("a <= b", a <= b), "gt": ("a > b", a > b), "ge": ("a >= b", a >= b), "and": ("u & (a > 0)", u & (a > 0)),
        "or": ("u | (a > 0)", u | (a > 0)), "not": ("~u", ~u), "is_null": ("a.is_null()", a.is_null()),
        "isin": ("a.isin(1, 2)", a.isin(1, 2)), "abs": ("a.abs()", a.abs()),
        "bucketize": ("a.bucketize(0, 10)", a.bucketize(0, 10)), "lower": ("s.lower()", s.lower()),
        "upper": ("s.upper()", s.upper()), "length": ("s.length()", s.length()), "substr": ("s.substr(1, 2)", s.substr(1, 2)),
        "split_part": ("s.split_part(\",\", 2)", s.split_part(",", 2)),
        "starts_with": ("s.starts_with(\"x\")", s.starts_with("x")), "contains": ("s.contains(\"x\")", s.contains("x")),
        "coalesce": ("coalesce(a, b)", functions.coalesce(a, b)), "if_else": ("if_else(u, a, b)", functions.if_else(u, a, b)),
        "greatest": ("greatest(a, b)", functions.greatest(a, b)), "least": ("least(a, b)", functions.least(a, b)),
        "concat": ("concat(s, \"x\")", functions.concat(s, "x")),
    }  # fmt: skip
    parts = ("minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "month", "year")
    return found | {name: (f"{name}(t)", call(name, t)) for name in parts if name in BINDERS}


def rows() -> str:
    """Write the table of operations on rows, casts last."""
    a, d, s, t = (col(name) for name in ("a", "d", "s", "t"))
    casts = {
        "a.cast(String)": a.cast(String), "d.cast(Int64)": d.cast(Int64), "d.cast(String)": d.cast(String),
        "s.cast(Int64)": s.cast(Int64), "s.cast(Decimal(6, 2))": s.cast(Decimal(6, 2)), "a.cast(Bool)": a.cast(Bool),
        "t.cast(Int64)": t.cast(Int64),
    }  # fmt: skip
    every = [*examples().values(), ("a.between(1, 2)", a.between(1, 2)), *casts.items()]
    bound = ((text, bind(expr, COLUMNS, {})) for text, expr in every)
    return table(
        ("written", "type", "DuckDB (Beam)", "Flink"),
        ((f"`{text}`", str(node.type), shown(node, DUCKDB), shown(node, FLINK)) for text, node in bound),
    )


def shown(node: Node, dialect: object) -> str:
    """Return SQL, cut where it is long."""
    text = render(node, FLINK if dialect is FLINK else DUCKDB)
    text = text if len(text) <= LONGEST else text[:LONGEST] + " ..."
    return f"`` {text} ``"


def derived() -> str:
    """Write the table of operations on features, with what the language's own words say of them."""
    words = {
        op: first_line(
            getattr(functions, op, None) or getattr(Expr, op, None) or getattr(Expr, DUNDERS.get(op, ""), None)
        )
        for op in ARITY
    }
    return table(
        ("operation", "operands", "what it does"), ((f"`{op}`", str(ARITY[op] or "any"), words[op]) for op in ARITY)
    )


DUNDERS = {
    "add": "__add__", "sub": "__sub__", "mul": "__mul__", "div": "__truediv__", "lt": "__lt__", "le": "__le__",
    "gt": "__gt__", "ge": "__ge__", "eq": "__eq__", "ne": "__ne__", "and": "__and__", "or": "__or__", "not": "__invert__",
}  # fmt: skip


def first_line(member: object) -> str:
    """Return the first line of a member's words."""
    return (inspect.getdoc(member) or "").partition("\n")[0]


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - this is its purpose
