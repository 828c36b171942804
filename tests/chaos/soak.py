"""A soak: jobs one after another while workers, masters and the server are killed by the clock; is it exact, and flat?

    python -m tests.chaos.soak --minutes 20

Every WORKER_SECONDS a worker is killed, every MASTER_SECONDS a master (another follows it), every SERVER_SECONDS the
server (and started again from its append-only file). Every job's value is compared with the sum computed here. Memory,
descriptors, connections and keys are sampled, printed as a table, and must not grow from the second quarter of
the time to the last.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from tests.support.fleet import Fleet, Follower, Leader, kill9
from tests.support.servers import RealServer
from tests.support.terms import total

WORKER_SECONDS = 5.0
MASTER_SECONDS = 60.0
SERVER_SECONDS = 300.0
SAMPLE_SECONDS = 15.0
JOB_SECONDS = 180.0
"""A job that takes longer than this hangs: it has some seconds of work."""
TERMS = 300_000
GROWTH = 1.3
"""How much larger the median of the last quarter may be than that of the second."""


@dataclass(frozen=True)
class Sample:
    """What was there at one moment; memory in kB."""

    seconds: int
    jobs: int
    killed: int
    supervisor_kb: int
    supervisor_fds: int
    server_kb: int
    used_kb: int
    connections: int
    keys: int


class Soak:
    """One run of it."""

    def __init__(self, minutes: float, seed: int) -> None:
        self._until = time.monotonic() + 60 * minutes
        self._chance = random.Random(seed)
        self._began = time.monotonic()
        self._server = RealServer(aof=True)
        self._fleets = [Fleet(self._server.url, "soak", 2) for _ in range(2)]
        self._due = {"worker": WORKER_SECONDS, "master": MASTER_SECONDS, "server": SERVER_SECONDS, "sample": 5.0}
        self.killed = {"worker": 0, "master": 0, "server": 0}
        self.samples: list[Sample] = []
        self.jobs = 0

    def run(self) -> list[str]:
        """Soak until the time is over; what was wrong."""
        wrong = []
        expected = str(total(TERMS))
        try:
            while time.monotonic() < self._until:
                record = self._job()
                if record.get("value") != expected:
                    wrong.append(f"job {record.get('job')} ended {record.get('state')} with {record.get('value')}")
                self.jobs += 1
        finally:
            for fleet in self._fleets:
                fleet.close()
            self._server.stop()
        return wrong + self._grown()

    def _job(self) -> dict[str, object]:
        leader: Leader = Leader(
            self._server.url, "soak", "fingerprint", TERMS, chunk=self._chance.choice([50, 300, 2000])
        )
        job = leader.job
        deadline = time.monotonic() + JOB_SECONDS
        try:
            while leader.poll() is None and time.monotonic() < deadline:
                if self._tick():  # the master's turn to die
                    heir = Follower(self._server.url, "soak", job)
                    leader.kill9()
                    leader.close()
                    leader = heir
                time.sleep(0.05)
            return leader.record(5.0)
        finally:
            leader.close()

    def _tick(self) -> bool:
        """Do what is due; whether the master is to be killed."""
        now = time.monotonic() - self._began
        if now >= self._due["worker"]:
            self._due["worker"] = now + WORKER_SECONDS
            workers = self._chance.choice(self._fleets).workers()
            if workers:
                kill9(self._chance.choice(workers))
                self.killed["worker"] += 1
        if now >= self._due["server"]:
            self._due["server"] = now + SERVER_SECONDS
            self._server.kill9()
            self._server.start()
            self.killed["server"] += 1
        if now >= self._due["sample"]:
            self._due["sample"] = now + SAMPLE_SECONDS
            self._sample(int(now))
        if now < self._due["master"]:
            return False
        self._due["master"] = now + MASTER_SECONDS
        self.killed["master"] += 1
        return True

    def _sample(self, seconds: int) -> None:
        with self._server.client() as client:
            info = client.info()
            keys = client.dbsize()
        supervisor = self._fleets[0].pid
        sample = Sample(
            seconds,
            self.jobs,
            sum(self.killed.values()),
            rss_kb(supervisor),
            len(list(Path(f"/proc/{supervisor}/fd").iterdir())),
            rss_kb(self._server.pid),
            info["used_memory"] // 1024,
            info["connected_clients"],
            keys,
        )
        if not self.samples:
            say(" ".join(f"{field.name:>14}" for field in fields(Sample)))
        self.samples.append(sample)
        say(" ".join(f"{value:>14}" for value in astuple(sample)))

    def _grown(self) -> list[str]:
        quarter = len(self.samples) // 4
        if not quarter:
            return []
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        grown = []
        for field in fields(Sample)[3:8]:  # keys are the records of ended jobs, a thousand at most
            before, after = (statistics.median(getattr(one, field.name) for one in row) for row in (early, late))
            if after > GROWTH * before + 512:
                grown.append(f"{field.name} grew from {before} to {after}")
        return grown


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main() -> int:
    """The exit code: 0 if it was exact and flat."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    soak = Soak(given.minutes, given.seed)
    wrong = soak.run()
    killed = ", ".join(f"{count} {what}s" for what, count in soak.killed.items())
    say(f"{soak.jobs} jobs of {TERMS} terms; killed: {killed}")
    for line in wrong:
        say(f"wrong: {line}")
    say("exact and flat" if not wrong else "failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
