"""Many: workers on one server and master, terms in one job, jobs in a row."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from benchmarks import work
from benchmarks.machine import cpu_seconds, status_number
from benchmarks.ours import SINGLES, Ours, opened, wait_until
from benchmarks.sampling import Figure, Group, Row, Settings, Table, say, timed
from benchmarks.viewers import web_viewers
from mapreduce_rq.core.messages import Limits

WAKE = Figure("wake", "200 idle workers and one task: how many wake", "workers", 1, more_is_better=False)
CROWD = Figure("crowd", "200 workers, waiting tasks of 50 ms: share of the time in tasks", "%", 95)
CURVE = Figure("curve", "so many workers, waiting tasks of 10 ms, one message each: share of the time in tasks", "%")
MEMORY = Figure("memory", "so many terms in one job: peak memory of the server", "MB", 5, more_is_better=False)
MASTER = Figure(
    "master-memory", "so many terms in one job: peak resident memory of the master", "MB", None, more_is_better=False
)
JOBS = Figure("jobs", "many jobs in a row: growth from a tenth of them to the last", "MB", 1.0, more_is_better=False)
DASHBOARDS = Figure("dashboards", "messages beside so many open dashboards, each read once a second", "tasks/s")

MANY = 200


def measure_workers(settings: Settings) -> Iterable[Row]:
    """Crowds of sleeping workers: what limits is the server, the master and the two cores they share with everybody."""
    table = Table()
    if settings.wants(WAKE.name) or settings.wants(CROWD.name):
        say(f"  {MANY} workers")
        with opened(MANY, None) as ours:
            if settings.wants(WAKE.name):
                for count in _woken(ours, 3 if settings.quick else 20):
                    table.add(WAKE.name, f"mrq, {MANY} workers", count, ours=True)
            for _ in range(settings.rounds if settings.wants(CROWD.name) else 0):
                for label, limits in (("one message each", SINGLES), ("chunks chosen", None)):
                    ours.limits = limits
                    tasks = MANY * (20 if settings.quick else 100)
                    share, note = _share(ours, work.sleep_50_ms, tasks, MANY)
                    table.add(CROWD.name, f"mrq, {label}", share, note=note, ours=True)
    if settings.wants(CURVE.name):
        for workers in (2, 20) if settings.quick else (1, 2, 5, 10, 20, 50, 100, 200, 400):
            say(f"  {workers} workers")
            with opened(workers) as ours:
                for _ in range(settings.rounds):
                    tasks = workers * (50 if settings.quick else 200)
                    share, note = _share(ours, work.sleep_10_ms, tasks, workers)
                    table.add(CURVE.name, f"{workers} workers", share, note=note)
    return table.rows.values()


def _woken(ours: Ours, tries: int) -> Iterable[int]:
    """For each try the number of worker processes that got onto a core while one task was done."""
    pids = ours.worker_pids()
    while tries:
        ours.client.map_reduce(work.sleep_10_ms, range(4 * MANY), limits=SINGLES)  # each has something to do
        time.sleep(0.3)  # everybody sleeps
        before = {pid: status_number(pid, "voluntary_ctxt_switches") for pid in pids}
        ours.one(work.square, 1)
        time.sleep(0.1)
        woken = sum(status_number(pid, "voluntary_ctxt_switches") != count for pid, count in before.items())
        tries -= 1
        yield woken


def _share(ours: Ours, function: object, tasks: int, workers: int) -> tuple[float, str]:
    """Per cent of the workers' time that was spent in tasks, by the tasks' own clocks; and what it cost the others."""
    ours.fold(work.square, 4 * workers)
    server = ours.ask("INFO", "server")["process_id"]
    before = cpu_seconds(os.getpid()), cpu_seconds(server)
    started = time.perf_counter()
    spent = ours.fold(function, tasks) / 1e9  # type: ignore[arg-type]
    took = time.perf_counter() - started
    master, broker = (cpu_seconds(pid) - then for pid, then in zip((os.getpid(), server), before, strict=True))
    note = f"{tasks / took:.0f} tasks/s; a task costs the master {master / tasks * 1e6:.0f} us, "
    return 100 * spent / took / workers, note + f"the server {broker / tasks * 1e6:.0f} us"


def measure_dashboards(settings: Settings) -> Iterable[Row]:
    """The same messages without a dashboard, with ten on terminals of their own, and with ten viewers of `mrq web`."""
    table = Table()
    tasks = 20_000 if settings.quick else 200_000
    with opened(2) as ours:
        ours.fold(work.square, 1000)
        for turn in range(settings.rounds):
            say(f"  round {turn + 1} of {settings.rounds}")
            for label, on_terminals, in_browsers in (
                ("0 dashboards", 0, 0),
                ("10 dashboards", 10, 0),
                ("10 viewers of mrq web", 0, 10),
            ):
                with ExitStack() as stack:
                    for _ in range(on_terminals):
                        stack.enter_context(_on_a_terminal("dashboard"))
                    if in_browsers:
                        stack.enter_context(web_viewers(in_browsers))
                    time.sleep(2.0 if on_terminals else 0.0)  # they are there
                    took = timed(lambda: ours.fold(work.square, tasks))
                    table.add(DASHBOARDS.name, label, tasks / took, ours=True)
    return table.rows.values()


@contextmanager
def _on_a_terminal(*command: str) -> Iterator[None]:
    """A command of ours on a terminal whose picture somebody takes away. Without a URL it finds our private server."""
    shown, terminal = pty.openpty()
    fcntl.ioctl(shown, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in {"MRQ_URL", "REDIS_URL"}}
    words = [sys.executable, "-m", "mapreduce_rq", *command]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, env=env) as process:
        os.close(terminal)
        reader = threading.Thread(target=_taken_away, args=(shown,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.kill()
            process.wait()
            reader.join()
            os.close(shown)


def _taken_away(shown: int) -> None:
    with suppress(OSError):
        while os.read(shown, 65_536):
            pass


def measure_memory(settings: Settings) -> Iterable[Row]:
    """Peaks of a fresh master and a fresh server, for chunks of a thousand terms."""
    table = Table()
    for power in range(5, 8 if settings.quick else 10):
        say(f"  10^{power} terms")
        command = [sys.executable, "-m", "benchmarks.crowd", str(10**power)]
        done = subprocess.run(command, cwd=sys.path[0], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        note = f"{10**power // 1000} tasks in {found['seconds']:.1f} s"
        table.add(MEMORY.name, f"10^{power} terms", found["server"], note=note, ours=True)
        table.add(MASTER.name, f"10^{power} terms", found["master"], note=note)
    return table.rows.values()


def one_job(terms: int) -> None:
    """A fresh process for :func:`measure_memory`: run the job and print the peaks."""
    with opened(2, Limits(chunk=1000)) as ours:
        ours.ask("CONFIG", "RESETSTAT")
        took = timed(lambda: ours.client.map_reduce(work.count, range(terms), reduce="int_sum", limits=ours.limits))
        peak = ours.ask("INFO", "memory")["used_memory_peak"]
        print(json.dumps({"server": peak / 1e6, "master": status_number(os.getpid(), "VmHWM") / 1e3, "seconds": took}))


def measure_jobs(settings: Settings) -> Iterable[Row]:
    """Jobs whose records are kept for a second: what has not gone by then has leaked."""
    table = Table()
    jobs = 1_000 if settings.quick else 10_000
    say(f"  {jobs} jobs")
    with opened(2, Limits(keep=1)) as ours:
        pids = [os.getpid(), *ours.worker_pids()]
        readings = []
        for stage in (jobs // 10, jobs - jobs // 10):
            for k in range(stage):
                ours.one(work.square, k)
            wait_until(lambda: ours.ask("INFO", "keyspace").get("db0", {}).get("expires", 0) == 0, "records to expire")
            resident = [status_number(pid, "VmRSS") / 1e3 for pid in pids]
            readings.append((ours.ask("INFO", "memory")["used_memory"] / 1e6, resident[0], sum(resident[1:])))
        note = f"from job {jobs // 10} to {jobs}"
        for party, first, last in zip(("server", "master", "two workers"), *readings, strict=True):
            table.add(JOBS.name, party, last - first, note=note, ours=True)
    return table.rows.values()


GROUPS = (
    Group((WAKE, CROWD, CURVE), measure_workers),
    Group((DASHBOARDS,), measure_dashboards),
    Group((MEMORY, MASTER), measure_memory),
    Group((JOBS,), measure_jobs),
)

if __name__ == "__main__":
    one_job(int(sys.argv[1]))
