"""The keys of a terminal by their names: what a person types, and the escape sequences that a terminal sends. Pure."""

from __future__ import annotations

import re

_NAMED = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "Z": "back-tab",
    "1~": "home",
    "4~": "end",
    "5~": "page-up",
    "6~": "page-down",
    "7~": "home",
    "8~": "end",
}
_PLAIN = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x1b": "escape"}
_KEY = re.compile(r"\x1b[\[O]([0-9;]*[A-Za-z~])|(.)", re.DOTALL)
LONGEST = 16
"""The most characters of an unfinished sequence that are kept."""


class Decoder:
    """Turns what a terminal sends into names. A sequence may come in pieces."""

    def __init__(self) -> None:
        self._begun = ""

    def keys(self, typed: str) -> list[str]:
        """The keys in what was typed: a printable character stands for itself."""
        text, self._begun = self._begun + typed, ""
        begun = re.search(r"\x1b[\[O][0-9;]*$", text)
        if begun is not None and len(begun[0]) < LONGEST:
            text, self._begun = text[: begun.start()], begun[0]
        found: list[str] = []
        for match in _KEY.finditer(text):
            if match[1] is not None:
                found.append(_NAMED.get(re.sub(r"^1;\d+", "", match[1]), ""))
            else:
                found.append(_PLAIN.get(match[2], match[2] if match[2].isprintable() else ""))
        return [key for key in found if key]
