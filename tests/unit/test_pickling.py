"""One pickler for a job: each thing without a name is one thing in each process, and nothing of it is stale."""

from __future__ import annotations

import datetime as dt
import enum
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mapreduce_rq.functions import pickling
from mapreduce_rq.functions.pickling import Pickles, Unreadable


@contextmanager
def another_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is read here is read where nothing of ours is known."""
    with monkeypatch.context() as patch:
        patch.setattr(pickling, "_own", pickling._Own())
        yield


SCRIPT = """
import enum
N = 1
class Color(enum.Enum):
    RED = 1
    def plus(self):
        return self.value + N
def is_red(c):
    return c is Color.RED
def make(_):
    return Color.RED
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that a worker has under this name, too, and which is another one there."""
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(SCRIPT, module.__dict__)
    return module


def test_items_and_functions_know_one_class_and_values_come_back_as_the_masters(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, plus = Pickles(), script.Color.plus
    is_red, make = master.definition(script.is_red), master.definition(script.make)
    body = master.dumps([script.Color.RED])
    with another_process(monkeypatch):
        worker = Pickles()
        function = worker.loads(is_red)
        (item,) = worker.loads(body)
        assert type(item) is not script.Color
        assert function(item)
        assert item is worker.loads(make)(0)
        values = [worker.dumps(item), worker.dumps([item, function])]
        merging = Pickles()  # another worker
        merging.loads(is_red)
        passed_on = merging.dumps(merging.loads(values[0]))
    for value in (values[0], passed_on):
        assert master.loads(value) is script.Color.RED
    assert master.loads(values[1]) == [script.Color.RED, script.is_red]
    assert script.Color.plus is plus
    with another_process(monkeypatch):  # a master that goes on with the job, and never had the function
        assert Pickles().loads(values[0]).value == 1


def test_a_class_is_made_once_for_all_the_items_of_a_job(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    master = Pickles()
    bodies = [master.dumps([script.Color.RED]) for _ in range(5)]
    with another_process(monkeypatch):
        worker = Pickles()
        assert len({type(worker.loads(body)[0]) for body in bodies}) == 1


@pytest.mark.parametrize("kept", [False, True])
def test_what_a_script_changes_between_jobs_the_second_job_sees(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """``kept``: by a worker that keeps its computation, since the parameters of both jobs are the same bytes."""
    first = Pickles().dumps([script.Color.RED])
    script.__dict__["N"] = 5
    second = Pickles().dumps([script.Color.RED])
    with another_process(monkeypatch):
        worker = Pickles()
        (old,) = worker.loads(first)
        (new,) = (worker if kept else Pickles()).loads(second)
        assert (old.plus(), new.plus()) == (2, 6)


def test_equal_functions_make_equal_definitions(script: ModuleType) -> None:
    """So that a worker keeps what it has made of them, and tasks of a like job need not wait for it."""
    assert Pickles().definition(script.is_red) == Pickles().definition(script.is_red)
    before = Pickles().definition(script.is_red)
    script.Color.added = 5
    assert Pickles().definition(script.is_red) != before


class Fails:
    """Cannot be read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return dt.date, (2023, 2, 29)


def test_what_cannot_be_read_says_of_what_type_it_is_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pickles = Pickles()
    with pytest.raises(
        Unreadable, match=r"^ValueError: day is out of range for month at a datetime.date: make sure that pickle"
    ):
        pickles.loads(pickles.dumps([1, Fails()]))
    module = ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    exec("class Thing: pass", module.__dict__)
    body = pickles.dumps([module.Thing()])
    monkeypatch.delitem(sys.modules, "only_here")
    with pytest.raises(
        Unreadable, match=r"^only_here.Thing cannot be found here \(ModuleNotFoundError: .*install its module"
    ):
        pickles.loads(body)


def test_what_was_begun_and_not_filled_is_not_found_by_its_number(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    exec("class Holds:\n    def __init__(self, what): self.what = what\n    kept = None", script.__dict__)
    script.Holds.kept = Fails()
    body = Pickles().dumps([script.Holds(1)])
    with another_process(monkeypatch):
        worker = Pickles()
        for _ in range(2):
            with pytest.raises(Unreadable, match="day is out of range"):
                worker.loads(body)


def test_large_buffers_travel_beside_either_kind_of_pickle(script: ModuleType) -> None:
    array = np.arange(100_000)
    for value in ([array], [array, script.Color.RED], [array, lambda: 1]):
        buffers: list[pickle.PickleBuffer] = []
        pickled = Pickles().dumps(value, buffers.append)
        assert len(buffers) == 1
        assert len(pickled) < 10_000
        read = Pickles().loads(pickled, [buffer.raw() for buffer in buffers])
        assert np.shares_memory(read[0], array)


def test_a_local_class_and_an_enum_made_by_a_call_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local:
        size = 3

    made = enum.Enum("made", "A B")
    body = Pickles().dumps([Local(), made.A])
    with another_process(monkeypatch):
        local, a = Pickles().loads(body)
        assert (local.size, a.name) == (3, "A")
        assert type(local) is not Local


def test_what_has_a_name_needs_no_cloudpickle() -> None:
    script = """
import sys
from fractions import Fraction
from functools import partial
from mapreduce_rq import Client
if __name__ == "__main__":
    with Client(local=1) as mrq:
        print(mrq.map_reduce(partial(pow, 2), range(4)), mrq.map_reduce(float, [Fraction(1, 2)]))
    assert "cloudpickle" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "15 0.5\n", "")
