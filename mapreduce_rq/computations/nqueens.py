"""How many ways there are to place n queens on an n by n board so that none attacks another: tasks of uneven size.

A position is three words of bits: the columns, and the diagonals in both directions, that are under attack in the next
row. All positions of a row are kept in arrays and are expanded together, one column at a time.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.outcome import Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.sums import IntSum, describe_integer

WIDEST = 1 << 16
"""Positions expanded at a time: more are cut in two, which bounds the memory."""


class QueensParams(Params, frozen=True, kw_only=True):
    """The board."""

    n: Annotated[int, msgspec.Meta(description="queens, and columns and rows of the board", ge=1, le=24)]


class NQueens(Computation[int]):
    """How many ways there are to place n queens on an n by n board so that none attacks another.

    A term is one placing of the queens of the first rows (two, or more for large boards). Many placings are impossible
    and cost nothing, others cost a second: this tests how evenly the work is spread. n = 14 takes about a second of one
    core, and each further queen makes it about seven times as long. The count is exact, so there is no bound.
    """

    name: ClassVar[str] = "nqueens"
    summary: ClassVar[str] = "how many ways there are to place n queens on a board"
    Params = QueensParams
    seconds_per_term: ClassVar[float | None] = None

    def __init__(self, params: QueensParams) -> None:
        super().__init__(params)
        self.reducer = IntSum()
        self.depth = min(params.n, 2 if params.n <= 14 else 3 if params.n <= 17 else 4)
        self.total: int | None = params.n**self.depth

    def map(self, lo: int, hi: int) -> int:
        import numpy as np  # heavy, hence here

        n = self.params.n
        k = np.arange(lo, hi, dtype=np.int64)
        state = np.zeros((3, hi - lo), dtype=np.int32)  # columns, diagonals to the left and to the right
        for row in range(self.depth):
            bit = (1 << (k // n ** (self.depth - 1 - row) % n)).astype(np.int32)
            free = (state[0] | state[1] | state[2]) & bit == 0
            k = k[free]
            state = _placed(state[:, free], bit[free], (1 << n) - 1)
        return self._count(state, self.depth)

    def _count(self, state: Any, row: int) -> int:
        """The solutions that continue the positions, whose next row is ``row``."""
        import numpy as np  # map has imported it

        n = self.params.n
        full = (1 << n) - 1
        while state.shape[1]:
            if row == n:
                return int(state.shape[1])
            free = ~(state[0] | state[1] | state[2]) & full
            if row == n - 1:
                return int(np.count_nonzero(free))  # one column is left at most
            if state.shape[1] > WIDEST:
                half = state.shape[1] // 2
                return self._count(state[:, :half], row) + self._count(state[:, half:], row)
            grown = []
            while True:
                left = free != 0
                state, free = state[:, left], free[left]
                if not free.size:
                    break
                bit = free & -free
                grown.append(_placed(state, bit, full))
                free ^= bit
            state = np.concatenate(grown, axis=1) if grown else state
            row += 1
        return 0

    def finish(self, partial: int, terms: int) -> Outcome:
        notes: tuple[str, ...] = ()
        assert self.total is not None
        if terms < self.total:
            notes = (f"ended early: the solutions of {terms} of {self.total} beginnings",)
        return msgspec.structs.replace(describe_integer(partial), details={"n": self.params.n}, notes=notes)

    def peek(self, partial: int, terms: int) -> Progress | None:
        return Progress(value=f"{partial} so far", number=float(partial))


def _placed(state: Any, bit: Any, full: int) -> Any:
    """The positions with one more queen each, at ``bit``, as seen from the next row."""
    import numpy as np  # map has imported it

    return np.stack([state[0] | bit, (state[1] | bit) << 1 & full, (state[2] | bit) >> 1])
