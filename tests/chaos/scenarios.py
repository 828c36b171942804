"""The catalogue of chaos scenarios: what is done to a running job, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """``play`` raises AssertionError (or BadHistory) if anything is not as it must be; it returns measured figures."""

    name: str
    about: str
    play: Callable[[], dict[str, float]]
    short: bool  # one of the few that CI plays
    root: bool  # wants to be root


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str, *, short: bool = False, root: bool = False
) -> Callable[[Callable[[], dict[str, float]]], Callable[[], dict[str, float]]]:
    """Put a function into the catalogue; the first line of its docstring says what it is about."""

    def enter(play: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
        assert name not in SCENARIOS, name
        about = (play.__doc__ or "").partition("\n")[0]
        SCENARIOS[name] = Scenario(name, about, play, short, root)
        return play

    return enter
