"""Values as text for people, also if ``str`` fails or returns text that UTF-8 cannot write."""

from __future__ import annotations

from itertools import chain, islice
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
    characters, which UTF-8 cannot write. An object whose own code raises has its type as text: a result is not lost
    because it cannot be shown.
    """
    try:
        text = str(value)
    except Exception:  # raised by a user's or a library's own code, too
        try:
            text = _written(value)
        except Exception:  # it is nested too deeply
            text = _without_text(value)
    return text.encode(errors="backslashreplace").decode() if is_torn(text) else text


def untorn(value: Any) -> Any:
    """Plain data with all texts as :func:`written` writes them, for JSON. No two keys become one: the written one gets
    as many primes as it needs to differ.
    """
    kind = type(value)
    if kind is str:
        return written(value)
    if kind in _BRACKETS:
        return [untorn(each) for each in value]
    if not isinstance(value, dict):
        return value
    found: dict[Any, Any] = {}
    for key, each in value.items():
        name = untorn(key)
        while name in found or (name != key and name in value):
            name += "'"
        found[name] = untorn(each)
    return found


def built_in(value: Any) -> Any:
    """An array or scalar of numpy as lists and values for JSON: dates that Python has no type for are texts."""
    if getattr(getattr(value, "dtype", None), "kind", "") not in {"m", "M"}:
        return value.tolist()
    if value.shape:
        return list(value)
    found = value.tolist()
    return str(value) if found is None or type(found) is int else found


def bytes_of(value: Any) -> int:
    """Bytes of an array; 0 for any other value, and for an array that does not tell (a sparse one, for example)."""
    try:
        return int(value.nbytes) if hasattr(type(value), "nbytes") else 0
    except Exception:  # raised by a library's own code
        return 0


def weight_of(value: Any, layers: int = 3) -> int:
    """About the bytes of the arrays, texts and bytes in a value. Of long containers it looks at the first members."""
    kind = type(value)
    if kind in {str, bytes, bytearray}:
        return len(value)
    if kind is not dict and kind not in _BRACKETS:
        return bytes_of(value)
    some = list(islice(value.values() if kind is dict else value, _SAMPLE)) if layers else []
    return sum(weight_of(each, layers - 1) for each in some) * len(value) // max(1, len(some))


_SAMPLE = 8
"""The members of a container that :func:`weight_of` looks at."""


def is_larger(value: Any, number: int) -> bool:
    """Whether a value certainly has more than this number of characters as text, or of bytes in arrays.

    It makes no text, which may have a multiple of the value's size.
    """
    left = number
    rest: list[Any] = [value]
    while rest:
        each = rest.pop()
        kind = type(each)
        if kind in {str, bytes, bytearray}:
            left -= len(each)
        elif kind in _BRACKETS:
            left -= len(each)  # the commas
            rest += islice(each, max(0, left))
        elif kind is dict:
            left -= len(each)
            rest += islice(chain.from_iterable(each.items()), max(0, left))
        else:
            left -= bytes_of(each)
        if left < 0:
            return True
    return False


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
    try:
        return repr(value)
    except Exception:  # raised by its own code
        return _without_text(value)


def _without_text(value: Any) -> str:
    return f"<{type(value).__qualname__} that has no text>"
