"""What an exception of a user's code is called, says and shows, whatever it does when it is asked.

Its ``__str__`` may raise, recurse, give 100 MB or something that is no text; its attributes may be properties that
raise; text may hold halves of characters, which no message can carry. None of that may keep its term from failing under
its name, or end a worker. So all that is asked of such an exception is asked here, each answer is bounded in size, and
a refused one is told as that.
"""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

MESSAGE_CHARACTERS = 2000
KIND_CHARACTERS = 200
TRACEBACK_CHARACTERS = 8000

_PLAINLY = 64
"""Exceptions behind one, and characters of all their messages in thousands, that are shown as Python shows them."""
_ASKED = {
    *("__cause__", "__context__", "__suppress_context__", "__traceback__", "__notes__", "__class__"),
    *("__getattribute__", "__getattr__", "exceptions"),
}
"""What Python's own rendering asks for: a class that answers itself might never come to an end."""
_ANSWER_TRULY = (object, BaseException, BaseExceptionGroup)


class Interruption(BaseException):
    """Raised into whoever computes from outside, by a signal's handler: no term has failed."""


class RemoteError(Exception):
    """What a function raised in a worker, in the place of an exception whose class cannot be had here.

    ``kind``: the name of its class. ``message``: its text.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def kind_of(error: BaseException) -> str:
    """The name of its class."""
    return _clean(_of(type, "__name__", type(error)), KIND_CHARACTERS)


def message_of(error: BaseException) -> str:
    """What it says."""
    text, refusal = _asked(lambda: str(error))
    return _clean(text, MESSAGE_CHARACTERS) if refusal is None else f"(its text cannot be had: {kind_of(refusal)})"


def told(error: BaseException) -> str:
    """Its name and what it says, on the way into a message of ours."""
    return f"{kind_of(error)}: {message_of(error)}"


def shown(value: object) -> str:
    """A value of any type as its type and a short text."""
    if value is None:
        return "None"
    text, refusal = _asked(lambda: reprlib.repr(value))
    text = _clean(text, MESSAGE_CHARACTERS) if refusal is None else f"(its text cannot be had: {kind_of(refusal)})"
    return f"{_clean(_of(type, '__name__', type(value)), KIND_CHARACTERS)} {text}"


def traceback_of(error: BaseException) -> str:
    """Where it was raised and what led to it, as Python shows it; the end of that, if it is long."""
    if _is_plain(error):
        text, refusal = _asked(lambda: "".join(traceback.format_exception(error)))
        if refusal is None:
            return _clean(text, TRACEBACK_CHARACTERS, end=True)
    at: TracebackType | None = _of(BaseException, "__traceback__", error)
    text, _ = _asked(lambda: "".join(["Traceback (most recent call last):\n", *traceback.format_tb(at)]))
    return _clean(f"{text}{told(error)}\n", TRACEBACK_CHARACTERS, end=True)


def noted(error: BaseException, traceback: str, where: str) -> BaseException:
    """The exception with what a worker's traceback showed as a note, which Python prints below it."""
    if traceback:
        at = f" {where}" if where else ""
        with suppress(Exception):  # where its notes are no list
            BaseException.add_note(error, f"\nThe traceback in the worker{at}:\n{traceback.rstrip()}")
    return error


def _asked(question: Callable[[], str]) -> tuple[str, BaseException | None]:
    """The answer, a str and of no class below it; or "" and what was raised instead."""
    try:
        return str.__getitem__(question(), slice(None)), None
    except Interruption:
        raise
    except BaseException as error:
        return "", error


def _of(kind: type, name: str, thing: Any) -> Any:
    """An attribute as the built-in type has it, whatever classes below it make of it."""
    return vars(kind)[name].__get__(thing)


def _clean(text: str, most: int, *, end: bool = False) -> str:
    """So much of a text, or of its end, as every message can carry it."""
    return (text[-most:] if end else text[:most]).encode("utf-8", "backslashreplace").decode()


def _is_plain(error: BaseException) -> bool:
    """Whether this and what is behind it is few and small, and of classes that answer no question on their own."""
    met, room = {id(error): error}, _PLAINLY * 1000
    row = [error]
    while row:
        one = row.pop()
        for each in _of(type, "__mro__", type(one)):
            if not any(each is known for known in _ANSWER_TRULY) and _ASKED & _of(type, "__dict__", each).keys():
                return False
        text, refusal = _asked(lambda one=one: str(one))  # type: ignore[misc]  # mypy cannot infer a default's type
        notes = _of(BaseException, "__dict__", one).get("__notes__", [])
        if refusal is not None or type(notes) is not list or any(type(note) is not str for note in notes):
            return False
        room -= len(text) + sum(map(len, notes))
        behind = [_of(BaseException, name, one) for name in ("__cause__", "__context__")]
        if issubclass(type(one), BaseExceptionGroup):
            behind += _of(BaseExceptionGroup, "exceptions", one)
        fresh = [each for each in behind if each is not None and id(each) not in met]
        met |= {id(each): each for each in fresh}
        row += fresh
        if room < 0 or len(met) > _PLAINLY:
            return False
    return True
