"""The object that a line of JSON holds, read as the Flink job reads it, its limits included.

Numbers with a point or an exponent keep their text. What Jackson refuses is refused: NaN, a number of more than 1,000
digits or whose scale is no int32, names and strings past its limits, deep nesting. Lines of up to `SHORT` bytes can break
none of the limits but that of exponents, so only longer ones are looked through.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unskew.pipelines.backends.flink_lines import PLAIN_LINE

DEEPEST = 999  # Jackson's 1,000 less the array into which the job wraps a line
MOST_DIGITS, LONGEST_NAME, LONGEST_STRING = 1_000, 50_000, 20_000_000
SHORT = 990  # no text of this length nests too deep or has a number too long
INT32 = 2**31
FAST = 500  # characters from which Jackson has another parser for decimals

OPENING = re.compile(r"[ \t\r]*\{")
SPACE = re.compile(r"[ \t\n\r]*")
PLAIN = re.compile(PLAIN_LINE.removeprefix("^").removesuffix(r"\z"))
LONG_NUMBER = re.compile(rf"[0-9.eE+\-]{{{MOST_DIGITS + 1}}}")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|-?[0-9][0-9.eE+\-]*+|[\[\]{}]', re.DOTALL)


class Number(str):
    """The text of a JSON number with a point or an exponent."""

    __slots__ = ()


def parts(text: str) -> tuple[str, int]:
    """Return a number's digits, sign and all, and how many stand after the point: of ``15e-1`` 15 and 1."""
    coefficient, _, exponent = text.lower().partition("e")
    whole, _, fraction = coefficient.partition(".")
    return whole + fraction, len(fraction) - int(exponent or 0)


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line's object, of a repeated key the last value; None where the line is no UTF-8 or no one object."""
    try:
        text = line.decode("utf-8")
        if not OPENING.match(text) or (len(line) > SHORT and not within_limits(text, len(line))):
            return None
        return whole_object(text)
    except ValueError:
        return None


def whole_object(text: str) -> dict[str, Any]:
    """Return the object that a text holds and nothing else.

    Raises
    ------
    ValueError
        If it holds something else.
    """
    begin = 0 if text.startswith("{") else text.index("{")
    found: dict[str, Any]
    try:
        found, end = DECODER.raw_decode(text, begin)
    except RecursionError:
        with room_to_recurse():
            found, end = DECODER.raw_decode(text, begin)
    if end != len(text) and not SPACE.fullmatch(text, end):
        raise ValueError(text[end:])
    return found


def number(text: str) -> Number:
    """Keep the text of a number with a point or an exponent, unless Java has no decimal for it."""
    if "e" in text or "E" in text:
        _, scale = parts(text)
        if not (-INT32 if len(text) < FAST else 1 - INT32) <= scale < INT32:
            raise ValueError(text)
    return Number(text)


def refuse(word: str) -> None:
    """Refuse NaN and infinities."""
    raise ValueError(word)


DECODER = json.JSONDecoder(parse_float=number, parse_constant=refuse)


@contextmanager
def room_to_recurse() -> Iterator[None]:
    """Let the parser go as deep as the limits allow, wherever on the stack it begins."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 2 * DEEPEST)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def within_limits(text: str, size: int) -> bool:
    """Return whether the tokens of a line of so many bytes are within limits; a plain line, which is split, has none."""
    nests = text.count("[") + text.count("{") > DEEPEST
    if not nests and size <= LONGEST_NAME and not LONG_NUMBER.search(text):
        return True
    return bool(PLAIN.fullmatch(text)) or all_within(text)


def all_within(text: str) -> bool:
    """Return whether each token is within the limits; of a text that is no JSON either answer will do."""
    depth = 0
    for each in TOKEN.finditer(text):
        first, length = text[each.start()], each.end() - each.start()
        if first in "[{":
            depth += 1
            if depth > DEEPEST:
                return False
        elif first in "]}":
            depth -= 1
        elif first == '"':
            if 2 * length > LONGEST_NAME and not fits(text, each):
                return False
        elif length > MOST_DIGITS and not few_digits(each[0]):
            return False
    return True


def fits(text: str, token: re.Match[str]) -> bool:
    """Return whether a string's UTF-16 is not too long, for a name or for a value."""
    is_name = text.startswith(":", SPACE.match(text, token.end()).end())  # type: ignore[union-attr]
    units = json.loads(token[0]).encode("utf-16-le", "surrogatepass")
    return len(units) // 2 <= (LONGEST_NAME if is_name else LONGEST_STRING)


def few_digits(token: str) -> bool:
    """Return whether a number has 1,000 digits at most, exponent included, as Jackson counts them.

    It counts a missing fraction or exponent as -1 digits where the number begins with 0. (It does so too where the number
    runs over the end of its buffer, which in lines above 32 KB is as long as an earlier line was: nobody can say.)
    """
    digits = sum(each.isdigit() for each in token)
    missing = ("." not in token) + ("e" not in token.lower())
    return digits - (missing == 1 and token.lstrip("-").startswith("0")) <= MOST_DIGITS
