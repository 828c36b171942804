"""A dashboard is left open while a fleet lives and dies beside it: does it grow, or slow down?

    python -m tests.chaos.watch --minutes 10
    python -m tests.chaos.watch --minutes 10 --web

Real `mrq dashboard` on a terminal of its own, or `mrq web` with its page in a browser, where a person does something
each KEY_SECONDS, beside a fleet whose workers are killed each WORKER_SECONDS and whose server is killed each
SERVER_SECONDS (and started again from its append-only file). Its memory, the time between two pictures and the
processor time for each, and of a page the heap, the nodes and the processor time for a picture, are sampled and printed
as a table. They must not grow from the second quarter of the time to the last.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from dataclasses import astuple, dataclass, fields

from tests.chaos.soak import rss_kb, say
from tests.chaos.viewers import InABrowser, OnATerminal, Viewer
from tests.support.commands import environment
from tests.support.fleet import KEY, Fleet, Leader, kill9
from tests.support.servers import RealServer

KEY_SECONDS, WORKER_SECONDS, SERVER_SECONDS = 3.0, 8.0, 120.0
SAMPLE_SECONDS = 10.0
SAMPLES, KILLS = 12, 3
"""At least: a busy machine's half minute has fewer, and then a quarter of the samples has not each kind of page."""
TERMS = 5_000_000
"""Some ten seconds of work for two workers: so the list of jobs grows slowly."""
DOUBT = 2.5
"""What has grown is watched on, up to this multiple of the time: real growth goes on, a busy machine's costs do not."""
GROWTH, ROOM_KB, ROOM_MS, ROOM_NODES = 1.1, 1024, 2.0, 500
"""How much larger the last quarter's figure may be than that of the second, beside this room.

Of memory, heap and nodes that is the median; of what each picture costs, all that a quarter spent by all its pictures.
"""


@dataclass(frozen=True)
class Spent:
    """What all pictures so far have cost."""

    pictures: int = 0
    seconds: float = 0.0
    cpu: float = 0.0  # seconds
    drawn_ms: float = 0.0

    def of_each(self, before: Spent) -> dict[str, float]:
        """For each picture since then, in milliseconds, by the names of a Sample."""
        pictures = max(1, self.pictures - before.pictures)
        return {
            "cpu_ms": 1000 * (self.cpu - before.cpu) / pictures,
            "apart_ms": 1000 * (self.seconds - before.seconds) / pictures,
            "draw_ms": (self.drawn_ms - before.drawn_ms) / pictures,
        }


@dataclass(frozen=True)
class Sample:
    """What was there after so many seconds."""

    seconds: int
    jobs: int
    killed: int
    pictures: int
    memory_kb: int
    cpu_ms: float  # for each picture
    apart_ms: float  # from one picture to the next
    heap_kb: int  # of the page, after a collection
    nodes: int  # that the page keeps and does not show
    draw_ms: float  # processor time for each picture, in the page


class Watch:
    """One run of it."""

    def __init__(
        self,
        minutes: float,
        seed: int,
        *,
        sample_seconds: float = SAMPLE_SECONDS,
        key_seconds: float = KEY_SECONDS,
        viewer: type[Viewer] = OnATerminal,
    ) -> None:
        self.samples: list[Sample] = []
        self._seconds = 60 * minutes
        self._chance = random.Random(seed)
        self._server = RealServer(aof=True)
        self._fleets = [Fleet(self._server.url, "watched", 2) for _ in range(2)]
        self._each = {"key": key_seconds, "worker": WORKER_SECONDS, "server": SERVER_SECONDS, "sample": sample_seconds}
        self._due = dict(self._each)
        self._viewer = viewer
        self._jobs = self._killed = 0
        self._leader: Leader | None = None
        self._pictures = 0
        self._spent = [Spent()]  # at the beginning, and at each sample

    def run(self) -> list[str]:
        """Watch until the time is over, there were SAMPLES and KILLS and nothing has grown; what was wrong."""
        env = environment({"MRQ_URL": self._server.url, "MRQ_QUEUE": "watched", "MRQ_KEY": KEY})
        try:
            with self._viewer(env) as viewer:  # type: ignore[call-arg]
                began = time.monotonic()  # a browser takes ten seconds to be there, on a busy machine
                while (now := time.monotonic() - began) < self._seconds or self._too_few() or self._doubtful(now):
                    self._pictures += viewer.watch(0.5)
                    self._tick(viewer, now)
                errors = list(viewer.errors)
                code = viewer.leave()
        finally:
            if self._leader is not None:
                self._leader.close()
            for fleet in self._fleets:
                fleet.close()
            self._server.stop()
        quarters = self._quarters()
        for name, before, after, _ in quarters:
            say(f"{name}: {before:g} in the second quarter, {after:g} in the last")
        return [*self._grown(quarters), *errors, *([f"it ended with exit code {code}"] if code else [])]

    def _too_few(self) -> bool:
        return len(self.samples) < SAMPLES or self._killed < KILLS

    def _tick(self, viewer: Viewer, now: float) -> None:
        """Do what is due."""
        if self._leader is None or self._leader.poll() is not None:
            if self._leader is not None:
                self._leader.close()
                self._jobs += 1
            self._leader = Leader(self._server.url, "watched", "fingerprint", TERMS)
        due = [what for what, at in self._due.items() if now >= at]
        for what in due:
            self._due[what] = now + self._each[what]
        if "key" in due:
            viewer.act()
        if "worker" in due and (workers := self._chance.choice(self._fleets).workers()):
            kill9(self._chance.choice(workers))
            self._killed += 1
        if "server" in due:
            self._server.kill9()
            self._server.start()
            self._killed += 1
        if "sample" in due:
            self._sample(viewer, now)

    def _sample(self, viewer: Viewer, now: float) -> None:
        heap, nodes, drawn_ms = viewer.facts()
        self._spent.append(Spent(self._pictures, now, cpu_seconds(viewer.pid), drawn_ms))
        each = self._spent[-1].of_each(self._spent[-2])
        sample = Sample(
            round(now),
            self._jobs,
            self._killed,
            self._pictures,
            rss_kb(viewer.pid),
            round(each["cpu_ms"], 2),
            round(each["apart_ms"], 1),
            heap,
            nodes,
            round(each["draw_ms"], 2),
        )
        if not self.samples:
            say(" ".join(f"{field.name:>10}" for field in fields(Sample)))
        self.samples.append(sample)
        say(" ".join(f"{value:>10}" for value in astuple(sample)))

    def _doubtful(self, now: float) -> bool:
        return now < DOUBT * self._seconds and bool(self._grown(self._quarters()))

    def _quarters(self) -> list[tuple[str, float, float, float]]:
        """Each figure by its name: in the second quarter and in the last, and the room that it has."""
        quarter = len(self.samples) // 4
        if not quarter:
            return []
        early, late = (
            {name: statistics.median(getattr(one, name) for one in row) for name in ("memory_kb", "heap_kb", "nodes")}
            | self._spent[end].of_each(self._spent[end - quarter])
            for row, end in ((self.samples[quarter : 2 * quarter], 2 * quarter), (self.samples[-quarter:], -1))
        )
        rooms = {"memory_kb": ROOM_KB, "cpu_ms": ROOM_MS, "apart_ms": 1000 * self._viewer.seconds_apart / 4}
        of_a_page = {"heap_kb": ROOM_KB, "nodes": ROOM_NODES, "draw_ms": ROOM_MS}
        return [(name, early[name], late[name], room) for name, room in (rooms | of_a_page).items()]

    def _grown(self, quarters: list[tuple[str, float, float, float]]) -> list[str]:
        if not quarters:
            return ["too short: there are no four samples"]
        return [
            f"{name} grew from {before:g} to {after:g}"
            for name, before, after, room in quarters
            if after > GROWTH * before + room
        ]


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has had, by Linux's clock of it: /proc counts it in ticks of 10 ms."""
    return time.clock_gettime((~pid << 3) | 2)


def main() -> int:
    """The exit code: 0 if it neither grew nor slowed down."""
    parser = argparse.ArgumentParser(prog="scripts/watch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--web", action="store_true", help="the page of `mrq web` in a browser")
    given = parser.parse_args()
    wrong = Watch(given.minutes, given.seed, viewer=InABrowser if given.web else OnATerminal).run()
    for line in wrong:
        say(f"wrong: {line}")
    say("it neither grew nor slowed down" if not wrong else "failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
