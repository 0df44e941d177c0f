"""Strategies for lines that are nearly those of a source: each is sound, or spoilt in a way of its own."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.odd_lines import ODD_VALUES

SPACES = st.text(" \t\r", max_size=2)
DIGITS = st.text("0123456789", min_size=1, max_size=19)
WHOLE = st.one_of(st.integers(-(2**70), 2**70).map(str), st.integers(-150, 150).map(str), DIGITS)
EXPONENT = st.one_of(
    st.integers(-6, 6).map(str),
    st.sampled_from(["+2", "-0", "007", "2147483647", "2147483649", "-2147483647", "-2147483648", "9999999999999"]),
)
NUMBER = st.builds(
    lambda whole, fraction, exponent: whole + fraction + exponent,
    WHOLE,
    st.one_of(st.just(""), DIGITS.map(".{}".format)),
    st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from("eE"), EXPONENT)),
)
UNITS = st.one_of(
    st.characters(exclude_categories=["Cs"]).map(lambda each: json.dumps(each, ensure_ascii=False)[1:-1]),
    st.sampled_from(
        ["\\u00e9", "\\ud83d", "\\ude00", "\\ud83d\\ude00", "\\/", "\\n", "\\x", "\\u12", "\t", ",", ":", "\ufffd"]
    ),
)
STRING = st.lists(UNITS, max_size=4).map(lambda each: '"' + "".join(each) + '"')
SCALAR = st.one_of(
    NUMBER,
    NUMBER.map('"{}"'.format),
    STRING,
    st.sampled_from(["null", "true", "false", "NaN", "tru", "01", "1.", ".5"]),
)
VALUE = st.recursive(
    st.one_of(SCALAR, st.sampled_from(ODD_VALUES)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: "[" + ",".join(each) + "]"),
        st.dictionaries(st.sampled_from(["a", "b", "user", "name"]), inner, max_size=2).map(
            lambda each: "{" + ",".join(f'"{key}":{value}' for key, value in each.items()) + "}"
        ),
    ),
    max_leaves=4,
)
DAMAGE = st.sampled_from(
    [b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"}", b"{", b",", b'"', b" ", b"\\", b"0", b"]"]
)


@st.composite
def nearly(draw: st.DrawFn, sound: dict[str, Any], names: list[str]) -> bytes:
    """Return a line: a sound row of which some columns, or names that are no columns, have other values."""
    items = {name: json.dumps(value) for name, value in sound.items()}
    pairs = list(items.items())
    for name in draw(st.lists(st.sampled_from([*items, *names]), max_size=3)):
        value = draw(VALUE)
        if draw(st.booleans()):
            pairs = [each for each in pairs if each[0] != name]
        pairs.insert(draw(st.integers(0, len(pairs))), (name, value))
    space = draw(SPACES)
    line = "{" + ",".join(f'{space}"{name}":{space}{value}' for name, value in pairs) + "}"
    return damaged(draw, line.encode("utf-8", "surrogatepass"))


def damaged(draw: st.DrawFn, line: bytes) -> bytes:
    """Return one line in four with bytes put in, or cut off."""
    if draw(st.integers(0, 3)):
        return line
    at = draw(st.integers(0, len(line)))
    rest = line[at + draw(st.integers(0, 2)) :] if draw(st.booleans()) else b""
    return (line[:at] + draw(DAMAGE) + rest).replace(b"\n", b"")
