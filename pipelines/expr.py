"""What a data engineer writes: columns, operators, aggregations over windows.

These nodes know names only. `binding` gives them types against a source's schema.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from unskew.pipelines.aggregates import AGGREGATES, MOST_ENTRIES
from unskew.pipelines.errors import DefinitionError, nearest
from unskew.pipelines.nested import INNER, OUTER
from unskew.pipelines.timegrid import DAY, Accuracy, Window, format_duration, make_window, parse_duration
from unskew.pipelines.types import DataType

Scalar = bool | int | float | str | None
MILLION = 1_000_000


@dataclass(frozen=True, eq=False)
class Expr:
    """An expression over the columns of one row, or over features and request columns.

    Parameters
    ----------
    op
        Name of the operation; ``column``, ``request``, ``feature`` and ``literal`` are leaves.
    args
        Operands.
    value
        Name or literal of a leaf; the extra argument of an operation (a type, a tuple of members).
    """

    op: str
    args: tuple[Expr, ...] = ()
    value: object = None

    def __add__(self, other: Operand) -> Expr:
        """Return the sum; null if a side is null."""
        return call("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        """Return the sum."""
        return call("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        """Return the difference."""
        return call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        """Return the difference."""
        return call("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        """Return the product."""
        return call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        """Return the product."""
        return call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        """Return the quotient (derived expressions only); null where the divisor is 0."""
        return call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        """Return the quotient."""
        return call("div", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        """Return the floored quotient; null where the divisor is 0."""
        return call("floordiv", self, other)

    def __rfloordiv__(self, other: Operand) -> Expr:
        """Return the floored quotient."""
        return call("floordiv", other, self)

    def __mod__(self, other: Operand) -> Expr:
        """Return the remainder of floored division (sign of the divisor)."""
        return call("mod", self, other)

    def __rmod__(self, other: Operand) -> Expr:
        """Return the remainder of floored division."""
        return call("mod", other, self)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        """Return whether both are equal; null if a side is null."""
        return call("eq", self, other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        """Return whether both differ; null if a side is null."""
        return call("ne", self, other)

    def __lt__(self, other: Operand) -> Expr:
        """Return whether this is smaller."""
        return call("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        """Return whether this is smaller or equal."""
        return call("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        """Return whether this is greater."""
        return call("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        """Return whether this is greater or equal."""
        return call("ge", self, other)

    def __and__(self, other: Operand) -> Expr:
        """Return the three-valued conjunction."""
        return call("and", self, other)

    def __or__(self, other: Operand) -> Expr:
        """Return the three-valued disjunction."""
        return call("or", self, other)

    def __invert__(self) -> Expr:
        """Return the three-valued negation."""
        return call("not", self)

    def __neg__(self) -> Expr:
        """Return the value with the other sign."""
        return call("sub", 0, self)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        """Refuse `and`, `or`, `not` and chained comparisons, which Python cannot overload."""
        message = "an expression has no truth value; use `&`, `|`, `~` with brackets instead of and, or, not"
        raise DefinitionError(message)

    def is_null(self) -> Expr:
        """Return whether the value is null; never null itself."""
        return call("is_null", self)

    def isin(self, *members: Scalar) -> Expr:
        """Return whether the value is one of the members; null if it is null."""
        if not members or any(each is None for each in members):
            message = f"isin`{members}` needs one or more members, none of them null; use is_null() for null"
            raise DefinitionError(message)
        return Expr("isin", (self, *(as_expr(each) for each in members)))

    def cast(self, to: DataType) -> Expr:
        """Convert to another type; a decimal is floored to fewer digits."""
        return Expr("cast", (self,), to)

    def clip(self, lower: float, upper: float) -> Expr:
        """Limit to ``lower..upper``, both inclusive (derived expressions only)."""
        if lower > upper:
            message = f"clip({lower}, {upper}) has its bounds the wrong way round; give the lower one first"
            raise DefinitionError(message)
        return Expr("clip", (self, as_expr(lower), as_expr(upper)))

    def between(self, lower: Operand, upper: Operand) -> Expr:
        """Return whether the value is in ``lower..upper``, both inclusive."""
        return (self >= lower) & (self <= upper)

    def abs(self) -> Expr:
        """Return the value without its sign."""
        return call("abs", self)

    def sign(self) -> Expr:
        """Return -1, 0 or 1 (derived expressions only)."""
        return call("sign", self)

    def round(self) -> Expr:
        """Return the nearest whole number, ties to even (derived expressions only)."""
        return call("round", self)

    def bucketize(self, *bounds: float) -> Expr:
        """Return how many of the ascending bounds are at most the value: 0 below the first; null for null."""
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in bounds)
        if not bounds or not numbers or list(bounds) != sorted(set(bounds)):
            message = f"bounds `{bounds}` of bucketize are not one or more ascending numbers; sort them"
            raise DefinitionError(message)
        return call("bucketize", self, *bounds)

    def lower(self) -> Expr:
        """Return the string with the letters A to Z in lower case; others stay."""
        return call("lower", self)

    def upper(self) -> Expr:
        """Return the string with the letters a to z in upper case; others stay."""
        return call("upper", self)

    def length(self) -> Expr:
        """Return the number of code points of a string."""
        return call("length", self)

    def substr(self, start: int, length: int) -> Expr:
        """Return at most `length` code points of a string from the `start`-th on, counted from 1."""
        return call("substr", self, start, length)

    def split_part(self, separator: str, part: int) -> Expr:
        """Return the `part`-th piece of a string between separators, counted from 1; null where there is none."""
        return call("split_part", self, separator, part)

    def starts_with(self, prefix: str) -> Expr:
        """Return whether a string begins with a text."""
        return call("starts_with", self, prefix)

    def contains(self, text: str) -> Expr:
        """Return whether a string has a text in it."""
        return call("contains", self, text)

    def __getattr__(self, name: str) -> Callable[..., Aggregation]:
        """Return the aggregation of that name over this expression: ``col("amount").mean()``."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in AGGREGATES:
            message = f"aggregate `{name}` is unknown; {nearest(name, AGGREGATES)}"
            raise DefinitionError(message)

        def aggregate(*arguments: Expr | float, **named: float) -> Aggregation:
            unknown = [each for each in named if each not in AGGREGATES[name].parameters]
            if unknown:
                message = f"aggregate `{name}` has no parameter `{unknown[0]}`; it takes {AGGREGATES[name].parameters}"
                raise DefinitionError(message)
            return make_aggregation(name, self, *arguments, *named.values())

        return aggregate


Operand = Expr | Scalar


@dataclass(frozen=True, eq=False)
class Aggregation:
    """An aggregate over expressions, not yet over a window."""

    name: str
    inputs: tuple[Expr, ...]
    parameters: tuple[int, ...] = ()
    condition: Expr | None = None
    category: Expr | None = None
    period: int = 0
    outer: str = ""

    def where(self, condition: Expr) -> Aggregation:
        """Take only the rows for which the condition is true; null counts as false."""
        if not isinstance(condition, Expr):
            message = f"filter `{condition!r}` is no expression; write where(col(...) == ...)"
            raise DefinitionError(message)
        both = condition if self.condition is None else self.condition & condition
        return replace(self, condition=both)

    def by(self, category: Expr) -> Aggregation:
        """Compute it for each value of `category` apart: a map from the value; rows where it is null are left out."""
        self.require_no_category("by")
        if not isinstance(category, Expr):
            message = f"category `{category!r}` is no expression; write by(col(...))"
            raise DefinitionError(message)
        return replace(self, category=category)

    def per(self, period: str) -> Aggregation:
        """Compute it for each period of event time apart, e.g. ``per("1d")``: a map from the period's first instant.

        A period in which nothing happened has no entry; the last one ends at the head of the window. The windows'
        hop is a multiple of the period.
        """
        self.require_no_category("per")
        length = parse_duration(period)
        if not 0 < length <= DAY or DAY % length:
            message = f"period `{period}` does not divide a day; use one such as 1h or 1d"
            raise DefinitionError(message)
        return replace(self, period=length)

    def require_no_category(self, word: str) -> None:
        """Refuse a second category."""
        if self.category is not None or self.period:
            message = f"{word}(...) follows by(...) or per(...); to take two columns together write by(concat(...))"
            raise DefinitionError(message)

    def __getattr__(self, name: str) -> Callable[..., Aggregation]:
        """Return an aggregate over the categories: ``col("amount").sum().per("1d").mean()``."""
        if name.startswith("_"):
            raise AttributeError(name)
        if self.outer or (self.category is None and not self.period):
            message = f"`{name}` follows an aggregate; write by(...) or per(...) between them, once"
            raise DefinitionError(message)
        if name not in OUTER:
            message = f"aggregate `{name}` over categories is unknown; {nearest(name, OUTER)}"
            raise DefinitionError(message)
        if self.name not in INNER:
            message = f"aggregate `{self.name}` by category cannot be aggregated again; use one of {', '.join(INNER)}"
            raise DefinitionError(message)

        def outer(*given: object, **named: object) -> Aggregation:
            if given or named:
                message = f"`{name}` over categories takes nothing, `{[*given, *named]}` given; write {name}()"
                raise DefinitionError(message)
            return replace(self, outer=name)

        return outer

    def over(
        self, *sizes: str, hop: str | None = None, delay: str | None = None, accuracy: Accuracy = "exact"
    ) -> Windowed:
        """Compute it over one or more windows, e.g. ``over("1h", "30d")``.

        Parameters
        ----------
        *sizes
            Lengths such as ``"1h"``; ``"lifetime"`` reaches back to the first event.
        hop
            Grid of the windows; by default 1 d, 1 h or 5 min by length.
        delay
            How far the windows' heads stay behind the instant of the read.
        accuracy
            ``exact``: up to the instant of the read; ``daily``: up to the last midnight, UTC.
        """
        if not sizes:
            message = f'aggregate `{self.name}` has no window; write over("1h", "1d")'
            raise DefinitionError(message)
        windows = tuple(make_window(each, hop, delay, accuracy, self.period) for each in sizes)
        for each in windows:
            if self.period and each.hop % self.period:
                period, found = format_duration(self.period), format_duration(each.hop)
                message = f"hop `{found}` is no multiple of the period `{period}`; a window begins with a whole period"
                raise DefinitionError(message)
        return Windowed(self, windows)


@dataclass(frozen=True, eq=False)
class Windowed:
    """An aggregation over windows: one feature for each window."""

    aggregation: Aggregation
    windows: tuple[Window, ...]
    owner: str = ""
    description: str = ""

    def by(self, *_: object) -> Windowed:
        """Refuse a category after the windows."""
        message = "by(...) stands after over(...); write .by(col(...)).over(...)"
        raise DefinitionError(message)

    def where(self, *_: object) -> Windowed:
        """Refuse a filter after the windows."""
        message = "where(...) stands after over(...); write .where(...).over(...)"
        raise DefinitionError(message)

    def described(self, description: str, owner: str = "") -> Windowed:
        """Add words for the reader; they are no part of the fingerprint."""
        return replace(self, description=description, owner=owner or self.owner)


def make_aggregation(name: str, *arguments: Expr | float) -> Aggregation:
    """Check the arguments against the table of aggregates and build the node."""
    entry = AGGREGATES[name]
    inputs = tuple(each for each in arguments if isinstance(each, Expr))
    parameters = tuple(each for each in arguments if not isinstance(each, Expr))
    if len(inputs) != entry.inputs:
        message = f"aggregate `{name}` takes {entry.inputs} column(s), {len(inputs)} given"
        raise DefinitionError(message)
    if len(parameters) != len(entry.parameters):
        message = f"aggregate `{name}` takes the parameters `{entry.parameters}`, `{parameters}` given"
        raise DefinitionError(message)
    checked = tuple(PARAMETERS[each](name, value) for each, value in zip(entry.parameters, parameters, strict=True))
    return Aggregation(name, inputs, checked)


def bound_of_list(name: str, k: object) -> int:
    """Return the parameter `k`."""
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MOST_ENTRIES:
        message = f"parameter `{k!r}` of `{name}` is not a whole number from 1 to {MOST_ENTRIES}"
        raise DefinitionError(message)
    return k


def millionths(name: str, q: object) -> int:
    """Return the parameter `q` in millionths."""
    if isinstance(q, int | float) and not isinstance(q, bool) and 0 < q <= 1:
        parts = round(q * MILLION)
        if parts / MILLION == q:
            return parts
    message = (
        f"parameter `{q!r}` of `{name}` is no number above 0 up to 1 of at most 6 digits, such as 0.95; use min() for 0"
    )
    raise DefinitionError(message)


PARAMETERS: dict[str, Callable[[str, object], int]] = {"k": bound_of_list, "q": millionths}


def as_expr(value: object) -> Expr:
    """Return the value itself, or a literal of it."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, str) and any("\ud800" <= each <= "\udfff" for each in value):
        message = f"string `{value!r}` has a lone surrogate, which no UTF-8 text holds; drop it"
        raise DefinitionError(message)
    if value is None or isinstance(value, bool | int | float | str):
        return Expr("literal", (), value)
    message = f"value `{value!r}` cannot stand in an expression; use a column, a number, a string or a boolean"
    raise DefinitionError(message)


def call(op: str, *args: object) -> Expr:
    """Build the operation over operands of any kind."""
    return Expr(op, tuple(as_expr(each) for each in args))


def col(name: str) -> Expr:
    """Return a column of the source's row."""
    return Expr("column", (), name)


def request(name: str) -> Expr:
    """Return a column that arrives with the request (derived expressions only)."""
    return Expr("request", (), name)


def feature(name: str) -> Expr:
    """Return a feature by its full name, e.g. ``card_activity.amount_mean_30d`` (derived only)."""
    return Expr("feature", (), name)
