"""A dashboard is left open while a fleet lives and dies beside it: does it grow, or slow down?

    python -m tests.chaos.watch --minutes 10
    python -m tests.chaos.watch --minutes 10 --web

Real `mrq dashboard` on a terminal of its own, or `mrq web` with its page in a browser, where a person does something
each KEY_SECONDS, beside a fleet whose workers are killed each WORKER_SECONDS and whose server is killed each
SERVER_SECONDS (and started again from its append-only file). Its memory, the time between two pictures and the
processor time for each, and of a page the heap, the nodes and the time to draw a picture, are sampled and printed as a
table. They must not grow from the second quarter of the time to the last.
"""

from __future__ import annotations

import argparse
import os
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
TERMS = 5_000_000
"""Some ten seconds of work for two workers: so the list of jobs grows slowly."""
GROWTH, ROOM_KB, ROOM_MS, ROOM_NODES = 1.1, 1024, 2.0, 500
"""How much larger the median of the last quarter may be than that of the second, beside this room."""


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
    draw_ms: float  # for each picture, in the page


class Watch:
    """One run of it."""

    def __init__(
        self, minutes: float, seed: int, *, sample_seconds: float = SAMPLE_SECONDS, viewer: type[Viewer] = OnATerminal
    ) -> None:
        self.samples: list[Sample] = []
        self._seconds = 60 * minutes
        self._chance = random.Random(seed)
        self._server = RealServer(aof=True)
        self._fleets = [Fleet(self._server.url, "watched", 2) for _ in range(2)]
        self._each = {"key": KEY_SECONDS, "worker": WORKER_SECONDS, "server": SERVER_SECONDS, "sample": sample_seconds}
        self._due = dict(self._each)
        self._viewer = viewer
        self._jobs = self._killed = 0
        self._leader: Leader | None = None
        self._pictures = 0
        self._last = (0.0, 0, 0.0, 0.0)  # at the last sample: seconds, pictures, processor seconds, ms of drawing

    def run(self) -> list[str]:
        """Watch until the time is over; what was wrong."""
        env = environment({"MRQ_URL": self._server.url, "MRQ_QUEUE": "watched", "MRQ_KEY": KEY})
        began = time.monotonic()
        try:
            with self._viewer(env) as viewer:  # type: ignore[call-arg]
                while (now := time.monotonic() - began) < self._seconds:
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
        return [*self._grown(), *errors, *([f"it ended with exit code {code}"] if code else [])]

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
        before, drawn, spent, drawing = self._last
        cpu = cpu_seconds(viewer.pid)
        heap, nodes, drawn_ms = viewer.facts()
        pictures = max(1, self._pictures - drawn)
        self._last = now, self._pictures, cpu, drawn_ms
        sample = Sample(
            round(now),
            self._jobs,
            self._killed,
            self._pictures,
            rss_kb(viewer.pid),
            round(1000 * (cpu - spent) / pictures, 2),
            round(1000 * (now - before) / pictures, 1),
            heap,
            nodes,
            round((drawn_ms - drawing) / pictures, 2),
        )
        if not self.samples:
            say(" ".join(f"{field.name:>10}" for field in fields(Sample)))
        self.samples.append(sample)
        say(" ".join(f"{value:>10}" for value in astuple(sample)))

    def _grown(self) -> list[str]:
        quarter = len(self.samples) // 4
        if not quarter:
            return ["too short: there are no four samples"]
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        grown = []
        rooms = {"memory_kb": ROOM_KB, "cpu_ms": ROOM_MS, "apart_ms": 1000 * self._viewer.seconds_apart / 4}
        of_a_page = {"heap_kb": ROOM_KB, "nodes": ROOM_NODES, "draw_ms": ROOM_MS}
        for name, room in (rooms | of_a_page).items():
            before, after = (statistics.median(getattr(one, name) for one in row) for row in (early, late))
            say(f"{name}: {before:g} in the second quarter, {after:g} in the last")
            if after > GROWTH * before + room:
                grown.append(f"{name} grew from {before:g} to {after:g}")
        return grown


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has had."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        rest = file.read().rpartition(")")[2].split()
    return (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")


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
