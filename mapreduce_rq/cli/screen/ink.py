"""What is drawn with Rich is written in this ink: text that others wrote commands nothing on the terminal.

Rich passes escape sequences in a text on as they are. No other module here uses Rich's own Text, and none prints plain
strings with it: a test reads them all.
"""

from __future__ import annotations

from typing import Any, Self

from rich import text as plain

from mapreduce_rq.core.visible import visible


class Text(plain.Text):
    """A line of text, made visible whatever is in it."""

    def __init__(self, text: str = "", *how: Any, **more: Any) -> None:
        super().__init__(visible(text), *how, **more)

    def append(self, text: plain.Text | str, style: Any = None) -> Self:
        """Add text behind it."""
        super().append(visible(text) if isinstance(text, str) else text, style)
        return self

    @classmethod
    def assemble(cls, *parts: Any, **how: Any) -> Self:
        """A line of texts, each alone or in a pair with its style."""
        made = super().assemble(*parts, **how)
        assert isinstance(made, cls)
        return made
