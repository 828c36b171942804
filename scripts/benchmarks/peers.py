"""The figures that everybody is measured by, side by side: in each round every contender takes its turn.

Each turn is a new process: what a contender leaves behind, such as threads and settings of the allocator, would slow
down those after it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from benchmarks import work
from benchmarks.machine import cpu_seconds
from benchmarks.ours import Ours, opened
from benchmarks.pools import Contender, Peer, pools
from benchmarks.queues import queues
from benchmarks.sampling import Figure, Group, Row, Settings, Table, rate, say, timed, typical

MESSAGES = Figure(
    "messages", "every term its own message, a function that costs nothing", "tasks/s", 250_000, drawn=True
)
LONE = Figure("lone", "a lone task, submit to result, p50", "ms", 0.35, more_is_better=False, drawn=True)
EXP = Figure(
    "exp", "e^2 with 50 terms, one message a term, workers warm, p50", "ms", 2.0, more_is_better=False, drawn=True
)
EFFICIENCY = Figure("efficiency", "tasks of 10 ms: share of the workers' time that is spent in them", "%", 98)
COST = Figure("cost", "processor time a task, one message each", "us", more_is_better=False)
PROBE_SECONDS = 0.010


def measure(settings: Settings) -> Iterable[Row]:
    """One row a contender and figure, a sample a round."""
    table = Table()
    for turn in range(settings.rounds):
        for number, name in enumerate(contender.name for contender in _contenders(settings)):
            say(f"  round {turn + 1} of {settings.rounds}: {name}")
            try:
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
                    table.extend(alone.submit(_turn, settings, number).result())
            except Exception as error:
                if name.startswith("mrq"):
                    raise
                say(f"  {name} failed, and is left out of this round: {type(error).__name__}: {error}")
    return table.rows.values()


def _contenders(settings: Settings) -> list[Contender]:
    return [
        Contender("mrq", opened),
        Contender("mrq, chunks chosen", partial(opened, limits=None)),
        *(pools(slow=not settings.quick) if settings.peers else ()),
        *(queues(slow=not settings.quick) if settings.peers else ()),
    ]


def _turn(settings: Settings, number: int) -> list[Row]:
    """One contender's samples of one round."""
    contender = _contenders(settings)[number]
    table = Table()
    with contender.open(settings.workers) as peer:
        _sample(table, settings, contender.name, peer)
    return list(table.rows.values())


def _sample(table: Table, settings: Settings, name: str, peer: Peer) -> None:
    ours = isinstance(peer, Ours)
    chunked = isinstance(peer, Ours) and peer.limits is None
    assert peer.fold(work.square, 100) == 328_350, name  # who adds up something else need not be fast
    if settings.wants(MESSAGES.name) and not chunked:
        found = rate(lambda n: peer.fold(work.square, n), settings.seconds, 500_000)
        table.add(MESSAGES.name, name, found, ours=ours)
    if settings.wants(COST.name) and isinstance(peer, Ours) and not chunked:
        _cost(table, settings, peer)
    if settings.wants(LONE.name) and not chunked:
        found = typical(lambda: peer.one(work.square, 3), settings.seconds)
        table.add(LONE.name, name, found * 1e3, ours=ours)
    if settings.wants(EXP.name) and not chunked:
        found = typical(peer.exp if isinstance(peer, Ours) else partial(_exp, peer), settings.seconds)
        table.add(EXP.name, name, found * 1e3, ours=ours)
    if settings.wants(EFFICIENCY.name):
        tasks = 2 * int(settings.workers * settings.seconds / PROBE_SECONDS / 2)
        if timed(lambda: peer.fold(work.spin_10_ms, 2 * settings.workers)) > settings.seconds:
            tasks //= 4  # a queue that spends more on a task than the task takes
        started = time.perf_counter()
        spent = peer.fold(work.spin_10_ms, tasks) / 1e9
        took = time.perf_counter() - started
        table.add(EFFICIENCY.name, name, 100 * spent / settings.workers / took, ours=ours)


def _exp(peer: Peer) -> None:
    value = peer.fold(work.exp_term, 50)
    assert math.isclose(value, math.exp(2)), value


def _cost(table: Table, settings: Settings, ours: Ours) -> None:
    """What each process spends on a task."""
    crew = ours.worker_pids()
    parties = {"master": [os.getpid()], "server": [ours.ask("INFO", "server")["process_id"]], "workers": crew}
    tasks = 50_000 if settings.quick else 400_000
    before = {party: sum(map(cpu_seconds, pids)) for party, pids in parties.items()}
    replies = -_replies(ours)
    ours.fold(work.square, tasks)
    replies += _replies(ours)
    total = 0.0
    for party, pids in parties.items():
        spent = sum(map(cpu_seconds, pids)) - before[party]
        total += spent
        table.add(COST.name, party, spent / tasks * 1e6, note=f"{tasks / replies:.0f} tasks a reply")
    table.add(COST.name, "all of them", total / tasks * 1e6, note="2 cores / this = the most they can do")


def _replies(ours: Ours) -> Any:
    """How often a worker has settled so far."""
    return ours.ask("INFO", "commandstats").get("cmdstat_rpop", {"calls": 0})["calls"]


GROUP = Group((MESSAGES, LONE, EXP, EFFICIENCY, COST), measure)
