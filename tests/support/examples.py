"""How many examples a property is tried with, where it wants more than the others do."""

from __future__ import annotations

from hypothesis import settings


def examples(least: int) -> int:
    """This many, or as many as the profile says (``--hypothesis-profile=fuzz``), if those are more."""
    return max(least, settings.default.max_examples if settings.default is not None else 0)
