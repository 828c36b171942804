"""One pickler for everything that a job sends as pickles: its function, its reducer, its items and its values.

An object that an importable module defines travels by its name, at the speed of the standard pickler. An object without
such a name (a class or function of a script, a notebook or a prompt; a lambda; what a function defines inside itself)
travels with its code, by cloudpickle. If it came with its code twice, the receiver would have two objects: then
``c is Color.RED``, ``isinstance`` and ``==`` are false between a function and its items. So each such object has a
number, and a process makes one object for each number, in each job that it takes part in:

- A process that reads a number of its own takes the object itself: the class of a value is the script's own class,
  unchanged. (cloudpickle alone would write a worker's copies of the methods over those of the script.)
- A class is pickled once for a job, as bytes of its own. Each message carries a copy of these bytes, which a process
  reads only if it lacks the class.
- Between two jobs a script may change a class, or a global that its methods use. So a class that comes with the items
  has a number of the job, and one that comes with the function or the reducer has the number of those bytes.

To pickle by name runs in C; to pickle with code costs a Python call for each object. So everything is pickled by name
first, and with code only if that fails or if the pickle names ``__main__``, which is another module in a worker.
"""

from __future__ import annotations

import copyreg
import io
import itertools
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from mapreduce_rq.core.foreign_errors import Interruption, told
from mapreduce_rq.core.text import here
from mapreduce_rq.functions import classes, coding
from mapreduce_rq.functions.coding import PROTOCOL, Keep, Number, coder, copied, note
from mapreduce_rq.functions.nameless import NAMELESS

Data = bytes | bytearray | memoryview

NAMES = pickle.STACK_GLOBAL
"""A pickle of ours without this byte names no class and no function, so it holds only numbers, texts and the like."""
SMALL_BYTES = 4096
"""Bytes of a pickle from which on to make its reader takes little of the time."""


LARGE_BYTES = 1 << 20
"""Bytes of a pickle from which on it is read where it lies, and not from a copy."""


class _Own:
    """The objects that this process has sent with their code."""

    def __init__(self) -> None:
        self.process = os.urandom(8).hex()
        self.count = itertools.count()
        self.numbers: WeakKeyDictionary[Any, tuple[str, int]] = WeakKeyDictionary()
        self.things: WeakValueDictionary[tuple[str, int], Any] = WeakValueDictionary()

    def number(self, thing: Any) -> tuple[str, int]:
        number = self.numbers.get(thing)
        if number is None:  # two threads may ask at once: both get what the first has set
            number = self.numbers.setdefault(thing, (self.process, next(self.count)))
            self.things[number] = thing
        return number

    def forked(self) -> None:
        """Forget our parent's objects in a forked child: we have copies of them, which may change."""
        self.process = os.urandom(8).hex()
        self.things = WeakValueDictionary()


_own = _Own()
os.register_at_fork(after_in_child=_own.forked)


class Unreadable(Exception):
    """A pickle cannot be read here. The text says of what type it is, why, and what to do. The cause is the error."""


class Pickles:
    """Writes and reads what one job sends as pickles. Only one thread may use it at a time."""

    def __init__(self) -> None:
        self._defined: set[tuple[str, int]] = set()  # numbers of objects that came with our function or reducer
        self._with_code = False  # whether the last pickle needed code
        self.overlay: dict[str, Any] = {}
        """Global names of functions that came with their code: here they have these values, not the sender's."""
        self.modules: set[str] = set()
        """The modules that our function and reducer name."""
        self._noted: dict[Number, Any] | None = None

    # These are made at their first use: most jobs send nothing that needs them.

    @cached_property
    def _job(self) -> str:
        return os.urandom(4).hex()

    @cached_property
    def _things(self) -> WeakValueDictionary[Number, Any]:
        """Objects made here."""
        return WeakValueDictionary()

    @cached_property
    def _numbers(self) -> WeakKeyDictionary[Any, Number]:
        """The numbers of these objects."""
        return WeakKeyDictionary()

    @cached_property
    def _codes(self) -> WeakKeyDictionary[type, bytes]:
        return WeakKeyDictionary()

    def definition(self, thing: Any) -> bytes:
        """The pickle of the function or the reducer: equal bytes for equal objects. Raises as :meth:`dumps`."""
        return self._dumps(thing, None, defines=True)

    def dumps(self, thing: Any, keep: Keep | None = None) -> bytes:
        """The object's pickle. ``keep`` is called with each large buffer, which then travels beside the pickle.

        Raises what the object's own code raises, or what the pickler raises (TypeError, PicklingError, ...).
        """
        return self._dumps(thing, keep, defines=False)

    def _dumps(self, thing: Any, keep: Keep | None, *, defines: bool) -> bytes:
        if not self._with_code:
            buffers: list[pickle.PickleBuffer] = []  # kept only if this pickle is used
            modules: set[str] = set()
            try:
                pickled = _named(thing, modules) if defines else _by_name(thing, buffers.append if keep else None)
            except Exception:  # perhaps only because an object has no name
                return self._dumped_with_code(thing, keep, defines)
            if NAMES in pickled and any(name in pickled for name in _nameless()):
                return self._dumped_with_code(thing, keep, defines)
            self.modules |= modules
            for buffer in buffers:
                assert keep is not None
                keep(buffer)
            return pickled
        return self._dumped_with_code(thing, keep, defines)

    def _dumped_with_code(self, thing: Any, keep: Keep | None, defines: bool) -> bytes:
        file = io.BytesIO()
        pickler = coder()(file, self, keep, defines=defines, apart=not defines)
        pickler.dump(thing)
        if defines:
            self.modules |= pickler.modules
        else:
            self._with_code = pickler.coded
        return file.getvalue()

    def loads(self, pickled: Data, buffers: Iterable[Data] = ()) -> Any:
        """The object that :meth:`dumps` took. Raises Unreadable. It runs the sender's code: see ``Trust.pickles``."""
        if len(pickled) < SMALL_BYTES and NAMES not in bytes(pickled):
            with suppress(Exception):  # the reader says what is wrong
                return pickle.loads(pickled)  # noqa: S301  where pickles are trusted
        reader = _Reader(pickled, self, buffers)
        try:
            return reader.load()
        except (Unreadable, Interruption, KeyboardInterrupt):
            raise
        except BaseException as error:  # the sender's classes may raise anything: this process goes on
            raise reader.failed(error) from error
        finally:
            reader.forget_unfinished()
            reader.memo.clear()  # it holds the values, and methods of the reader: a cycle that would keep them

    # -- by number, for the pickler and the reader -------------------------------------------------------------------

    def number(self, thing: Any, *, defines: bool) -> Number:
        """The number of ``thing`` in this job."""
        number = self._numbers.get(thing)
        if number is not None:
            return number
        own = _own.number(thing)
        if defines:
            self._defined.add(own)
        return (*own, "" if own in self._defined else self._job)

    def thing(self, number: Number) -> Any:
        """The object with this number, or None."""
        thing = _own.things.get(number[:2])
        return self._things.get(number) if thing is None else thing

    def came(self, kind: type) -> bool:
        """Whether a class travels with its code."""
        return kind in self._numbers or kind in _own.numbers

    def made(self, number: Number, thing: Any) -> None:
        """Remember an object that was made here from its code."""
        self._things[number] = thing
        self._numbers[thing] = number

    def know(self, things: dict[Number, Any]) -> None:
        """Take these objects, which an earlier job has left in this process, in place of new ones."""
        for number, thing in things.items():
            self.made(number, thing)

    @contextmanager
    def noting(self) -> Iterator[dict[Number, Any]]:
        """Collects what is read meanwhile of the objects that travel with their code."""
        things: dict[Number, Any] = {}
        self._noted = things
        try:
            yield things
        finally:
            self._noted = None

    def note(self, number: Number, thing: Any) -> None:
        if self._noted is not None:
            self._noted[number] = thing

    def adopted(self, code: bytes) -> Any:
        """The class that these bytes make."""
        kind = self.loads(code)
        self._codes[kind] = code  # the same bytes are sent back
        return kind

    def forget(self, number: Number) -> None:
        """Forget an object whose making has failed half way."""
        self._things.pop(number, None)

    def code(self, kind: type) -> bytes:
        """The pickle of a class, made when it was first sent and the same for the whole job."""
        code = self._codes.get(kind)
        if code is None:
            file = io.BytesIO()
            coder()(file, self, None, defines=False, apart=False).dump(kind)
            code = self._codes[kind] = file.getvalue()
        return code


class _Namer(pickle.Pickler):
    """Pickles by name, and collects the modules of the names."""

    def __init__(self, file: io.BytesIO, modules: set[str]) -> None:
        super().__init__(file, PROTOCOL)
        self._modules = modules

    def reducer_override(self, obj: Any) -> Any:
        note(obj, self._modules)
        return NotImplemented


def _named(thing: Any, modules: set[str]) -> bytes:
    file = io.BytesIO()
    _Namer(file, modules).dump(thing)
    return file.getvalue()


def _by_name(thing: Any, keep: Keep | None) -> bytes:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return pickle.dumps(thing, PROTOCOL, buffer_callback=keep)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, PROTOCOL, buffer_callback=keep)
    pickler.dispatch_table = {**copyreg.dispatch_table, numpy.ndarray: copied}
    pickler.dump(thing)
    return file.getvalue()


def _nameless() -> list[bytes]:
    """The modules whose classes and functions travel with their code, as bytes in a pickle."""
    names = list(NAMELESS)
    if "cloudpickle" in sys.modules:
        names += sys.modules["cloudpickle"].list_registry_pickle_by_value()
    return [name.encode() for name in names]


class _Memory:
    """Memory as a file for an unpickler. ``io.BytesIO`` would copy it: a large value would be there once more."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int) -> bytes:
        """The next bytes; fewer at the end."""
        return bytes(self._next(size))

    def readinto(self, into: memoryview) -> int:
        """Fill ``into`` with the next bytes, and return how many there were."""
        found = self._next(len(into))
        into[: len(found)] = found
        return len(found)

    def readline(self) -> bytes:
        """The bytes up to the next line's end, which only old protocols ask for."""
        size = 64
        while True:
            found = bytes(self._data[self._at : self._at + size])
            end = found.find(b"\n") + 1
            if end or len(found) < size:
                return self.read(end or len(found))
            size *= 8

    def _next(self, size: int) -> memoryview:
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found


class _Reader(pickle.Unpickler):
    """Reads one pickle of a job."""

    def __init__(self, pickled: Data, pickles: Pickles, buffers: Iterable[Data]) -> None:
        if isinstance(pickled, memoryview) and len(pickled) >= LARGE_BYTES:
            super().__init__(_Memory(pickled), buffers=buffers)
        else:
            super().__init__(io.BytesIO(pickled), buffers=buffers)
        self._pickles = pickles
        self._unfinished: dict[int, Number] = {}  # by id of the object that was begun here
        self._missing = ""  # the name that is searched
        self._latest = ""  # the last class found

    def find_class(self, module: str, name: str) -> Any:
        if module == coding.__name__ and name in {"adopted", "begun", "filled"}:
            return getattr(self, f"_{name}")
        if module in NAMELESS:
            raise Unreadable(
                f"{module}.{name} pickles by its name alone, and {module} is another module {here()}: put it into a "
                "module, and import it"
            )
        self._missing = f"{module}.{name}"
        found = super().find_class(module, name)
        self._missing = ""
        if isinstance(found, type):
            self._latest = f"{module}.{name}" if module != "builtins" else name
        return found

    def failed(self, error: BaseException) -> Unreadable:
        """The error that says what went wrong, and what to do about it."""
        what = told(error)
        if self._missing:
            return Unreadable(
                f"{self._missing} cannot be found {here()} ({what}): install its module, in the same version, on each "
                "host"
            )
        where = f" at a {self._latest}" if self._latest else ""
        return Unreadable(f"{what}{where}: make sure that pickle.loads(pickle.dumps(it)) gives it back")

    def forget_unfinished(self) -> None:
        """Forget the objects that were begun and not filled: they must not be found by their numbers."""
        for number in self._unfinished.values():
            self._pickles.forget(number)

    def _adopted(self, number: Number, code: bytes) -> Any:
        thing = self._pickles.thing(number)
        return self._pickles.adopted(code) if thing is None else thing

    def _begun(self, number: Number, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        thing = self._pickles.thing(number)
        if thing is None:
            thing = make(*arguments, self._pickles.came) if make is classes.made else make(*arguments)
            self._pickles.made(number, thing)
            self._unfinished[id(thing)] = number
        self._pickles.note(number, thing)
        return thing

    def _filled(self, thing: Any, how: tuple[Callable[[Any, Any], Any], Any]) -> Any:
        if id(thing) in self._unfinished:
            fill, state = how
            fill(thing, state)
            if self._pickles.overlay and isinstance(thing, types.FunctionType):
                thing.__globals__.update(self._pickles.overlay)
            del self._unfinished[id(thing)]
        return thing
