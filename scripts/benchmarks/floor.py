"""The floor: what the server itself does with the same commands and bytes when nobody computes anything."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence

import hiredis

from benchmarks import work
from benchmarks.ours import opened
from benchmarks.sampling import Figure, Group, Row, Settings, Table, rate, say, timed
from mapreduce_rq.broker.jobs import COMMIT
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import SETTLE
from mapreduce_rq.core.messages import OK, Answer, Reply, Task
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

FLOOR = Figure("floor", "the server alone, the same scripts and bytes, requests made beforehand", "tasks/s")
REACHED = Figure("reached", "share of that floor that mrq reaches, computing included", "%")
ROUNDTRIP = Figure("roundtrip", "a lone task with nothing but its five requests, p50", "ms", more_is_better=False)

JOB = "function-abcdefghijklmnopqrstuvwxyz"
PUSHED, BATCH = 4096, 512
COMMITS = 24
"""Different ones: a server that sees the same strings again finds them in its Lua interpreter's table."""
EVERYTHING = "9999999999999-0"
"""Trim all replies: what was answered is counted."""

KEYS = Keys("floor")
NAMES = (KEYS.job(JOB), KEYS.replies(JOB), KEYS.queue, KEYS.jobs)
HAND = (KEYS.in_flight("floor"), KEYS.queue, KEYS.workers, KEYS.replies(JOB))


def measure(settings: Settings) -> Iterable[Row]:
    """Settles of 512 tasks after commits of 4096, as in a long job of tiny tasks; and one task on its way."""
    table = Table()
    for turn in range(settings.rounds):
        say(f"  round {turn + 1} of {settings.rounds}")
        with EmbeddedServer.start() as server:
            server.wait_ready()
            ceiling = _scripts(server, settings.seconds, PUSHED, BATCH)
            table.add(FLOOR.name, f"commit of {PUSHED}, settles of {BATCH}", ceiling)
            table.add(FLOOR.name, "commit and settle of 1", _scripts(server, settings.seconds, 1, 1))
            for name, found in _plain(server, settings.quick).items():
                table.add(FLOOR.name, f"redis-benchmark {name}, 64 in a pipeline", found)
            if settings.wants(ROUNDTRIP.name):
                table.add(ROUNDTRIP.name, "raw sockets, nothing decoded", _round_trip(server, settings.seconds) * 1e3)
        if settings.wants(REACHED.name):
            with opened(settings.workers) as ours:
                reached = rate(lambda n: ours.fold(work.square, n), settings.seconds, 500_000)
            note = f"{reached:.0f} tasks/s, {settings.workers} workers"
            table.add(REACHED.name, "mrq", 100 * reached / ceiling, note=note)
    return table.rows.values()


def _scripts(server: EmbeddedServer, seconds: float, pushed: int, batch: int) -> float:
    """Tasks a second through both scripts, the requests sent over and over as they are."""
    codecs = Codecs("floor", Keyring([b"benchmark benchmark benchmark 32"]))
    rows = [range(10**6 + at * pushed, 10**6 + (at + 1) * pushed) for at in range(COMMITS)]
    sealed = [codecs.task.seal_all(Task(JOB, k, k + 1) for k in row) for row in rows]
    answers = [Answer(k, k + 1, 0, 0, OK, b"12345678", 500) for k in range(10**6, 10**6 + batch)]
    reply = codecs.reply.seal(Reply(JOB, "host:12345:0123456789abcdef", answers))

    def settle(length: int, settled: int) -> bytes:
        return _packed("EVALSHA", SETTLE.sha, len(HAND), *HAND, length, settled, batch, reply)

    with _connected(server) as link:
        _ask(link, [_packed("FLUSHALL"), *(_packed("SCRIPT", "LOAD", script.source) for script in (COMMIT, SETTLE))])
        _ask(link, [_packed("HSET", KEYS.workers, "floor", "1"), _commit("", "create", sealed[0]), settle(0, 0)])
        _ask(link, [_packed("LPUSH", KEYS.queue, *sealed[0][:batch])])  # the queue never runs dry
        turns = []
        for tasks in sealed:
            turns += [_commit("t", EVERYTHING, tasks), *[settle(batch, batch)] * (pushed // batch)]
        done = 0
        started = time.perf_counter()
        while (took := time.perf_counter() - started) < seconds:
            _ask(link, turns)
            done += pushed * COMMITS
        return done / took


def _round_trip(server: EmbeddedServer, seconds: float) -> float:
    """Seconds from pushing a task to its job's end: create, take, settle, read, end."""
    with _connected(server) as link:
        _ask(link, [_packed("FLUSHALL"), *(_packed("SCRIPT", "LOAD", script.source) for script in (COMMIT, SETTLE))])
        _ask(link, [_packed("HSET", KEYS.workers, "floor", "1")])
        worker = os.fork()
        if worker == 0:
            _echo(server)
        read = _packed("XREAD", "COUNT", 8, "BLOCK", 1000, "STREAMS", KEYS.replies(JOB), "0-0")

        def once() -> None:
            _ask(link, [_commit("", "create", [b"x" * 73])])
            _ask(link, [read])
            _ask(link, [_commit("t", "over", [])])

        times = []
        try:
            for _ in range(int(seconds * 1000)):
                times.append(timed(once))
                _ask(link, [_packed("DEL", KEYS.job(JOB))])
        finally:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        return statistics.median(times)


def _echo(server: EmbeddedServer) -> None:
    """A worker that answers without looking; never returns."""
    with _connected(server) as link:
        take = _packed("BLMOVE", KEYS.queue, KEYS.in_flight("floor"), "RIGHT", "LEFT", "5")
        settle = _packed("EVALSHA", SETTLE.sha, len(HAND), *HAND, 1, 1, 1, b"r" * 100)
        while True:
            _ask(link, [take])
            _ask(link, [settle])


def _commit(expect: str, what: str, tasks: Sequence[bytes]) -> bytes:
    return _packed("EVALSHA", COMMIT.sha, len(NAMES), *NAMES, expect, "t", what, 60, JOB, 1, "tok", "t", *tasks)


def _connected(server: EmbeddedServer) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    link.connect(server.socket)
    _ask(link, [_packed("AUTH", server.url.partition("://:")[2].partition("@")[0])])
    return link


def _packed(*words: str | bytes | int) -> bytes:
    return bytes(hiredis.pack_command(words))


def _ask(link: socket.socket, requests: Sequence[bytes]) -> None:
    """Send requests, not far ahead of the answers; any error ends the benchmark."""
    reader = hiredis.Reader()
    waiting = 0
    for at, request in enumerate(requests):
        link.sendall(request)
        waiting += 1
        while waiting and (len(request) > 1 << 16 or at + 1 == len(requests) or waiting > 32):
            reader.feed(link.recv(1 << 18))
            while (answer := reader.gets()) is not False:
                if isinstance(answer, hiredis.ReplyError):
                    raise answer
                waiting -= 1


def _plain(server: EmbeddedServer, quick: bool) -> dict[str, float]:
    """What redis-benchmark says of plain pushes and pops of a task's size, where it is installed."""
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if program is None:
        return {}
    password = server.url.partition("://:")[2].partition("@")[0]
    requests = str(50_000 if quick else 500_000)
    command = [program, "-s", server.socket, "-a", password, "-t", "lpush,rpop", "-d", "73", "-P", "64", "-n", requests]
    done = subprocess.run([*command, "--csv"], capture_output=True, text=True, check=True)
    rows = [line.replace('"', "").split(",") for line in done.stdout.splitlines()[1:]]
    return {row[0]: float(row[1]) for row in rows}


GROUP = Group((FLOOR, REACHED, ROUNDTRIP), measure)
