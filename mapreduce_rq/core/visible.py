"""Makes text from outside harmless for a terminal: each character that controls the terminal becomes a visible one.

A worker's name, an error or a value may hold escape sequences, which move the cursor, set the window's title, or make
the terminal type an answer. Marks that change the direction of writing can hide text. A line end can fake a line of
ours. Each character is replaced by one character, so columns keep their widths. A second call changes nothing.
"""

from __future__ import annotations

_UNSEEN = (
    range(0x80, 0xA0),  # C1: 0x9b alone begins a sequence
    (0x061C, 0x180E, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF),  # marks of direction and width, line ends
    range(0x202A, 0x202F),  # embeddings and overrides of direction
    range(0x2060, 0x2070),  # joiners, isolates of direction
    range(0xFFF9, 0xFFFC),  # annotations
    range(0xD800, 0xE000),  # halves of characters, which no encoding can write
    range(0xE0000, 0xE0080),  # tags
)
UNKNOWN = 0xFFFD


class _Shown(dict[int, int]):
    """The character that is shown for each character. It is filled by use, so that it costs nothing at start-up."""

    def __init__(self, kept: str) -> None:
        super().__init__({ord(one): ord(one) for one in kept})

    def __missing__(self, code: int) -> int:
        if code < 0x20:
            shown = 0x2400 + code  # the pictures that Unicode has of C0: ␛ for escape
        elif code == 0x7F:
            shown = 0x2421
        else:
            shown = UNKNOWN if any(code in some for some in _UNSEEN) else code
        self[code] = shown
        return shown


_LINE = _Shown("")
_LINES = _Shown("\n\t")


def visible(text: str) -> str:
    """The text as one line that does not control the terminal."""
    return text if text.isprintable() else text.translate(_LINE)


def visible_lines(text: str) -> str:
    """The text as lines that do not control the terminal: line ends and tabs stay."""
    return text if text.isprintable() else text.translate(_LINES)
