"""The states of a term in a ledger, and what moves it from one to another: found by playing scenes on the real one.

``scripts/pictures ledger`` draws what the scenes showed; a test draws it again and compares, and lets the simulation
look for a move that the picture lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from textwrap import wrap
from typing import Any, NamedTuple

from mapreduce_rq.core.job.events import Broken, Command, Event, Push, Replied, Resumed, Settled, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.messages import (
    DIED,
    ERROR,
    MAP,
    OK,
    REFUSED,
    Answer,
    Failure,
    Limits,
    Spec,
    Task,
    encode_failure,
)
from tests.sim.computation import SimComputation, TestParams, fold

UNCUT, OUT, UNSEEN, COUNTED, LEFT_OUT = "not cut", "out", "unseen", "counted", "left out"
SETTLED, BROKEN = "settled", "broken"

TERMS = 8


class Move(NamedTuple):
    """A term went from one state to another, or was pushed again in the same one."""

    before: str
    after: str


def states(ledger: Ledger, below: int) -> list[str]:
    """The state of each term below this one."""
    found = [UNCUT] * below

    def fill(lo: int, hi: int, state: str) -> None:
        found[lo:hi] = [state] * (min(hi, below) - min(lo, below))

    fill(0, ledger.next, UNSEEN)
    for task in ledger.out.values():
        fill(task.lo, task.hi, OUT)
    for lo, hi in ledger.tally.runs:
        fill(lo, hi, COUNTED)
    for term, _ in ledger.skipped:
        fill(term, term + 1, LEFT_OUT)
    return found


def moves(before: list[str], after: list[str], commands: Iterable[Command]) -> set[Move]:
    """What an event did: the states before and after it, and what the ledger then wants.

    Of a job that has failed with it nothing else is told: what was to go out again does not any more.
    """
    for command in commands:
        if isinstance(command, Broken):
            lo = command.span.lo
            return {Move(before[lo] if lo < len(before) else OUT, BROKEN)}
    pushes = [task for command in commands if isinstance(command, Push) for task in command.tasks if task.op == MAP]
    pushed = {k for task in pushes for k in range(task.lo, min(task.hi, len(after)))}
    found = {Move(old, new) for old, new in zip(before, after, strict=True) if old != new}
    found |= {Move(OUT, OUT) for k in pushed if before[k] == after[k] == OUT}
    for command in commands:
        if isinstance(command, Settled):
            found |= {Move(state, SETTLED) for state in set(after) & {COUNTED, LEFT_OUT}}
    return found


Says = tuple[Move, str] | None
"""What a step of a scene is there to show: a move, and the words for it."""


class Scene:
    """One ledger of eight terms with two workers, and what was seen to happen to its terms."""

    def __init__(self, seen: dict[Move, list[str]], **limits: Any) -> None:
        self._seen = seen
        self._computation = SimComputation(TestParams(terms=TERMS, ordered=False, first=None))
        self._spec = Spec(
            job="j",
            computation="sim",
            params={},
            total=TERMS,
            limits=Limits(chunk=2, attempts=2, **limits),
            created=0,
            version="0",
        )
        self.ledger = Ledger(self._spec, self._computation, 0.0, workers=2)
        self._first = self.ledger.checkpoint(0.0)
        self._happens(Resumed(), 0.0, (Move(UNCUT, OUT), "cut into a task and pushed"))

    def _happens(self, event: Event, now: float, says: Says) -> None:
        before = states(self.ledger, TERMS)
        commands = self.ledger.receive(event, now)
        found = moves(before, states(self.ledger, TERMS), commands)
        for move in found:
            self._seen.setdefault(move, [])
        if says is not None:
            move, words = says
            assert move in found, f"{words}: {move} did not happen, but {found}"
            if words not in self._seen[move]:
                self._seen[move].append(words)

    def answer(
        self, lo: int, hi: int, says: Says = None, *, status: int = OK, term: int | None = None, wid: str = "a"
    ) -> None:
        """A worker answers a task, well or not."""
        body = self._computation.reducer.encode(fold(range(lo, hi), ordered=False))
        if status != OK:
            body = encode_failure(Failure(term, "ValueError", "no", "", wid))
        self._happens(Replied(wid, [Answer(lo, hi, 0, MAP, status, body, 1_000_000)]), 1.0, says)

    def look(self, held: Iterable[tuple[int, int]], now: float, says: Says = None) -> None:
        """A look shows these tasks in hands, and an empty queue."""
        tasks = [Task("j", lo, hi) for lo, hi in held]
        self._happens(Surveyed(waiting=[], held=tasks, workers=2, slack=True), now, says)

    def restore(self, *, first: bool = False) -> None:
        """Another master goes on from a checkpoint of now, or from the first one, before anything was cut."""
        checkpoint = self._first if first else self.ledger.checkpoint(1.0)
        self.ledger = Ledger(self._spec, self._computation, 1.0, checkpoint=checkpoint, workers=2)


AGAIN = Move(OUT, OUT)
COMPLETE = "all counted or left out"


def _ordinary(scene: Scene) -> None:
    for lo in range(0, TERMS, 2):
        last = lo + 2 == TERMS
        scene.answer(lo, lo + 2, (Move(COUNTED, SETTLED), COMPLETE) if last else (Move(OUT, COUNTED), "answered"))


def _lost(scene: Scene) -> None:
    rest = [(2, 4), (4, 6), (6, 8)]
    scene.look(rest, 1.0)
    scene.look(rest, 4.0)
    scene.look(rest, 7.0, (AGAIN, "lost: at two looks neither in the queue nor in a hand"))


def _late(scene: Scene) -> None:
    rest = [(2, 4), (4, 6), (6, 8)]
    scene.answer(0, 2)
    for now in (1.0, 4.0):
        scene.look(rest, now)
    scene.look(rest, 7.0, (AGAIN, "late: in a hand for three times what others took (a copy)"))


def _died(scene: Scene) -> None:
    scene.answer(0, 2, (AGAIN, "in halves: workers died with the task in hand"), status=DIED)


def _refused(scene: Scene) -> None:
    scene.look([(0, 2), (2, 4), (4, 6), (6, 8)], 0.5)
    scene.answer(0, 2, (AGAIN, "refused by one worker: for another"), status=REFUSED, wid="a")
    scene.answer(0, 2, (Move(OUT, BROKEN), "every worker refuses it"), status=REFUSED, wid="b")


def _failed(scene: Scene) -> None:
    scene.answer(0, 2, (Move(OUT, BROKEN), "it fails, and on_error is fail"), status=ERROR, term=0)


def _skipped(scene: Scene) -> None:
    scene.answer(0, 2, (Move(OUT, LEFT_OUT), "it fails, and on_error is skip"), status=ERROR, term=0)
    scene.answer(1, 2)
    for lo in range(2, TERMS, 2):
        scene.answer(lo, lo + 2, (Move(LEFT_OUT, SETTLED), COMPLETE) if lo + 2 == TERMS else None)


def _rest(scene: Scene) -> None:
    scene.answer(0, 1, (AGAIN, "the rest of a task that failed or was answered in part"))


def _taken_over(scene: Scene) -> None:
    scene.answer(0, 2)
    scene.restore()
    scene.answer(2, 4, (Move(UNSEEN, COUNTED), "answered to the master before"))
    scene.look([(4, 6)], 2.0, (Move(UNSEEN, OUT), "the first look finds it, or it is cut anew"))


def _taken_over_early(scene: Scene) -> None:
    scene.restore(first=True)
    scene.answer(0, 2, (Move(UNCUT, COUNTED), "answered to the master before"))
    scene.answer(4, 6, (Move(UNCUT, UNSEEN), "an answer shows: the master before cut further"))


def _failed_before(scene: Scene) -> None:
    scene.restore()
    scene.answer(2, 4, (Move(UNSEEN, BROKEN), "failed, and on_error is fail"), status=ERROR, term=2)


def _failed_further_before(scene: Scene) -> None:
    scene.restore(first=True)
    words = "failed at the master before, on_error is fail"
    scene.answer(0, 2, (Move(UNCUT, BROKEN), words), status=ERROR, term=0)


def _skipped_before(scene: Scene) -> None:
    scene.restore()
    scene.answer(2, 4, (Move(UNSEEN, LEFT_OUT), "failed, and on_error is skip"), status=ERROR, term=2)


def _skipped_further_before(scene: Scene) -> None:
    scene.restore(first=True)
    words = "an answer to the master before, which had cut further, says that it fails, and on_error is skip"
    scene.answer(0, 2, (Move(UNCUT, LEFT_OUT), words), status=ERROR, term=0)


SCENES: list[tuple[Callable[[Scene], None], dict[str, Any]]] = [
    (_ordinary, {}),
    (_lost, {}),
    (_late, {}),
    (_died, {}),
    (_refused, {}),
    (_failed, {}),
    (_skipped, {"on_error": "skip"}),
    (_rest, {}),
    (_taken_over, {}),
    (_taken_over_early, {}),
    (_failed_before, {}),
    (_failed_further_before, {}),
    (_skipped_before, {"on_error": "skip"}),
    (_skipped_further_before, {"on_error": "skip"}),
]


def played() -> dict[Move, list[str]]:
    """Every move that the scenes show, with the words for it."""
    seen: dict[Move, list[str]] = {}
    for play, limits in SCENES:
        play(Scene(seen, **limits))
    return seen


# -- the picture ---------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 480, 400
"""Of the part with the boxes; the words stand below it. It is narrow, so that they can be read on a phone."""
BOX = (96, 40)
LINE, LETTERS = 19, 62
"""Of the words: how high a line is, and the most letters in it."""
PLACES = {
    UNCUT: (64, 190),
    OUT: (225, 190),
    UNSEEN: (225, 330),
    COUNTED: (410, 190),
    LEFT_OUT: (410, 260),
    SETTLED: (410, 50),
    BROKEN: (225, 50),
}
"""The middle of each state's box."""

LABELS = {
    Move(UNCUT, OUT): (142, 184),
    Move(UNCUT, COUNTED): (150, 31),
    Move(UNCUT, UNSEEN): (90, 324),
    Move(UNCUT, LEFT_OUT): (90, 384),
    Move(UNCUT, BROKEN): (136, 73),
    Move(OUT, COUNTED): (294, 184),
    Move(OUT, OUT): (166, 240),
    Move(OUT, LEFT_OUT): (294, 254),
    Move(OUT, BROKEN): (213, 124),
    Move(UNSEEN, OUT): (237, 286),
    Move(UNSEEN, COUNTED): (294, 345),
    Move(UNSEEN, LEFT_OUT): (294, 382),
    Move(UNSEEN, BROKEN): (311, 110),
    Move(COUNTED, SETTLED): (422, 124),
    Move(LEFT_OUT, SETTLED): None,
}
"""Where the number of each move stands; None: it needs no words. No entry, no picture: a new move has to be given its
place.
"""

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.state { fill: #ffffff; stroke: #4051b5; stroke-width: 1.5 }
.end { fill: #eef0fb; stroke: #4051b5; stroke-width: 1.5 }
.name { font-weight: 600; text-anchor: middle }
.move { fill: none; stroke: #57606a; stroke-width: 1.2; marker-end: url(#head) }
.number { font-weight: 600; text-anchor: middle; fill: #4051b5 }
"""


def drawing() -> str:
    """The picture, as SVG."""
    seen = played()
    assert seen.keys() == LABELS.keys(), "each move has its place"
    label = "The states of a term in a ledger"
    head = '<path d="M0 0 8 4 0 8z" fill="#57606a"/>'
    marker = 'id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    parts: list[str] = []
    top, number = HEIGHT + 16, 0
    for move, place in LABELS.items():
        parts += _arrow(move)
        assert seen[move], f"no words for {move}"
        if place is None:
            continue
        number += 1
        parts.append(f'<text class="number" x="{place[0]}" y="{place[1]}">{number}</text>')
        parts.append(f'<text class="number" x="20" y="{top}">{number}</text>')
        for words in seen[move]:
            for at, line in enumerate(wrap(words, LETTERS)):
                parts.append(f'<text x="{52 if at else 40}" y="{top}">{escape(line)}</text>')
                top += LINE
    for state, (x, y) in PLACES.items():
        if not any(state in move for move in seen):
            raise AssertionError(f"no scene shows the state {state!r}")
        kind = "end" if state in {SETTLED, BROKEN} else "state"
        box = f'x="{x - BOX[0] // 2}" y="{y - BOX[1] // 2}" width="{BOX[0]}" height="{BOX[1]}" rx="8"'
        parts += [f'<rect class="{kind}" {box}/>', f'<text class="name" x="{x}" y="{y + 5}">{state}</text>']
    size = f'width="{3 * WIDTH // 2}" viewBox="0 0 {WIDTH} {top}"'
    first = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f"<defs><marker {marker}>{head}</marker></defs>",
        f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>',
    ]
    return "\n".join([*first, *parts, "</svg>", ""])


def _arrow(move: Move) -> list[str]:
    (x, y), (to_x, to_y) = PLACES[move.before], PLACES[move.after]
    half_x, half_y = BOX[0] // 2, BOX[1] // 2
    if move.before == move.after:
        path = f"M{x - 36} {y + half_y} C{x - 56} {y + 58} {x - 2} {y + 58} {x - 16} {y + half_y}"
    elif move == Move(LEFT_OUT, SETTLED):
        path = f"M{x + half_x} {y} H{x + half_x + 14} V{to_y} H{to_x + half_x}"
    elif move == Move(UNCUT, COUNTED):
        path = f"M{x} {y - half_y} V16 H{to_x - half_x - 22} V{to_y - 10} H{to_x - half_x}"
    elif move == Move(UNCUT, UNSEEN):
        path = f"M{x - half_x} {y} H5 V{to_y} H{to_x - half_x}"
    elif move == Move(UNCUT, LEFT_OUT):
        path = f"M{x - half_x} {y + 10} H10 V{HEIGHT - 10} H{to_x + 30} V{to_y + half_y}"
    elif move == Move(UNCUT, BROKEN):
        path = f"M{x + 30} {y - half_y} V{to_y + 8} H{to_x - half_x}"
    elif move == Move(UNSEEN, COUNTED):
        path = f"M{x + half_x} {y} H{to_x - half_x - 22} V{to_y + 10} H{to_x - half_x}"
    elif move == Move(UNSEEN, LEFT_OUT):
        path = f"M{x + 40} {y + half_y} V{y + half_y + 17} H{to_x} V{to_y + half_y}"
    elif move == Move(UNSEEN, BROKEN):
        path = f"M{x + half_x} {y - 8} H{x + half_x + 50} V{to_y} H{to_x + half_x}"
    elif move == Move(OUT, LEFT_OUT):
        path = f"M{x + half_x - 20} {y + half_y} V{to_y} H{to_x - half_x}"
    elif x == to_x:
        step = half_y if to_y > y else -half_y
        path = f"M{x} {y + step} V{to_y - step}"
    else:
        step = half_x if to_x > x else -half_x
        path = f"M{x + step} {y} H{to_x - step}"
    return [f'<path class="move" d="{path}"/>']
