"""Functions declared with ``async def``: each call is run to its end in one event loop for each process."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

_loop: Any = None


def is_async(function: Any) -> bool:
    """Whether a call of it returns a coroutine, as far as the function declares that."""
    call = inspect.getattr_static(type(function), "__call__", None)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def to_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns. Raises what it raises."""
    global _loop  # noqa: PLW0603  one for each process, so that what coroutines keep between calls stays usable
    if _loop is None or _loop.is_closed():
        import asyncio  # 30 ms, for those that need it

        _loop = asyncio.new_event_loop()
    return _loop.run_until_complete(coroutine)


def run_to_end(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose values are those of the coroutines that ``function`` gives."""

    def run(*arguments: Any, **named: Any) -> Any:
        return to_end(function(*arguments, **named))

    return run
