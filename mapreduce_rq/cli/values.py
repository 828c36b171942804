"""Values as people write them: integers as 1e9 or 1_000_000, times as 90, 1.5s, 5m or 2h."""

from __future__ import annotations

import math
import re

from mapreduce_rq.core.numbers.rational import NotANumber, parse_rational
from mapreduce_rq.core.text import short
from mapreduce_rq.errors import BadParameter

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(ms|s|m|h|d|)", re.ASCII)
MAX_SECONDS = 10 * 365 * 86_400.0


def integer(option: str, text: str, least: int | None = None, most: int | None = None, *, word: str = "") -> int:
    """The integer in a text. Raises BadParameter, which names the option and the ``word`` that it also takes."""
    try:
        found = parse_rational(re.sub(r"(?<=\d)_(?=\d)", "", text))
    except NotANumber:
        or_word = f", or {word}" if word else ""
        raise BadParameter(f"{option}: {short(text, 40)!r} is not a whole number such as 8 or 1e6{or_word}") from None
    except ValueError as error:
        raise BadParameter(f"{option}: {error}") from None
    if found.den != 1:
        raise BadParameter(f"{option}: {text!r} is not a whole number")
    if (least is not None and found.num < least) or (most is not None and found.num > most):
        raise BadParameter(f"{option}: {text} is out of range: {_range(least, most)}")
    return found.num


def seconds(option: str, text: str, *, zero: bool = False) -> float:
    """The seconds in a text; 0 only if ``zero``. Raises BadParameter, which names the option."""
    match = _DURATION.fullmatch(text.strip())
    found = float(match[1]) * _UNITS[match[2]] if match else math.nan
    if not 0 <= found <= MAX_SECONDS or (found == 0 and not zero):
        above = " above 0" if found == 0 else ""
        raise BadParameter(f"{option}: {text!r} is not a time{above}: write 30, 1.5s, 5m, 2h or 7d")
    return found


def tolerance(option: str, text: str) -> float:
    """The positive number in a text. Raises BadParameter, which names the option."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise BadParameter(f"{option}: {text!r} is not a positive number such as 1e-6")
    return found


def choice(option: str, text: str, choices: tuple[str, ...]) -> str:
    """The text, which must be one of these. Raises BadParameter, which names the option."""
    if text not in choices:
        raise BadParameter(f"{option}: {text!r} is not one of {', '.join(choices)}")
    return text


def _range(least: int | None, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"at most {most}" if least is None else f"{least} to {most}"
