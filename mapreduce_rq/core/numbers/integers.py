"""Big integers: as bytes for the wire, and as ``mpz`` if they are so large that it saves time.

On the wire an integer is the fewest signed little-endian bytes that hold it. ``int`` and ``gmpy2.mpz`` read and write
them alike. Text would cost more, and Python limits it to 4300 digits.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

BIG_BITS = 1 << 17
"""From this number of bits, gmpy2 is worth its import of 80 ms: a product takes 0.3 ms with it and 4.4 ms without."""

MPZ_BITS = 1 << 12
"""From this number of bits, products are faster with gmpy2, once it is imported."""

THREADS_BITS = 1 << 22
"""From this number of bits, a product is worth a thread: it takes 10 ms, and to start the thread takes 0.1 ms."""

KEPT_BYTES = 256 << 20
LARGEST_KEPT = 32 << 20
"""The most bytes of a freed number that the C library keeps; glibc takes no larger value for this option."""
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
    """The decimal digits of a number. ``str`` refuses more than 4300 of them."""
    return str(number) if number.bit_length() < 14_000 else str(big_type()(number).digits())


def quotient(num: int, den: int) -> int:
    """num/den, with an error of less than one. Big numbers are rounded towards 0: a floor would need the remainder,
    which takes 1/5 of the time.
    """
    if not is_big(num.bit_length()):
        return num // den
    from gmpy2 import t_div  # heavy, hence here

    found: int = t_div(num, den)
    return found


def side_by_side(*actions: Callable[[], int]) -> list[int]:
    """Call each function in a thread of its own and return their values: gmpy2 multiplies without the interpreter's
    lock.

    This is for numbers of ``THREADS_BITS`` and more, in a process with free cores: a master, not a worker.
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
    """Whether a number with this number of bits should be an ``mpz``."""
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
    """``gmpy2.mpz``, imported at the first use, so that a computation with small numbers does not import it."""
    from gmpy2 import mpz  # heavy, hence here

    return mpz
