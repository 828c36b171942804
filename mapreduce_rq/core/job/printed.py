"""Output of a job's functions, as its client gets it."""

from __future__ import annotations

from typing import NamedTuple


class Printed(NamedTuple):
    """Text that a function printed or logged: lines as they came, with control characters as they are."""

    where: str  # host:pid of the worker
    span: tuple[int, int]  # first term, and the one after the last: one term, where it is known
    stream: str  # stdout, stderr or log
    text: str
    cut: int = 0  # bytes that were left out just before it

    @property
    def term(self) -> int | None:
        """The term; None if only the task is known."""
        return self.span[0] if self.span[1] - self.span[0] == 1 else None
