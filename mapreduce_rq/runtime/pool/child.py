"""A worker process, as its supervisor knows it."""

from __future__ import annotations

import msgspec

from mapreduce_rq.runtime.worker.slate import Slate


class Child(msgspec.Struct, eq=False):
    """One forked worker, as its supervisor knows it."""

    wid: str
    pid: int
    slate: Slate
    born: float
    line: int = -1  # descriptor: a byte written to it has the worker shorten its task
    stopped: bool = False
    told: int = 0  # how often it was told to stop
    why: str = ""  # if we killed it
    over: str = ""  # a text about its memory, if it had too much
    stacks: int = -1  # descriptor: the stacks that it writes when asked
    beats: int = 0
    done: int = 0  # at the last beat
    beat_at: float = 0.0
    cpu: float = -1.0  # processor seconds, at the last beat
