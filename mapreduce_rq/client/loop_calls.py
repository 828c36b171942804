"""Calls between an asyncio loop and threads: a blocking call runs in a thread, and a thread wakes what waits in the
loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Make the call in a thread and return its value. If the waiting task is cancelled, ``undo`` gets the value."""
    made = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        if undo is not None:
            made.add_done_callback(partial(_undone, undo))
        raise


def _undone(undo: Callable[[Any], object], made: asyncio.Future[Any]) -> None:
    if not made.cancelled() and made.exception() is None:
        threading.Thread(target=undo, args=(made.result(),), daemon=True).start()


def tell(loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
    """Set the waiter's result, from any thread."""
    call_soon(loop, lambda: None if waiter.done() else waiter.set_result(None))


def call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Have the loop make a call soon; from any thread."""
    with suppress(RuntimeError):  # the loop is closed, and nothing in it waits any more
        loop.call_soon_threadsafe(call)
