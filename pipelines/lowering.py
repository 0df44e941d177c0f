"""Date parts and buckets as integer arithmetic and comparisons: no engine's own functions, and no local time zone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unskew.pipelines.arithmetic import bind_arithmetic, bind_choice, bind_comparison
from unskew.pipelines.nodes import Node, as_number, literal, require, truncated
from unskew.pipelines.timegrid import DAY, HOUR, MINUTE
from unskew.pipelines.types import Bool, Int64, Timestamp

MONDAY_OFFSET = 3  # 1970-01-01 was a Thursday
MARCH_YEAR_0 = 719_468  # days from 0000-03-01 to 1970-01-01
ERA = 146_097  # days of 400 years


def infix(op: str, left: Node, right: Node | int) -> Node:
    """Return an operation on whole numbers."""
    other = literal(right) if isinstance(right, int) else right
    return bind_comparison(op, (left, other)) if op in ("lt", "le", "ge") else bind_arithmetic(op, (left, other))


def date_part(op: str, args: tuple[Node, ...]) -> Node:
    """Lower a part of an instant, UTC, to arithmetic on milliseconds."""
    require(args[0].type.kind == "timestamp", op, args)
    return DATE_PARTS[op](replace(args[0], type=replace(Int64, lo=Timestamp.lo, hi=Timestamp.hi)))


def within(step: int, count: int) -> Callable[[Node], Node]:
    """Return the number of whole steps in milliseconds, modulo `count`."""
    return lambda millis: infix("mod", infix("floordiv", millis, step), count)


def day_of_week(millis: Node) -> Node:
    """Return the weekday, Monday = 0."""
    return infix("mod", infix("add", infix("floordiv", millis, DAY), MONDAY_OFFSET), 7)


def civil(millis: Node) -> tuple[Node, Node, Node]:
    """Return years since 0000-03-01, day of that year (0 to 365) and its month (0 is March).

    The method is Howard Hinnant's ``civil_from_days``; all is at least 0 once the era is taken off.
    """
    days = infix("add", infix("floordiv", millis, DAY), MARCH_YEAR_0)
    day = infix("mod", days, ERA)
    leap = infix(
        "sub", infix("add", infix("sub", day, truncated(day, 1460)), truncated(day, 36_524)), truncated(day, 146_096)
    )
    year = truncated(leap, 365)
    before = infix("sub", infix("add", infix("mul", year, 365), truncated(year, 4)), truncated(year, 100))
    of_year = infix("sub", day, before)
    month = truncated(infix("add", infix("mul", of_year, 5), 2), 153)
    return infix("add", year, infix("mul", infix("floordiv", days, ERA), 400)), of_year, month


def day_of_month(millis: Node) -> Node:
    """Return the day of the month, 1 to 31."""
    _, of_year, month = civil(millis)
    return infix("add", infix("sub", of_year, truncated(infix("add", infix("mul", month, 153), 2), 5)), 1)


def month(millis: Node) -> Node:
    """Return the month, 1 to 12."""
    _, _, since_march = civil(millis)
    early = infix("lt", since_march, 10)
    return bind_choice("if_else", (early, infix("add", since_march, 3), infix("sub", since_march, 9)))


def year(millis: Node) -> Node:
    """Return the year."""
    since_march, _, month_of = civil(millis)
    return infix("add", since_march, as_number(infix("ge", month_of, 10)))


DATE_PARTS: dict[str, Callable[[Node], Node]] = {
    "minute_of_hour": within(MINUTE, 60),
    "hour_of_day": within(HOUR, 24),
    "day_of_week": day_of_week,
    "day_of_month": day_of_month,
    "month": month,
    "year": year,
}


def bucketize(op: str, args: tuple[Node, ...]) -> Node:
    """Lower a bucket to comparisons: the number of ascending bounds that are at most the value."""
    value, *bounds = args
    require(value.type.numeric and all(each.op == "literal" for each in bounds), op, args)
    found = literal(len(bounds))
    for index in reversed(range(len(bounds))):
        below = bind_comparison("lt", (value, bounds[index]))
        found = bind_choice("if_else", (below, literal(index), found))
    return bind_choice("if_else", (Node("is_null", Bool, (value,)), literal(None), found))
