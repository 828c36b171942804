"""One pickler for all that travels as a pickle: functions, items, values, reducers, exceptions.

What has an importable name travels by it, at the speed of the standard pickler. What has none (lambdas, closures, and
the functions and classes of ``__main__``: of a script, a notebook, a prompt) travels with its code, by cloudpickle.

A class that travels so must be one class in each process, whichever messages it came in: an item must be an instance of
the class that the function knows, and a value that comes back one of the class of the caller. So such a class travels
as a number that its first sender gave it, and its code; the code is used by a process that does not know the number.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

PROTOCOL = 5
"""PEP 574: large buffers stay out of the pickle."""

_codes: WeakKeyDictionary[type, bytes] = WeakKeyDictionary()
"""Of classes that have travelled: the pickle with their code."""


def dumps(value: Any) -> bytes:
    """The value's pickle.

    Raises whatever a value's own code raises, or the pickler for what has no pickle (TypeError, PicklingError, ...).
    """
    return _dumps(value, None)


def dumps_apart(value: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """The value's pickle, and the large buffers of it beside it. Raises as :func:`dumps`."""
    buffers: list[pickle.PickleBuffer] = []
    return _dumps(value, buffers), buffers


def _dumps(value: Any, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    keep = None if buffers is None else buffers.append
    with suppress(Exception):  # perhaps for lack of a name only
        pickled = pickle.dumps(value, PROTOCOL, buffer_callback=keep)
        if b"__main__" not in pickled:  # or else it may be a name of a module that is another one there
            return pickled
    if buffers is not None:
        buffers.clear()
    file = io.BytesIO()
    _by_value()(file, protocol=PROTOCOL, buffer_callback=keep).dump(value)
    return file.getvalue()


def loads(pickled: bytes | memoryview, buffers: Sequence[memoryview] = ()) -> Any:
    """What :func:`dumps` or :func:`dumps_apart` took. It runs code of the sender. Raises whatever that raises."""
    return pickle.loads(pickled, buffers=buffers)  # noqa: S301  the caller has asked Trust


@cache
def _by_value() -> Callable[..., Any]:
    """The pickler class for what has no name."""
    import cloudpickle  # 10 ms, and only for such things
    from cloudpickle import cloudpickle as inside

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        """cloudpickle's, with classes that keep their identity."""

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type) and not inside._should_pickle_by_reference(obj):  # noqa: SLF001
                code = _codes.get(obj)
                if code is None:
                    code = _codes[obj] = cloudpickle.dumps(obj, PROTOCOL)
                return _adopt, (inside._get_or_create_tracker_id(obj), code)  # noqa: SLF001
            return super().reducer_override(obj)

    return ByValue


def _adopt(number: str, code: bytes) -> Any:
    """The class of this number, made of its code where this process has not met it yet."""
    from cloudpickle import cloudpickle as inside  # 10 ms, and only for such things

    known = inside._DYNAMIC_CLASS_TRACKER_BY_ID.get(number)  # noqa: SLF001
    return known if known is not None else pickle.loads(code)  # noqa: S301  it came in a pickle that was trusted
