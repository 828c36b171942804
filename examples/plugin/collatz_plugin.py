"""A computation and a reducer that another package adds to mrq.

    pip install examples/plugin                         # where masters run, and where workers run
    mrq compute collatz 1e5                             # the new computation
    mrq run colour:wheel --terms 100 --reduce gcd       # the new reducer, over a function of your own

Longest and Collatz make the computation, Gcd is the reducer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import msgspec

from mapreduce_rq.extend import BadValue, Computation, Outcome, Params, Progress, Reducer

_PAIR = struct.Struct("<qq")


class Longest(Reducer[tuple[int, int]]):
    """The longest of all chains: (steps, start), of equal ones that with the smallest start.

    "Longest" is associative and commutative, so the law is the default one and the order of answers does not matter.
    """

    name: ClassVar[str] = "longest"

    def zero(self) -> tuple[int, int]:
        return (-1, 0)  # shorter than any chain

    def merge(self, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
        return min(left, right, key=lambda chain: (-chain[0], chain[1]))

    def encode(self, partial: tuple[int, int]) -> bytes:
        return _PAIR.pack(*partial)  # one text of bytes for equal partials: the digest is made of it

    def decode(self, data: bytes) -> tuple[int, int]:
        try:
            steps, start = _PAIR.unpack(data)
        except struct.error as error:  # it came over a network: say ValueError, and the answer is dropped
            raise ValueError(str(error)) from None
        return steps, start


class CollatzParams(Params, frozen=True, kw_only=True):
    """The option of `mrq compute collatz`, with its range and its line of help."""

    below: Annotated[int, msgspec.Meta(description="look at all starts below this one", ge=2, le=10**9)]


class Collatz(Computation[tuple[int, int]]):
    """The start below a number whose 3n + 1 chain is the longest.

    A term is one start and costs about ten microseconds. The result is exact, there is no bound to speak of.
    """

    name: ClassVar[str] = "collatz"
    summary: ClassVar[str] = "the longest 3n + 1 chain of all starts below a number"
    Params = CollatzParams
    positional: ClassVar[str] = "below"
    seconds_per_term: ClassVar[float | None] = 1e-5
    vectorised: bool = False
    reducer = Longest()

    def __init__(self, params: CollatzParams) -> None:
        super().__init__(params)
        self.total: int | None = params.below - 1

    def map(self, lo: int, hi: int) -> tuple[int, int]:
        best = self.reducer.zero()
        for start in range(lo + 1, hi + 1):  # term k is the start k + 1
            n, steps = start, 0
            while n != 1:
                n = 3 * n + 1 if n & 1 else n >> 1
                steps += 1
            best = self.reducer.merge(best, (steps, start))
        return best

    def finish(self, partial: tuple[int, int], terms: int) -> Outcome:
        steps, start = partial
        early = () if terms == self.total else (f"ended early: the longest of {terms} of {self.total} chains",)
        return Outcome(
            value=str(start),
            number=float(start),
            bound="0",
            bound_kind="exact",
            native=start,
            details={"steps": steps},
            notes=early,
        )

    def peek(self, partial: tuple[int, int], terms: int) -> Progress:
        return Progress(value=f"{partial[1]} with {partial[0]} steps so far")


class Gcd(Reducer[int]):
    """The greatest common divisor of integers: values in, one integer out."""

    name: ClassVar[str] = "gcd"

    def zero(self) -> int:
        return 0  # gcd(0, n) is n

    def merge(self, left: int, right: int) -> int:
        return math.gcd(left, right)

    def encode(self, partial: int) -> bytes:
        return partial.to_bytes((partial.bit_length() + 7) // 8, "big")

    def decode(self, data: bytes) -> int:
        if data[:1] == b"\0":
            raise ValueError("a zero in front: encode does not write one")
        return int.from_bytes(data, "big")

    def fold(self, lo: int, values: Iterable[Any]) -> int:
        total = 0
        for term, value in enumerate(values, lo):
            if not isinstance(value, int):
                raise BadValue(term, value, "integers")  # the job fails, and names the term
            total = math.gcd(total, value)
        return total
