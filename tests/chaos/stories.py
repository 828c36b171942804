"""Short stories of one job, which together pass through every transition of the protocol (T0 to T10)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.arena import INLINE_SPEC_TASKS, SPEED, TERMS, Arena
from tests.chaos.faults import Place, cut, kill
from tests.support.stage import until


def stall() -> None:
    """This takes three seconds of the fast clock: time for a lease."""
    time.sleep(3 / SPEED)


@dataclass(frozen=True)
class Story:
    """How it goes, what is bound to happen in it, and how the job ends."""

    play: Callable[[Arena], None]
    faults: dict[Place, Callable[[], None]] = field(default_factory=dict)
    state: str = "done"
    terms: int = TERMS
    laid: bool = False  # the job is a shuffle: workers lay pieces, and each body of a task stands apart


def _under_way(arena: Arena, terms: int = 2) -> None:
    until(lambda: arena.computed() >= terms, 10, "the job under way")


def _plain(arena: Arena) -> None:
    arena.crew("host", 2)
    arena.lead()


def _alone(arena: Arena) -> None:
    """One worker, so that it is this one who comes to each place."""
    arena.crew("host", 1)
    arena.lead()


def _followed(arena: Arena) -> None:
    arena.crew("host", 1)
    arena.lead(heirs=False)
    arena.stand_by()


def _leave(arena: Arena) -> None:
    crew = arena.crew("host", 2)
    arena.lead()
    until(lambda: arena.met("host.0", "compute") >= 2 or arena.over(), 10, "the first worker in the midst of a batch")
    crew.worker(0).stopping = True


def _late(arena: Arena) -> None:
    """Tasks that carry no spec any more, so that workers ask for it."""
    arena.crew("host", 1)
    arena.lead()
    _under_way(arena, INLINE_SPEC_TASKS + 2)
    arena.crew("late", 1)


def _lost(arena: Arena) -> None:
    """A host dies, and only the master can notice."""
    lost = arena.crew("lost", 1)
    arena.lead()
    until(lambda: arena.died("lost.0"), 10, "its worker dead")
    lost.lose()
    arena.crew("host", 1)


def _watched(arena: Arena) -> None:
    arena.crew("host", 2)
    arena.lead(heirs=False)
    arena.stand_by()


def _released(arena: Arena) -> None:
    arena.crew("host", 2)
    arena.lead()
    arena.stand_by()
    _under_way(arena)
    arena.let_go()


def _cancelled(arena: Arena) -> None:
    arena.crew("host", 2)
    arena.lead()
    _under_way(arena)
    arena.cancel()


def _abandoned(arena: Arena) -> None:
    """Cancelled while nobody leads it."""
    arena.crew("host", 1)
    arena.lead(heirs=False)
    until(lambda: arena.died("master"), 10, "the master dead")
    arena.cancel()


def _stalled(terms: range) -> dict[Place, Callable[[], None]]:
    """Both workers pause at these terms of theirs."""
    return {Place(f"host.{n}", "compute", "before", term): stall for n in range(2) for term in terms}


STORIES: dict[str, Story] = {
    "short": Story(_plain, terms=4),
    "plain": Story(_plain),
    "stall": Story(_plain, _stalled(range(2, 3)), terms=8),
    "leave": Story(_leave, _stalled(range(2, 3)), terms=12),
    "late": Story(_late),
    "death": Story(_plain, {Place("host.0", "compute", "after", 2): kill}, terms=8),
    "lost": Story(_lost, {Place("lost.0", "compute", "after"): kill}, terms=600),
    "reload": Story(_plain, {Place("master", "push", "after"): cut}),
    "resend": Story(_plain, {Place("host.0", "settle", "after"): cut}, terms=8),
    "takeover": Story(_watched, {Place("master", "replies", "after", 4): kill}),
    "release": Story(_released),
    "cancel": Story(_cancelled, _stalled(range(2, 3)), state="cancelled", terms=12),
    "laid": Story(_alone, terms=6, laid=True),
    "laid, resent": Story(_alone, {Place("host.0", "settle", "after"): cut}, terms=6, laid=True),
    "laid, taken over": Story(_followed, {Place("master", "laid", "after"): kill}, terms=6, laid=True),
    "laid, cancelled": Story(_cancelled, _stalled(range(2, 3)), state="cancelled", terms=12, laid=True),
    "abandoned": Story(_abandoned, {Place("master", "replies", "after", 4): kill}, state="cancelled"),
}

TRANSITIONS: dict[str, list[tuple[str, str, str]]] = {
    # transition: (story, actor, verb), each verb where it is shortest
    "T0 submit": [("short", "master", "connect"), ("short", "master", "create")],
    "T1 claim": [
        ("takeover", "standby", "load"),
        ("takeover", "standby", "claim"),
        ("release", "master", "release"),
        ("release", "standby", "claim"),
    ],
    "T2 commit": [
        ("short", "master", "replies"),
        ("plain", "master", "push"),
        ("stall", "master", "checkpoint"),
        ("stall", "master", "lease"),
        ("reload", "master", "token"),
    ],
    "T3 take": [("short", "host.0", "connect"), ("short", "host.0", "take"), ("late", "late.0", "spec")],
    "T4 settle": [("short", "host.0", "enter"), ("stall", "host.0", "settle"), ("resend", "host.0", "drop")],
    "T4p lay aside": [
        ("laid", "host.0", "lay"),
        ("laid, resent", "host.0", "lay"),
        ("laid", "master", "laid"),
        ("laid", "host.0", "body"),
        ("laid", "host.0", "pieces"),
        ("laid", "master", "end"),
        ("laid, taken over", "standby", "claim"),
        ("laid, taken over", "standby", "laid"),
        ("laid, cancelled", "canceller", "end"),
    ],
    "T5 beat": [("short", "host", "beat")],
    "T6 reap": [
        ("short", "master", "survey"),
        ("death", "host", "hand"),
        ("death", "host", "reap"),
        ("lost", "master", "reap"),
    ],
    "T8 finish": [("short", "master", "end"), ("stall", "master", "queue"), ("stall", "master", "forget")],
    "T9 cancel": [
        ("cancel", "canceller", "load"),
        ("cancel", "canceller", "end"),
        ("cancel", "canceller", "queue"),
        ("cancel", "canceller", "withdraw"),
        ("cancel", "canceller", "forget"),
        ("abandoned", "canceller", "end"),
    ],
    "T10 leave": [("leave", "host.0", "give back"), ("leave", "host", "bury")],
}
"""T7, a backup copy, is pushed in a T2 like any other task."""
