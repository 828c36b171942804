"""Text that others wrote, made harmless for a terminal: each character that would command it is shown instead.

A worker's name, an error or a value may hold escape sequences that move the cursor, set the window's title, or answer
in the reader's place; marks that turn the direction of writing hide what stands there; a line end fakes a line of ours.
One character takes the place of one, so that columns stay columns, and text made visible twice stays as it is.
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
    """What stands for each character. It fills as it is used: it must cost nothing at the start."""

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
    """One line of text that commands nothing."""
    return text if text.isprintable() else text.translate(_LINE)


def visible_lines(text: str) -> str:
    """Lines of text that command nothing: line ends and tabs stay."""
    return text if text.isprintable() else text.translate(_LINES)
