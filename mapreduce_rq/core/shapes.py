"""Prepares types of messages and parameters for use: once, and in one thread at a time.

If two threads use a type of msgspec (0.22) for the first time at the same moment, the interpreter crashes. After its
first use any thread may use it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_lock = threading.Lock()
_decoders: dict[Any, Callable[[bytes | memoryview], Any]] = {}


def decoder(shape: Any) -> Callable[[bytes | memoryview], Any]:
    """A function that reads msgpack of this type. It raises msgspec's errors."""
    found = _decoders.get(shape)
    if found is None:
        with _lock:
            found = _decoders[shape] = _decoders.get(shape) or msgspec.msgpack.Decoder(shape).decode
    return found


def ready(shape: type[T]) -> type[T]:
    """The type, ready to be converted to."""
    decoder(shape)
    return shape
