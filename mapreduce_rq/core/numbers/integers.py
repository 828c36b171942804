"""Big integers: as bytes for the wire, and as ``mpz`` once they are large enough to pay for it.

On the wire an integer is the fewest signed little-endian bytes that hold it. ``int`` and ``gmpy2.mpz`` read and write
them alike. Text would cost more, and Python limits it to 4300 digits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

BIG_BITS = 1 << 17
"""Bits of a number from which gmpy2 is worth its import of 80 ms: a product takes 0.3 ms with it and 4.4 ms without."""

MPZ_BITS = 1 << 12
"""Bits of a number from which the products of gmpy2 are faster, once it is imported."""

THREADS_BITS = 1 << 22
"""Bits of a number from which a product is worth a thread: it takes 10 ms, and to start the thread takes 0.1 ms."""

KEPT_BYTES = 256 << 20
LARGEST_KEPT = 32 << 20
"""Bytes of one freed number that are kept at most; glibc takes no larger value for this option."""
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
    """num/den, less than one off. Big numbers are rounded towards 0: a floor needs the remainder, 1/5 of the time."""
    if not is_big(num.bit_length()):
        return num // den
    from gmpy2 import t_div  # heavy, hence here

    found: int = t_div(num, den)
    return found


def side_by_side(*actions: Callable[[], int]) -> list[int]:
    """What these functions return, each called in a thread of its own: gmpy2 multiplies without the interpreter's lock.

    For numbers of ``THREADS_BITS`` and more, and in a process that has cores to spare: in a master, not in a worker.
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
    """Have the C library keep the memory that a product frees for the next product, up to ``KEPT_BYTES``.

    Otherwise the library gives megabytes back to the system, and the system clears them again page by page: with two
    workers this took 1/12 of all time. A C library without such options is left as it is.
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
