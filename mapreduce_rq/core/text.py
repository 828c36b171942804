"""Numbers, sizes, times and long texts in a form that people read easily."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

_place = "here"


def here() -> str:
    """The word ``here`` for a message; or ``on HOST``, in a process whose messages are read on other hosts."""
    return _place


def read_elsewhere(host: str) -> None:
    """Have messages name this host from now on, because they are read on other hosts."""
    global _place  # noqa: PLW0603  of the whole process
    _place = f"on {host}"


_SI = ("", "k", "M", "G", "T", "P", "E")


def count(number: float) -> str:
    """``999``, ``12.3k``, ``1.00M``: three digits for any size."""
    if abs(number) < 1000:
        return f"{number:.0f}" if number == int(number) or abs(number) >= 100 else f"{number:.3g}"
    power = min(len(_SI) - 1, int(math.log10(abs(number)) // 3))
    shown = f"{number / 1000**power:.3g}"
    if float(shown) >= 1000 and power < len(_SI) - 1:  # 999 999 rounds up to 1 000 k
        power, shown = power + 1, f"{number / 1000 ** (power + 1):.3g}"
    if "e" in shown:
        shown = f"{number / 1000**power:.0f}"
    return f"{shown}{_SI[power]}"


def grouped(number: int) -> str:
    """All digits, in groups of three."""
    return f"{number:,}"


def rate(per_second: float) -> str:
    """``310/s``."""
    return f"{count(per_second)}/s"


def duration(seconds: float) -> str:
    """``0.12 ms``, ``12 ms``, ``3.4 s``, ``2:05``, ``1:02:05``, ``3 d 4 h``; ``> 1e5 d`` up to infinity."""
    if seconds >= 100_000 * 86_400:
        return "> 1e5 d"
    if seconds < 0.5e-6:
        return "0 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms" if seconds >= 0.1e-3 else f"{seconds * 1000:.3f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86_400:
        return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
    if whole < 100 * 86_400:
        return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
    return f"{whole // 86_400} d"


def size(number: float) -> str:
    """``512 B``, ``1.4 MB``: powers of 1024."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.5 else f"{number:.2g} {unit}"
        number /= 1024
    return f"{number:.3g} TB"


def plural(number: int, one: str, many: str = "", *, shown: str = "") -> str:
    """``1 worker``, ``2 workers``. ``shown``: the number in another form, as ``12.3k``."""
    return f"{shown or number} {one if number == 1 else many or one + 's'}"


def without_value(number: int) -> str:
    """``1 of the terms has no value``, ``2 of the terms have no value``."""
    return f"{number} of the terms {'has' if number == 1 else 'have'} no value"


def short(text: str, width: int) -> str:
    """At most ``width`` characters; a text that is cut ends in ``...``."""
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can write the text: no name of a file with other bytes, which Python gives as half characters."""
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)


def not_utf8(text: str) -> str:
    """What a message says of a text that UTF-8 cannot write."""
    return f"{short(ascii(text), 200)} is not UTF-8, and cannot be sent"


def job_label(job: str) -> str:
    """A job's id, cut to what is unique in practice: commands accept it in place of the whole id."""
    name, dash, word = job.rpartition("-")
    return f"{name}{dash}{word[:6]}"


def in_lines(rows: Iterable[str]) -> Iterator[str]:
    """The rows as the pieces of a text, a line for each; some thousand of them in a piece."""
    rows, between = iter(rows), ""
    while some := list(islice(rows, LINES)):
        yield between + "\n".join(some)
        between = "\n"


LINES = 4096
"""Lines in a piece of a text."""
