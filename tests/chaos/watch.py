"""A dashboard is left open while a fleet lives and dies beside it: does it grow, or slow down?

    python -m tests.chaos.watch --minutes 10

Real `mrq dashboard` on a terminal of its own, with keys pressed each KEY_SECONDS, beside a fleet whose workers are
killed each WORKER_SECONDS and whose server is killed each SERVER_SECONDS (and started again from its append-only file).
Its memory, the time between two pictures and the processor time for each are sampled, printed as a table, and must not
grow from the second quarter of the time to the last.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import sys
import time
from dataclasses import astuple, dataclass, fields

from tests.chaos.soak import rss_kb, say
from tests.support.commands import environment
from tests.support.fleet import KEY, Fleet, Leader, kill9
from tests.support.servers import RealServer
from tests.support.terminal import Terminal

INTERVAL = 0.2
"""Seconds between two looks: five times as many as a person would have."""
KEY_SECONDS, WORKER_SECONDS, SERVER_SECONDS = 3.0, 8.0, 120.0
SAMPLE_SECONDS = 10.0
TERMS = 5_000_000
"""Some ten seconds of work for two workers: so the list of jobs grows slowly."""
KEYS = ("1", "\r", "j", "j", "\x1b", "\t", "s", "\r", "k", "\x1b", "3", "j", "/", "w", "\x1b", "?", "?", "1", "G", "g")
"""Panes, pages, sorting, the filter, help. None of them cancels or quits."""
HOME = "\x1b[H"
"""Each picture begins so."""
GROWTH, ROOM_KB, ROOM_MS = 1.1, 1024, 2.0
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


class Watch:
    """One run of it."""

    def __init__(self, minutes: float, seed: int, *, sample_seconds: float = SAMPLE_SECONDS) -> None:
        self.samples: list[Sample] = []
        self._seconds = 60 * minutes
        self._chance = random.Random(seed)
        self._server = RealServer(aof=True)
        self._fleets = [Fleet(self._server.url, "watched", 2) for _ in range(2)]
        self._each = {"key": KEY_SECONDS, "worker": WORKER_SECONDS, "server": SERVER_SECONDS, "sample": sample_seconds}
        self._due = dict(self._each)
        self._keys = itertools.cycle(KEYS)
        self._jobs = self._killed = 0
        self._leader: Leader | None = None
        self._pictures = 0
        self._last = (0.0, 0, 0.0)  # seconds, pictures and processor seconds at the last sample

    def run(self) -> list[str]:
        """Watch until the time is over; what was wrong."""
        env = environment({"MRQ_URL": self._server.url, "MRQ_QUEUE": "watched", "MRQ_KEY": KEY})
        began = time.monotonic()
        try:
            with Terminal("dashboard", "-i", str(INTERVAL), env=env, rows=40, columns=120) as terminal:
                while (now := time.monotonic() - began) < self._seconds:
                    self._pictures += terminal.read_for(0.5).count(HOME)
                    self._tick(terminal, now)
                terminal.press("\x1bq")
                terminal.read_all()
                code = terminal.wait()
        finally:
            if self._leader is not None:
                self._leader.close()
            for fleet in self._fleets:
                fleet.close()
            self._server.stop()
        return self._grown() + ([f"it ended with exit code {code}"] if code else [])

    def _tick(self, terminal: Terminal, now: float) -> None:
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
            terminal.press(next(self._keys))
        if "worker" in due and (workers := self._chance.choice(self._fleets).workers()):
            kill9(self._chance.choice(workers))
            self._killed += 1
        if "server" in due:
            self._server.kill9()
            self._server.start()
            self._killed += 1
        if "sample" in due:
            self._sample(terminal.pid, now)

    def _sample(self, pid: int, now: float) -> None:
        before, drawn, spent = self._last
        cpu = cpu_seconds(pid)
        pictures = max(1, self._pictures - drawn)
        self._last = now, self._pictures, cpu
        sample = Sample(
            round(now),
            self._jobs,
            self._killed,
            self._pictures,
            rss_kb(pid),
            round(1000 * (cpu - spent) / pictures, 2),
            round(1000 * (now - before) / pictures, 1),
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
        for name, room in (("memory_kb", ROOM_KB), ("cpu_ms", ROOM_MS), ("apart_ms", 1000 * INTERVAL / 4)):
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
    given = parser.parse_args()
    wrong = Watch(given.minutes, given.seed).run()
    for line in wrong:
        say(f"wrong: {line}")
    say("it neither grew nor slowed down" if not wrong else "failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
