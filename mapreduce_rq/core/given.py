"""Checks the arguments of public functions: a table has the kind of each argument by its name, which means the same in
all functions.

Without a check, Python fails on a wrong argument somewhere inside, with a message about our own names. So each public
function checks its arguments first, and the message says which one is wrong, what was given, and what is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from mapreduce_rq.errors import WrongType

MOST = 10**18
"""The most that a count may be; it fits into 64 bits."""
LONGEST_WAIT = 9_000_000_000.0
"""The most seconds: three hundred years. Python's own waits take little more."""
MOST_SHOWN = 40
"""The most characters of a value in a message."""
MOST_BITS = 100
"""The most bits of a whole number that a message shows: more digits are of no use, and Python may refuse them."""


class Wanted(NamedTuple):
    """A kind of argument: what is wanted, in words, and the test for it."""

    words: str
    fits: Callable[[Any], bool]


def plain(value: Any) -> Any:
    """The value as one of Python's own types, if it is of a kind of these: a number of numpy, an array (a list), a
    subclass of float, int, str or bytes. What travels as a number is a number for each reader.
    """
    kind = type(value)
    if kind in _OWN:
        return value
    for own, method in _AS_OWN:
        if isinstance(value, own):
            return method(value)
    if kind is list or kind is tuple:
        return [plain(one) for one in value]
    to_list = getattr(kind, "tolist", None)  # of numpy's scalars and arrays, and of pandas' columns
    return to_list(value) if callable(to_list) else value


_OWN = frozenset({type(None), bool, int, float, str, bytes, dict})
_AS_OWN: list[tuple[type, Callable[[Any], Any]]] = [
    (float, float.__float__),
    (int, int.__int__),
    (str, str.__str__),
    (bytes, bytes.__bytes__),
]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return _whole(value) or isinstance(value, float)


def _seconds(value: Any) -> bool:
    return _number(value) and -LONGEST_WAIT <= value <= LONGEST_WAIT


def _iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return True


def _texts(value: Any) -> bool:
    return not isinstance(value, (str, bytes)) and _iterable(value)


def _named(value: Any) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


def _has(*methods: str) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in methods)


def or_none(kind: Wanted) -> Wanted:
    """The kind of an argument that may be left out."""
    return Wanted(f"{kind.words}, or None", lambda value: value is None or kind.fits(value))


TEXT = Wanted("a text", _text)
WHOLE = Wanted("a whole number", _whole)
COUNT = Wanted(f"a whole number, at most {MOST:,}", lambda value: _whole(value) and value <= MOST)
NUMBER = Wanted("a number", _number)
FLAG = Wanted("True or False", lambda value: value is True or value is False)
SECONDS = Wanted(f"a number of seconds, at most {LONGEST_WAIT:,.0f}", _seconds)
PATIENCE = Wanted(f"a number of seconds, 0 to {LONGEST_WAIT:,.0f}", lambda value: _seconds(value) and value >= 0)
CALLABLE = Wanted("a function", callable)
NAMED = Wanted("a dictionary with texts as keys", lambda value: _named(value) and all(map(_text, value)))
PATH = Wanted("a path", lambda value: _text(value) or _has("__fspath__")(value))
ITERABLE = Wanted("an iterable", _iterable)

KINDS = {
    "url": or_none(Wanted("a text, such as redis://host", _text)),
    "queue": or_none(TEXT),
    "host": TEXT,
    "keys": or_none(Wanted("a list of keys", _texts)),
    "allow": Wanted("a list of texts", lambda value: _texts(value) and all(map(_text, value))),
    "server": or_none(Wanted("an EmbeddedServer", _has("wait_ready", "stop"))),
    "loops": or_none(Wanted("what Client.on_rq makes", _has("start", "stop"))),
    "job": Wanted("a job's id", lambda value: _text(value) and value.isprintable()),
    "computation": Wanted("the name of a computation", _text),
    "setup": or_none(Wanted("a function or its name", lambda value: callable(value) or _text(value))),
    "observer": or_none(Wanted("an object with the methods of Observer", _has("progressed", "noticed"))),
    "law": Wanted("ordered or commutative", lambda value: isinstance(value, (str, Enum))),
    "form": Wanted("jsonl or parquet", _text),
    "path": PATH,
    "out": or_none(PATH),
    **dict.fromkeys(["local", "max_workers"], or_none(WHOLE)),
    **dict.fromkeys(["chunksize", "buffersize", "max_tasks_per_child", "maxtasksperchild"], or_none(COUNT)),
    "helpers": WHOLE,
    "timeout": or_none(SECONDS),  # below 0 it is 0, as for a future of Python
    "wait_workers": or_none(PATIENCE),
    **dict.fromkeys(["allow_pickle", "as_rq", "star", "return_exceptions", "sorted", "ordered", "now"], FLAG),
    **dict.fromkeys(["wait", "cancel_futures", "make_default", "whole", "ship", "libm", "samples"], FLAG),
    **dict.fromkeys(["kwargs", "options", "kwds"], or_none(NAMED)),
    **dict.fromkeys(["args", "initargs", "iterable", "items"], ITERABLE),
    **dict.fromkeys(["initializer", "callback", "error_callback", "extract"], or_none(CALLABLE)),
    **dict.fromkeys(["then", "fn", "func", "create", "add", "merge", "function"], CALLABLE),
    **dict.fromkeys(["format", "delimiter"], or_none(TEXT)),
    **dict.fromkeys(["encoding", "errors"], TEXT),
}
"""The kinds of arguments by their names. An argument that is not here may be anything, or is checked at its use."""

SECRET = {"url", "keys"}
"""Arguments whose values no message may show."""


def check(**given: Any) -> None:
    """Raises WrongType for the first argument that is not of its kind."""
    for name, value in given.items():
        if not KINDS[name].fits(value):
            expect(name, value, KINDS[name])


def expect(name: str, value: Any, kind: Wanted) -> None:
    """Raises WrongType if the argument with this name is not of this kind."""
    if not kind.fits(value):
        raise WrongType(f"{name} is {shown(value, secret=name in SECRET)}, and must be {kind.words}")


def only(function: str, given: Iterable[str], takes: Iterable[str]) -> None:
    """Raises WrongType for the first of the named arguments that a public function does not take.

    It is for a function that hands its arguments on: Python would name the inner function, which the caller does not
    know.
    """
    for name in given:
        if name not in (known := sorted(takes)):
            from difflib import get_close_matches  # takes 5 ms, and only a mistake needs it

            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise WrongType(f"{function}() takes no argument {name}: {hint}")


def shown(value: Any, *, secret: bool = False) -> str:
    """A given value as a short text in one line. No method of the value is called."""
    kind = type(value)
    if value is None:
        return "None"
    if not secret:
        if kind is bool:
            return repr(value)
        if kind is int:
            if value.bit_length() < MOST_BITS:
                return f"{value:,}"
            return f"{'-' * (value < 0)}2**{value.bit_length() - 1} or more"
        if kind is float:
            return "nan" if math.isnan(value) else f"{value:g}"
        if kind in {str, bytes} and len(value) <= MOST_SHOWN:
            return ascii(value)
    return a_kind(value)


def a_kind(value: object) -> str:
    """The type of a value, with its article: ``an int``."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
