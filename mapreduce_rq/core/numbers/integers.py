"""Big integers: as bytes for the wire, and as ``mpz`` once they are large enough to pay for it.

On the wire an integer is signed little-endian bytes, as few as hold it: ``int`` and ``gmpy2.mpz`` read and write
them alike, and neither the cost nor Python's limit of 4300 digits that text would bring applies.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

BIG_BITS = 1 << 17
"""From this size on gmpy2 is worth its import of 80 ms: a product takes 0.3 ms with it and 4.4 ms without."""

MPZ_BITS = 1 << 12
"""From this size on its products are faster, once it is imported."""

THREADS_BITS = 1 << 22
"""From this size on a product is worth a thread: 10 ms, of which starting one takes a hundredth."""

KEPT_BYTES = 256 << 20
LARGEST_KEPT = 32 << 20
"""Bytes of one number; glibc takes no more for this option."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def to_bytes(number: int) -> bytes:
    """Signed little-endian bytes, the fewest that leave room for the sign bit."""
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def from_bytes(data: bytes) -> int:
    """The integer of these bytes, a ``gmpy2.mpz`` if it is big. Raises ValueError for bytes that are not the fewest."""
    number: int
    if is_big(len(data) << 3):
        number = big_type().from_bytes(data, "little", signed=True)
    else:
        number = int.from_bytes(data, "little", signed=True)
    if number.bit_length() // 8 + 1 != len(data):
        raise ValueError(f"{len(data)} bytes hold an integer of {number.bit_length()} bits: not its shortest form")
    return number


def digits(number: int) -> str:
    """Decimal digits of any number of them, which ``str`` refuses beyond 4300."""
    return str(number) if number.bit_length() < 14_000 else str(big_type()(number).digits())


def quotient(num: int, den: int) -> int:
    """num/den, less than a unit off: of big numbers without the remainder, which a floor costs, a fifth of the time."""
    if not is_big(num.bit_length()):
        return num // den
    from gmpy2 import t_div  # heavy, hence here

    found: int = t_div(num, den)
    return found


def side_by_side(*actions: Callable[[], int]) -> list[int]:
    """What these give, each in a thread of its own: gmpy2 multiplies without the interpreter's lock.

    For numbers of ``THREADS_BITS``, where nobody else needs the cores: in a master, not in one of many workers.
    """
    from gmpy2 import context, get_context  # heavy, hence here

    found: list[int | None] = [None] * len(actions)

    def run(place: int) -> None:
        with context(get_context(), allow_release_gil=True):
            found[place] = actions[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(1, len(actions))]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    return [action() if value is None else value for action, value in zip(actions, found, strict=True)]


def is_big(bits: int) -> bool:
    """Whether numbers of that many bits are better kept as ``mpz``."""
    return bits > BIG_BITS or (bits > MPZ_BITS and "gmpy2" in sys.modules)


def keep_memory() -> None:
    """Have the C library keep what a product leaves for the next one, up to ``KEPT_BYTES``.

    It would give megabytes back to the system, and fetch and clear them again page by page: with two workers a twelfth
    of all time. A C library without such options is left as it is.
    """
    import ctypes  # heavy, hence here

    options = getattr(ctypes.CDLL(None), "mallopt", None)
    if options is not None:
        options(M_MMAP_THRESHOLD, LARGEST_KEPT)
        options(M_TRIM_THRESHOLD, KEPT_BYTES)


def big_type() -> Any:
    """``gmpy2.mpz``, imported at the first use: a computation with small numbers never pays for it."""
    from gmpy2 import mpz  # heavy, hence here

    return mpz
