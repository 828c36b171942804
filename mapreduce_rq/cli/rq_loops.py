"""Worker loops on an RQ queue that is named on the command line."""

from __future__ import annotations

import signal

from mapreduce_rq.cli.streams import say
from mapreduce_rq.client.loops import Loops
from mapreduce_rq.rq import queue_at


def loops_at(url: str, rq_queue: str, queue: str, count: int) -> Loops:
    """``count`` loops for our queue, to be kept there. Raises UsageError, BrokerError."""
    loops, listeners = _loops(url, rq_queue, queue, count)
    _say_who_listens(listeners, rq_queue)
    return loops


def keep_loops(url: str, rq_queue: str, queue: str, count: int) -> int:
    """Keep these loops until told to stop; the exit code. Installs signal handlers."""
    loops, listeners = _loops(url, rq_queue, queue, count)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loops.told_to_stop())
    _say_who_listens(listeners, rq_queue)  # who reads it may send a signal at once
    loops.run()
    loops.stop()
    return 0


def _loops(url: str, rq_queue: str, queue: str, count: int) -> tuple[Loops, int]:
    found, listeners = queue_at(url, rq_queue)
    return Loops(found, queue, lambda _: count, notice=say), listeners


def _say_who_listens(listeners: int, rq_queue: str) -> None:
    if not listeners:
        say(f"no rq worker listens on RQ queue {rq_queue} there: start `rq worker {rq_queue}`; waiting")
