"""Which bodies of tasks stand apart from their tasks, under which names, and when they go."""

from __future__ import annotations

from hashlib import sha256

from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.runtime.master.bodies import Bodies

CODEC = Codecs("queue").task
LARGE = 64 * 1024


class Out:
    """The tasks that are out."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def all(self) -> list[Task]:
        return self.tasks


def test_a_body_of_64_kib_stands_apart_and_a_smaller_one_in_its_task() -> None:
    out = Out()
    bodies = Bodies(CODEC, out.all, apart=True, items=True)
    out.tasks = [Task("job", at, at + 1, body=bytes([at]) * size) for at, size in enumerate((LARGE - 1, LARGE, 10**6))]
    load = bodies.load(out.tasks)
    small, *large = [CODEC.open(raw) for raw in load.tasks]
    assert (small.body, small.laid) == (out.tasks[0].body, b"")
    apart = dict(load.bodies)
    assert len(apart) == 2, "each has a name of its own"
    for task, sent in zip(out.tasks[1:], large, strict=True):
        digest, name = sent.laid[:32], sent.laid[32:]
        assert sent.body == b""
        assert digest == sha256(task.body).digest()
        assert apart[name] == task.body


def test_a_body_is_deleted_with_the_next_push_after_its_task() -> None:
    out = Out()
    bodies = Bodies(CODEC, out.all, apart=True, items=False)
    out.tasks = [Task("job", at, at + 1, body=bytes([at]) * LARGE) for at in range(2)]
    first = [name for name, _ in bodies.load(out.tasks).bodies]
    assert list(bodies.load([]).bodies) == []
    del out.tasks[0]
    assert list(bodies.load([]).bodies) == [(first[0], b"")]
    assert list(bodies.load([]).bodies) == []
    again = bodies.load(out.tasks).bodies  # the same body keeps its name
    assert list(again) == [(first[1], out.tasks[0].body)]


def test_where_bodies_do_not_stand_apart_each_is_in_its_task() -> None:
    task = Task("job", 0, 1, body=bytes(10**6))
    load = Bodies(CODEC, Out().all, apart=False, items=False).load([task])
    assert [CODEC.open(raw) for raw in load.tasks] == [task]
    assert not load.bodies
