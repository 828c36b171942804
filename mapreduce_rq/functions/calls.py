"""Calls of any function as items: what an executor's ``submit`` sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Call = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]
"""A function, its arguments, and those with names."""


def call(item: Call) -> Any:
    """The function's value."""
    function, arguments, named = item
    return function(*arguments, **named)
