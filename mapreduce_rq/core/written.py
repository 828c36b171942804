"""Values as text for people, also if ``str`` fails or returns text that UTF-8 cannot write."""

from __future__ import annotations

from typing import Any

from mapreduce_rq.core.numbers.integers import digits

_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def written(value: Any) -> str:
    """As ``str``, but it also writes integers of more than 4300 digits, which Python refuses, and escapes halves of
    characters, which UTF-8 cannot write.
    """
    try:
        text = str(value)
    except ValueError:
        text = _written(value)
    return text.encode(errors="backslashreplace").decode() if is_torn(text) else text


def is_torn(text: str) -> bool:
    """Whether a text has halves of characters (lone surrogates)."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _written(value: Any) -> str:
    if type(value) is int:
        return digits(value)
    if type(value) is dict:
        return "{" + ", ".join(f"{_written(key)}: {_written(each)}" for key, each in value.items()) + "}"
    if type(value) in _BRACKETS:
        comma = "," if type(value) is tuple and len(value) == 1 else ""
        first, last = _BRACKETS[type(value)]
        return f"{first}{', '.join(map(_written, value))}{comma}{last}"
    return repr(value)
