"""Calls that raise are made again, by the same worker, before they count as failed.

This is for functions whose exceptions pass: a server that does not answer, a rate that is limited. The worker waits and
calls again for this one term; the values of the other terms of its task stay. So a task is answered once, whatever its
terms raised on the way, and the master sees only values, and which of them took more than one call.

What does not pass is not tried again: an exception that is no ``Exception`` (such as SystemExit), a function that may
not run here, and a value that the reducer does not take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.foreign_errors import kind_of, message_of
from mapreduce_rq.core.messages import Tried
from mapreduce_rq.errors import BadFunction

MOST_WAIT = 3600.0
"""Seconds between two calls at most."""
TOLD_CHARACTERS = 200


class Retrying:
    """A function that is called up to ``retries`` times more while it raises.

    ``backoff``: seconds before the first of these calls, and twice as many before each next one. ``owner``: the
    computation, which knows how to wait and whom to tell.
    """

    def __init__(self, function: Callable[..., Any], retries: int, backoff: float, owner: Computation[Any]) -> None:
        self._function = function
        self._retries = retries
        self._backoff = backoff
        self._owner = owner
        self._done = 0  # calls, since ``begin``
        self._term_of: Callable[[int], int] = int
        self.failed: BaseException | None = None  # what the last call raised in the end

    def begin(self, term_of: Callable[[int], int]) -> None:
        """The next calls are for these terms: ``term_of(0)``, ``term_of(1)`` and so on."""
        self._done = 0
        self._term_of = term_of
        self.failed = None

    def resume(self, term_of: Callable[[int], int]) -> None:
        """As ``begin``, where a loop has ended before its last item. Raises what ended it, if the function did:
        a StopIteration, which the loop takes for the end of its items.
        """
        if self.failed is not None:
            raise self.failed
        self.begin(term_of)

    def tries_of(self, error: BaseException) -> int:
        """How many calls there were for the term that failed with this error."""
        return self._retries + 1 if error is self.failed and isinstance(error, Exception) else 1

    def __call__(self, *arguments: Any) -> Any:
        try:
            value = self._function(*arguments)
        except BadFunction:
            raise
        except Exception as error:
            raised = error
        else:
            self._done += 1
            return value
        try:
            return self._again(arguments, raised)
        finally:
            self._done += 1
            del raised  # its traceback holds this frame

    def _again(self, arguments: tuple[Any, ...], raised: Exception) -> Any:
        seconds = self._backoff
        for tries in range(2, self._retries + 2):
            self._owner.pause(min(seconds, MOST_WAIT))
            seconds = min(2 * seconds, MOST_WAIT)
            try:
                value = self._function(*arguments)
            except Exception as error:
                raised = error
            else:
                term = self._term_of(self._done)
                self._owner.told_of(Tried(term, tries, kind_of(raised), message_of(raised)[:TOLD_CHARACTERS]))
                return value
        self.failed = raised
        raise raised
