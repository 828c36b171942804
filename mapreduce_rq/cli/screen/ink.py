"""The Text of everything that is drawn with Rich: text that others wrote cannot steer the terminal.

Rich passes escape sequences in a text on unchanged, so here they are made visible. No other module uses Rich's own
Text, and none prints plain strings with Rich: a test reads all of them.
"""

from __future__ import annotations

from typing import Any, Self

from rich import text as plain

from mapreduce_rq.core.visible import visible


class Text(plain.Text):
    """A line of text whose control characters are made visible."""

    def __init__(self, text: str = "", *how: Any, **more: Any) -> None:
        super().__init__(visible(text), *how, **more)

    def append(self, text: plain.Text | str, style: Any = None) -> Self:
        """Add text at the end."""
        super().append(visible(text) if isinstance(text, str) else text, style)
        return self

    @classmethod
    def assemble(cls, *parts: Any, **how: Any) -> Self:
        """A line made of texts, each alone or in a pair with its style."""
        made = super().assemble(*parts, **how)
        assert isinstance(made, cls)
        return made
