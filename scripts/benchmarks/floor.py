"""The floor: what the server itself does with the same commands and bytes when nobody computes anything."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence

import hiredis

from benchmarks import work
from benchmarks.ours import opened
from benchmarks.sampling import Figure, Group, Row, Settings, Table, rate, say
from mapreduce_rq.broker.jobs import COMMIT
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import SETTLE
from mapreduce_rq.core.messages import OK, Answer, Codecs, Keyring, Reply, Task
from mapreduce_rq.runtime.server import EmbeddedServer

FLOOR = Figure("floor", "the server alone, the same scripts and bytes, requests made beforehand", "tasks/s")
REACHED = Figure("reached", "share of that floor that mrq reaches, computing included", "%")

JOB = "function-abcdefghijklmnopqrstuvwxyz"
PUSHED = 4096
BATCH = 512


def measure(settings: Settings) -> Iterable[Row]:
    """Settles of 512 tasks after commits of 4096, as in a long job of tiny tasks."""
    table = Table()
    for turn in range(settings.rounds):
        say(f"  round {turn + 1} of {settings.rounds}")
        with EmbeddedServer.start() as server:
            server.wait_ready()
            ceiling = _scripts(server, settings.seconds)
            table.add(FLOOR.name, f"commit of {PUSHED}, settles of {BATCH}", ceiling)
            table.add(FLOOR.name, "commit and settle of 1", _scripts(server, settings.seconds, 1, 1))
            for name, found in _plain(server, settings.quick).items():
                table.add(FLOOR.name, f"redis-benchmark {name}, 64 in a pipeline", found)
        with opened(settings.workers) as ours:
            reached = rate(lambda n: ours.fold(work.square, n), settings.seconds, 500_000)
        table.add(
            REACHED.name, "mrq", 100 * reached / ceiling, note=f"{reached:.0f} tasks/s, {settings.workers} workers"
        )
    return table.rows.values()


def _scripts(server: EmbeddedServer, seconds: float, pushed: int = PUSHED, batch: int = BATCH) -> float:
    """Tasks a second through both scripts, the requests sent over and over as they are."""
    keys, codecs = Keys("floor"), Codecs("floor", Keyring([b"benchmark benchmark benchmark 32"]))
    tasks = [codecs.task.seal(Task(JOB, k, k + 1)) for k in range(10**6, 10**6 + pushed)]
    answers = [Answer(k, k + 1, 0, 0, OK, b"12345678", 500) for k in range(10**6, 10**6 + batch)]
    reply = codecs.reply.seal(Reply(JOB, "host:12345:0123456789abcdef", answers))
    names = [keys.job(JOB), keys.replies(JOB), keys.queue, keys.jobs]
    hand = [keys.in_flight("floor"), keys.queue, keys.workers, keys.replies(JOB)]
    everything = "9999999999999-0"  # trim all replies: what was answered is counted

    def commit(expect: str, what: str) -> bytes:
        fields = ["tok", "t"]
        return _packed("EVALSHA", COMMIT.sha, 4, *names, expect, "t", what, 0, JOB, 1, *fields, *tasks)

    def settle(length: int, settled: int) -> bytes:
        return _packed("EVALSHA", SETTLE.sha, 4, *hand, length, settled, batch, reply)

    with socket.socket(socket.AF_UNIX) as link:
        link.connect(server.socket)
        password = server.url.partition("://:")[2].partition("@")[0]
        _ask(link, [_packed("AUTH", password), _packed("FLUSHALL")])
        _ask(link, [_packed("SCRIPT", "LOAD", script.source) for script in (COMMIT, SETTLE)])
        _ask(link, [_packed("HSET", keys.workers, "floor", "1"), commit("", "create"), settle(0, 0)])
        _ask(link, [_packed("LPUSH", keys.queue, *tasks[:batch])])  # the queue never runs dry
        turn = [commit("t", everything), *[settle(batch, batch)] * (pushed // batch)]
        turns = [*turn] * max(1, 64 // len(turn))
        done = 0
        started = time.perf_counter()
        while (took := time.perf_counter() - started) < seconds:
            _ask(link, turns)
            done += pushed * (len(turns) // len(turn))
        return done / took


def _packed(*words: str | bytes | int) -> bytes:
    return bytes(hiredis.pack_command(words))


def _ask(link: socket.socket, requests: Sequence[bytes]) -> None:
    """Send requests, at most a megabyte ahead of the answers; any error ends the benchmark."""
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


GROUP = Group((FLOOR, REACHED), measure)
