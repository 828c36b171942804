"""What is done to workers over pipes: killed at any moment, by each mechanism that their master may wait by."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator

from mapreduce_rq.client.client import Client
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.pipes.waiting import COLLECTORS
from tests.chaos.scenarios import scenario
from tests.support.fleet import children_of
from tests.support.terms import brief, total

TERMS = 100
WORKERS = 3
MOST_KILLED = 10
LIMITS = Limits(chunk=1, attempts=1000)


@scenario("pipes-kill", short=True)
def pipes_kill() -> dict[str, float]:
    """Workers over pipes are killed again and again; all mechanisms give the digest of an undisturbed run."""
    killed, digests, began = 0, set(), time.monotonic()
    for collect in COLLECTORS:
        with _muted(), Client(f"pipes:?collect={collect}", local=WORKERS) as client:
            undisturbed = client.submit_function(brief, range(TERMS), reduce="int_sum", limits=LIMITS).result()
            job = client.submit_function(brief, range(TERMS), reduce="int_sum", limits=LIMITS)
            here = 0
            while not job.wait(random.uniform(0.0, 0.03)) and here < MOST_KILLED:
                here += _kill_one(children_of(client.supervisor))
            result = job.result()
            assert result.native == total(TERMS), collect
            digests |= {undisturbed.digest, result.digest}
            killed += here
    assert len(digests) == 1, digests
    assert killed
    return {"killed": killed, "seconds for all mechanisms": time.monotonic() - began}


def _kill_one(workers: list[int]) -> int:
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(random.choice(workers), signal.SIGKILL)
        return 1
    return 0


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """What is started here says nothing of each death."""
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
