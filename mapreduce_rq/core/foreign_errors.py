"""The name, text and traceback of an exception of a user's code, safe against any code in its class.

The ``__str__`` of such an exception may raise, recurse, or return 100 MB or a value that is not text. Its attributes
may be properties that raise. Its text may hold halves of characters, which no message can carry. None of this may end a
worker, or hide which term failed with which error. So only this module asks exceptions of users for anything. The size
of each answer is bounded, and if there is no answer, the message says so.
"""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from mapreduce_rq.errors import MrqError

MASTER = "the master"
"""The place of a failure, if it was not in a worker."""

MESSAGE_CHARACTERS = 2000
KIND_CHARACTERS = 200
TRACEBACK_CHARACTERS = 8000

_PLAINLY = 64
"""An exception is shown as Python shows it if at most this number of others led to it, and if all their messages
together have at most this number of thousand characters.
"""
_ASKED = {
    *("__cause__", "__context__", "__suppress_context__", "__traceback__", "__notes__", "__class__"),
    *("__getattribute__", "__getattr__", "exceptions"),
}
"""Attributes that Python reads to show an exception. If a class defines one of them, its code might never return."""
_PACKAGE = __file__.removesuffix("core/foreign_errors.py")
_CALLERS = f"{_PACKAGE}functions/"
"""The package that calls users' functions. If a traceback ends in it, the function has no frame of its own."""
_OF_MISTAKES = (AssertionError, AttributeError, LookupError, NameError, TypeError, NotImplementedError)
"""Classes of exceptions that tell of a mistake in the code that raises them. Others, such as MemoryError, depend on the
size of a task, or on a value.
"""
_ANSWER_TRULY = (object, BaseException, BaseExceptionGroup)


class Interruption(BaseException):
    """A signal handler raises this in the code that computes. It ends the work, and no term has failed."""


class Refusal:
    """The mark of an error of ours whose message is complete: its reader has no use for a traceback."""


class RemoteError(Exception):
    """It stands for an exception that a function raised in a worker, and whose class cannot be imported here.

    ``kind``: the name of that class. ``message``: the exception's text.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def kind_of(error: BaseException) -> str:
    """The name of an exception's class."""
    return _clean(_of(type, "__name__", type(error)), KIND_CHARACTERS)


def message_of(error: BaseException) -> str:
    """An exception's text."""
    text, refusal = _asked(lambda: str(error))
    return _clean(text, MESSAGE_CHARACTERS) if refusal is None else f"(its text cannot be had: {kind_of(refusal)})"


def told(error: BaseException) -> str:
    """An exception's class and text, for a message of ours."""
    return f"{kind_of(error)}: {message_of(error)}"


def shown(value: object) -> str:
    """A value of any type as its type and a short text."""
    if value is None:
        return "None"
    text, refusal = _asked(lambda: reprlib.repr(value))
    text = _clean(text, MESSAGE_CHARACTERS) if refusal is None else f"(its text cannot be had: {kind_of(refusal)})"
    return f"{_clean(_of(type, '__name__', type(value)), KIND_CHARACTERS)} {text}"


def traceback_of(error: BaseException) -> str:
    """An exception's traceback and the exceptions that led to it, as Python shows them; of a long text only its end.

    It begins with the first frame that is not in this package, because a function's author has no use for our frames.
    So it is "" for a function in C, and for a refusal of ours. If our own code fails, all frames are shown.
    """
    if _says_all(error):
        return ""
    if _is_plain(error):
        text, refusal = _asked(lambda: "".join(_theirs(traceback.TracebackException.from_exception(error)).format()))
        if refusal is None:
            return _clean(text, TRACEBACK_CHARACTERS, end=True)
    at = _first_of_theirs(_of(BaseException, "__traceback__", error))
    text, _ = _asked(lambda: "".join(["Traceback (most recent call last):\n", *traceback.format_tb(at)]))
    return _clean(f"{text}{told(error)}\n", TRACEBACK_CHARACTERS, end=True)


def noted(error: BaseException, traceback: str, where: str) -> BaseException:
    """The exception with the worker's traceback as a note, which Python prints below it."""
    if traceback:
        at = MASTER if where == MASTER else f"the worker {where}".rstrip()
        # BaseException.add_note would read the attribute, which may be code of its class.
        notes = dict.setdefault(_of(BaseException, "__dict__", error), "__notes__", [])
        if type(notes) is list:
            notes.append(f"\nThe traceback in {at}:\n{traceback.rstrip()}")
    return error


def notes_of(error: BaseException) -> str:
    """An exception's notes, such as :func:`noted` adds; "" if they are not texts."""
    notes = _of(BaseException, "__dict__", error).get("__notes__", [])
    if type(notes) is not list or any(type(note) is not str for note in notes):
        return ""
    return _clean("\n".join(notes).strip("\n"), TRACEBACK_CHARACTERS, end=True)


def _asked(question: Callable[[], str]) -> tuple[str, BaseException | None]:
    """The answer as a plain str, and None; or "" and the exception that the question raised."""
    try:
        return str.__getitem__(question(), slice(None)), None
    except Interruption:
        raise
    except BaseException as error:
        return "", error


def _of(kind: type, name: str, thing: Any) -> Any:
    """An attribute as the built-in type defines it, even if a class below defines it anew."""
    return vars(kind)[name].__get__(thing)


def _clean(text: str, most: int, *, end: bool = False) -> str:
    """The first ``most`` characters of a text, or its last ones, without characters that a message cannot carry."""
    return (text[-most:] if end else text[:most]).encode("utf-8", "backslashreplace").decode()


def _is_ours(frame: str) -> bool:
    return frame.startswith(_PACKAGE)


def _first_of_theirs(at: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not ours; all of it if there is no such frame."""
    found = at
    while found is not None and _is_ours(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found or at


def is_our_fault(error: BaseException) -> bool:
    """Whether an exception comes from a mistake in this package: of a class that tells of one, and with no frame of
    others. In the package that calls users' functions it may come from such a function in C.
    """
    raised_in = _ours_alone(error) if issubclass(type(error), _OF_MISTAKES) else ""
    return bool(raised_in) and not raised_in.startswith(_CALLERS)


def _says_all(error: BaseException) -> bool:
    """Whether all its frames are ours, and it is either a refusal or was raised by a function that has no frame."""
    raised_in = _ours_alone(error)
    return raised_in.startswith(_CALLERS) or (issubclass(type(error), (MrqError, Refusal)) and bool(raised_in))


def _ours_alone(error: BaseException) -> str:
    """The file in which an exception was raised, if all its frames are ours; "" otherwise, or if it has none."""
    at: TracebackType | None = _of(BaseException, "__traceback__", error)
    last = ""
    while at is not None:
        last = at.tb_frame.f_code.co_filename
        if not _is_ours(last):
            return ""
        at = at.tb_next
    return last


def _theirs(shown: traceback.TracebackException) -> traceback.TracebackException:
    """The traceback without our frames at its beginning, and at the beginnings of those that led to it."""
    row, met = [shown], {id(shown)}
    while row:
        one = row.pop()
        frames = list(one.stack)
        first = next((at for at, frame in enumerate(frames) if not _is_ours(frame.filename)), 0)
        one.stack = traceback.StackSummary.from_list(frames[first:])
        behind = [each for each in (one.__cause__, one.__context__, *(one.exceptions or ())) if each is not None]
        row += [each for each in behind if id(each) not in met]
        met |= {id(each) for each in behind}
    return shown


def _is_plain(error: BaseException) -> bool:
    """Whether this exception and those that led to it are few, small, and of classes that do not define ``_ASKED``."""
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
