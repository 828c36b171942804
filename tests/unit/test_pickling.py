"""One pickler for a job: each thing without a name is one thing in each process, and nothing of it is stale."""

from __future__ import annotations

import datetime as dt
import enum
import gc
import pickle
import subprocess
import sys
import tracemalloc
import weakref
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
    exec("class Plain: pass\ndef f(): return Plain", script.__dict__)
    before = Pickles().definition(script.f)
    Pickles().dumps(script.Plain())  # Python leaves a note in the class
    assert Pickles().definition(script.f) == before
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


def test_a_view_of_memory_stays_one_and_an_open_file_is_refused() -> None:
    pickles = Pickles()
    floats = np.arange(6.0).reshape(2, 3)
    for view in (memoryview(b"abc"), memoryview(bytearray(b"abc"))[::-1], memoryview(b""), floats.data):
        (found,) = pickles.loads(pickles.dumps([view]))
        assert type(found) is memoryview
        assert (found.format, found.shape, found) == (view.format, view.shape, view)
    with pytest.raises(TypeError, match="cannot pickle a memoryview of the format >i"):
        pickles.dumps([np.zeros(1, ">i4").data])
    with open(__file__, encoding="utf-8") as file:
        with pytest.raises(TypeError, match="cannot pickle an open file: have its name travel"):
            pickles.dumps([file])
        assert pickles.definition(lambda: file)  # a function takes along what it reads


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


KINDS = {
    "an enum whose __init__ sets more": """
class E(enum.Enum):
    A = 1, 2.5
    B = 3, 4.5
    def __init__(self, mass, radius):
        self.mass = mass
f = lambda e: (e is E.B, e.mass, E(e.value) is e, [each.name for each in E])
item = E.B
""",
    "an enum whose __new__ chooses the value": """
class E(int, enum.Enum):
    def __new__(cls, number, text):
        made = int.__new__(cls, number)
        made._value_ = text
        return made
    A = 1, "one"
f = lambda e: (e is E.A, e + 1, e.value, E("one") is e)
item = E.A
""",
    "an enum with aliases": """
class E(enum.Enum):
    A = 1
    B = 1
    C = 2
f = lambda e: (E.B is e, E["B"] is e, list(E.__members__), len(E))
item = E.A
""",
    "flags with names for combinations": """
class E(enum.Flag):
    R = 4
    W = 2
    RW = 6
f = lambda e: (e is E.RW, E["RW"] is e, e.name, (E.R | E.W) is e, e ^ E.W is E.R, list(E))
item = E.RW
""",
    "an unnamed combination of flags": """
class E(enum.IntFlag, boundary=enum.KEEP):
    R = 4
    W = 2
f = lambda e: (e is (E.R | E.W), (e | 64).value, E.R in e)
item = E.R | E.W
""",
    "an enum of functions": """
class E(enum.Enum):
    ADD = enum.member(lambda a, b: a + b)
    SELF = enum.member(lambda a, b: E.ADD.value(a, b) + 1)
f = lambda e: (e is E.SELF, e.value(2, 3))
item = E.SELF
""",
    "an enum whose value equals nothing": """
class E(float, enum.Enum):
    N = float("nan")
f = lambda e: (e is E.N, e.name, str(e.value))
item = E.N
""",
    "an enum of dataclasses": """
@dataclasses.dataclass(frozen=True)
class Mixed:
    x: int
class E(Mixed, enum.Enum):
    A = 1
f = lambda e: (e is E.A, e.x, isinstance(e, Mixed))
item = E.A
""",
    "an enum of dates": """
class E(datetime.date, enum.Enum):
    A = 2020, 1, 2
f = lambda e: (e is E.A, e.year, e.isoformat())
item = E.A
""",
    "an enum with a metaclass": """
class Meta(enum.EnumMeta):
    def __new__(cls, *args, tag, **others):
        made = super().__new__(cls, *args, **others)
        made.tag = tag
        return made
class E(enum.Enum, metaclass=Meta, tag="t"):
    A = 1
f = lambda e: (e is E.A, E.tag, type(E) is Meta)
item = E.A
""",
    "an enum made by a call": """
E = enum.Enum("E", "A B")
f = lambda e: (e is E.B, E(2) is e, E["B"] is e, repr(e), hash(e) == hash(E.B))
item = E.B
""",
    "an enum whose members have the names of properties": """
class E(enum.Enum):
    name = 1
    value = 2
f = lambda e: (e is E["value"], E.value is e)
item = E["value"]
""",
    "a typing.NamedTuple": """
class T(typing.NamedTuple):
    a: int
    b: int = 2
    def both(self):
        return self.a + self.b
class Sub(T):
    def both(self):
        return super().both() + 1
f = lambda t: (type(t) is Sub, t.both(), t._asdict(), T(1)._replace(b=5), T._field_defaults)
item = Sub(1)
""",
    "a generic typing.NamedTuple": """
V = typing.TypeVar("V")
class T(typing.NamedTuple, typing.Generic[V]):
    a: V
f = lambda t: (type(t) is T, T[int](3).a)
item = T(1)
""",
    "a generic class": """
V = typing.TypeVar("V")
class G(typing.Generic[V]):
    pass
class I(G[int]):
    pass
f = lambda t: (isinstance(t, G), I.__orig_bases__ == (G[int],), G.__parameters__ == (V,))
item = I()
""",
    "a TypedDict": """
class D(typing.TypedDict, total=False):
    a: int
f = lambda d: (D(d), D.__total__)
item = {"a": 1}
""",
    "a protocol and an abstract class": """
@typing.runtime_checkable
class P(typing.Protocol):
    def go(self): ...
class Base(abc.ABC):
    @abc.abstractmethod
    def go(self): ...
class Der(Base):
    def go(self):
        return 5
f = lambda d: (isinstance(d, P), isinstance(d, Base), d.go(), Base.__abstractmethods__)
item = Der()
""",
    "a class with a cached property and cached methods": """
class C:
    @functools.cached_property
    def p(self):
        return 4
    @functools.cache
    def m(self):
        return 5
    @functools.singledispatchmethod
    def s(self, x):
        return "object"
    @s.register
    def _(self, x: int):
        return "int"
f = lambda c: (c.p, c.m(), c.s(1), c.s(""), vars(c))
item = C()
""",
    "a subclass that its base is told of": """
class Base:
    kinds = []
    def __init_subclass__(cls, *, key):
        Base.kinds.append(key)
        cls.key = key
class Sub(Base, key="k"):
    pass
def f(s):
    class Later(Base, key="later"):
        pass
    found = Base.kinds[:], s.key, type(s) is Sub, Later.key
    Base.kinds.remove("later")
    return found
item = Sub()
""",
    "a metaclass with keywords": """
class Meta(type):
    made = []
    def __new__(cls, name, bases, names, *, key):
        return super().__new__(cls, name, bases, names | {"key": key})
    def __init__(cls, name, bases, names, **others):
        Meta.made.append(name)
    def __setattr__(cls, name, value):
        raise AttributeError("sealed")
class C(metaclass=Meta, key="k"):
    n: int
    k = 1
f = lambda c: (c.key, c.k, type(C) is Meta, Meta.made, type(c) is C)
item = C()
""",
    "a nested class": """
class Outer:
    class Inner:
        pass
f = lambda c: (type(c) is Outer.Inner, repr(Outer.Inner))
item = Outer.Inner()
""",
    "a cached function": """
@functools.lru_cache(maxsize=7)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
f = lambda n: (fib(n), fib.cache_info().currsize, fib.cache_info().maxsize)
item = 30
""",
    "a function by the type of its argument": """
class C:
    pass
@functools.singledispatch
def say(x):
    return "object"
@say.register
def _(x: C):
    return "C"
f = lambda c: (say(c), say(1))
item = C()
""",
    "a lone object that pickles as its name": """
class Missing:
    def __reduce__(self):
        return "MISSING"
MISSING = Missing()
f = lambda c: c is MISSING
item = MISSING
""",
    "a generator without a state": """
import random
R = random.SystemRandom()
f = lambda c: (type(R), 0 <= R.random() < 1)
item = 1
""",
    "a new type": """
Id = typing.NewType("Id", int)
f = lambda c: (Id(c), Id.__name__)
item = 3
""",
}
"""Sources of scripts, each with a function and an item."""


@pytest.mark.parametrize("source", KINDS.values(), ids=KINDS)
def test_what_a_script_defines_is_in_a_worker_what_it_is_in_the_script(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    exec("import abc, dataclasses, datetime, enum, functools, typing" + source, script.__dict__)
    there = script.__dict__
    expected = there["f"](there["item"])
    master = Pickles()
    function, items, back = master.definition(there["f"]), master.dumps([there["item"]]), None
    with another_process(monkeypatch), monkeypatch.context() as patch:
        patch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # another one in a worker
        worker = Pickles()
        found = worker.loads(function)
        (item,) = worker.loads(items)
        if "cached function" not in source:
            assert type(item) is not type(there["item"]) or type(item).__module__ != "__main__"
        assert repr(found(item)) == repr(expected)
        back = worker.dumps([item])
        assert worker.loads(Pickles().dumps([there["item"]])) is not None  # an item of another job
    (same,) = master.loads(back)
    assert type(same) is type(there["item"])
    assert same is there["item"] or not isinstance(same, enum.Enum)
    assert repr(there["f"](there["item"])) == repr(expected)  # and the script's own are as they were


def test_an_enum_of_what_can_change_says_that_it_cannot_travel(script: ModuleType) -> None:
    exec("class E(list, enum.Enum):\n    A = [1]", script.__dict__)
    with pytest.raises(TypeError, match="the members of E are changeable: put it into a module"):
        Pickles().dumps([script.E.A])


def test_a_name_of_the_script_is_not_searched_in_a_worker() -> None:
    """It would lead to what stood there when the worker began."""
    with pytest.raises(Unreadable, match=r"__main__.N pickles by its name alone, .* put it into a module"):
        Pickles().loads(b"c__main__\nN\n.")


def test_what_a_first_call_has_left_is_one_with_what_later_jobs_bring(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    for _ in range(2):
        master = Pickles()
        jobs.append((master.definition(script.make), master.definition(script.is_red), master))
    with another_process(monkeypatch):
        first = Pickles()
        with first.noting() as left:
            value = first.loads(jobs[0][0])(0)
        later = Pickles()
        later.know(left)
        assert later.loads(jobs[1][1])(value)
        back = later.dumps([value])
    assert jobs[1][2].loads(back) == [script.Color.RED]


def test_what_has_a_name_needs_no_cloudpickle() -> None:
    script = """
import sys
import tracemalloc
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


@pytest.mark.parametrize(
    "thing",
    [
        None,
        [[None] * 16],
        {"__main__": ("\x93", b"\x93", 2**70)},
        "__main__.f",
        b"\x93__main__" * 1000,
        [1.5] * 2000,
        {1, 2},
    ],
)
def test_data_that_names_nothing_comes_back_as_it_is(thing: Any) -> None:
    for data in (Pickles().dumps(thing), memoryview(Pickles().dumps(thing))):
        found = Pickles().loads(data)
        assert found == thing
        assert type(found) is type(thing)


def test_what_is_no_pickle_is_unreadable_whether_it_names_anything_or_not() -> None:
    sound = Pickles().dumps([1, 2, 3])
    for data in (b"", b"\x00", sound[:-2], sound[:2] + b"\xff" + sound[3:], b"\x80\x05\x93."):
        with pytest.raises(Unreadable):
            Pickles().loads(data)


def test_what_was_read_with_its_code_is_freed_with_its_last_user() -> None:
    """And not when the collector runs next: it counts objects, not bytes, and a value may have gigabytes."""

    class Local:
        """A class that travels with its code."""

    gc.collect()
    gc.disable()
    try:
        pickles = Pickles()
        body = pickles.dumps([Local(), Local()])
        for reader in (pickles, Pickles()):
            values = reader.loads(body)
            left = list(map(weakref.ref, values))
            del values
            assert [each() for each in left] == [None, None]
        with pytest.raises(Unreadable):
            reader.loads(body[:-1])
        assert gc.collect() == 0
    finally:
        gc.enable()


VALUES = [bytes(3_000_000), "ü" * 1_000_000, bytearray(3_000_000), [bytes([k]) * 70_000 for k in range(40)]]


@pytest.mark.parametrize("value", [*VALUES, list(range(230_000)), [{"id": k, "name": str(k)} for k in range(60_000)]])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_large_pickle_is_read_where_it_lies(value: Any, protocol: int) -> None:
    pickled = pickle.dumps(value, protocol)
    assert Pickles().loads(memoryview(pickled)) == value
    for cut in (1, 1000):
        with pytest.raises(Unreadable, match=r"truncated|Ran out of input|exhausted"):
            Pickles().loads(memoryview(pickled)[:-cut])


@pytest.mark.parametrize("value", VALUES[::2])
def test_a_large_value_is_in_memory_once_when_it_is_read(value: Any) -> None:
    pickled = memoryview(pickle.dumps(value, 5))
    tracemalloc.start()
    try:
        found = Pickles().loads(pickled)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == value
    assert most < 1.2 * len(pickled)
