"""The settings of a pool of workers."""

from __future__ import annotations

import msgspec

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.core.sealing import Keyring
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.pipes.lines import PipeEnd


class PoolSettings(msgspec.Struct, frozen=True):
    """The settings of a pool of workers."""

    endpoint: Endpoint | PipeEnd
    queue: str
    keyring: Keyring
    size: int
    also: tuple[str, ...] = ()  # further queues, in the order of their rank
    name: str = ""
    burst: bool = False
    max_tasks: int | None = None
    once: bool = False  # a worker that has done its tasks is not replaced, while there are as many workers as cores
    max_idle: float | None = None  # seconds without a task on any worker, after which all leave
    max_memory: int | None = None  # a worker with more resident bytes ends after its task and is replaced
    trust: Trust = Trust()
    shelf: str = ""  # the directory of large bodies beside a private server
