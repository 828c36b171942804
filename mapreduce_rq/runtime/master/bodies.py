"""Large bodies of a job's tasks on a shared Redis: each is stored once, apart from its task.

A task is read often: by each look at the queue and the hands (every three seconds, by each master), by the process that
gives it back, by a worker that is not sure of its hand. But only the worker that computes it needs its body. So the
step that pushes the task puts the body into a hash of the job, and the task has the body's name and SHA-256. The task
is signed, so the body need not be signed. A body is deleted when its terms are counted, and all bodies at the job's
end. If the master is killed, the hash expires: each commit sets its time to ten minutes.

A worker that does not find a body drops the task: either the task was counted, or another program deleted the body. In
the second case the master does not find the task at two looks, and pushes it again with its body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from weakref import WeakMethod

import msgspec

from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.sealing import Codec
from mapreduce_rq.runtime.master.lease import Load

APART_BYTES = 64 * 1024
"""A body of at least this number of bytes is stored apart: for smaller ones a round trip costs more than the copies."""


class Bodies:
    """The bodies of one job's tasks. ``out``: returns all tasks that are out. ``apart``: whether bodies may be stored
    apart. ``items``: whether the bodies are items of a source.
    """

    def __init__(self, codec: Codec, out: Callable[[], Iterable[Task]], *, apart: bool, items: bool) -> None:
        self._codec = codec
        # It must not refer to the master that owns us, or each job would leave a cycle.
        self._out = WeakMethod(out) if apart else None
        self.least = APART_BYTES
        self._apart = apart
        self._items = items
        self._laid: dict[int, tuple[bytes, bytes, bytes]] = {}  # by identity: the body, its name, its digest
        self._named = 0

    def load(self, tasks: Sequence[Task]) -> Load:
        """The tasks, which are out by now, in the form in which they are pushed. Bodies of other tasks are deleted."""
        if not self._apart:
            return Load(self._codec.seal_all(tasks))
        pairs: dict[bytes, Argument] = dict.fromkeys(self._unused(), b"")
        pushed = list(tasks)
        for index, task in enumerate(tasks):
            if len(task.body) >= self.least:
                _, name, digest = self._lay(task.body)
                pairs[name] = task.body
                pushed[index] = msgspec.structs.replace(task, body=b"", laid=digest + name)
        return Load(self._codec.seal_all(pushed), list(pairs.items()), self._items)

    def _unused(self) -> Iterator[bytes]:
        if not self._laid or self._out is None:
            return
        out = self._out()
        used = {id(task.body) for task in out()} if out is not None else set()
        for identity in self._laid.keys() - used:
            yield self._laid.pop(identity)[1]

    def _lay(self, body: bytes) -> tuple[bytes, bytes, bytes]:
        found = self._laid.get(id(body))
        if found is None:
            self._named += 1
            found = self._laid[id(body)] = body, b"%d" % self._named, sha256(body).digest()
        return found
