"""Text that others wrote, made harmless for a terminal: each character that would command it is shown instead.

A worker's name, an error or a value may hold escape sequences that move the cursor, set the window's title, or answer
in the reader's place; marks that turn the direction of writing hide what stands there; a line end fakes a line of ours.
One character takes the place of one, so that columns stay columns, and text made visible twice stays as it is.
"""

from __future__ import annotations

_UNSEEN = (
    *(0x061C, 0x180E, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF),  # marks of direction and width, line ends
    *range(0x202A, 0x202F),  # embeddings and overrides of direction
    *range(0x2060, 0x2070),  # joiners, isolates of direction
    *range(0xFFF9, 0xFFFC),  # annotations
    *range(0xD800, 0xE000),  # halves of characters, which no encoding can write
    *range(0xE0000, 0xE0080),  # tags
)
_TABLE = {
    **{code: chr(0x2400 + code) for code in range(0x20)},  # the pictures that Unicode has of C0: ␛ for escape
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),  # C1: 0x9b alone begins a sequence
    **dict.fromkeys(_UNSEEN, "\ufffd"),
}
_LINES = {code: shown for code, shown in _TABLE.items() if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """One line of text that commands nothing."""
    return text if text.isprintable() else text.translate(_TABLE)


def visible_lines(text: str) -> str:
    """Lines of text that command nothing: line ends and tabs stay."""
    return text if text.isprintable() else text.translate(_LINES)
