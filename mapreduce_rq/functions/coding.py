"""The pickler for objects that travel with their code: cloudpickle's, with numbers (see `pickling`) and some fixes."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, Protocol

from mapreduce_rq.functions import classes
from mapreduce_rq.functions.nameless import NAMELESS, parts_of
from mapreduce_rq.functions.nameless import reduced as reduced_of

PROTOCOL = 5
"""PEP 574: large buffers stay out of the pickle."""

Number = tuple[str, int, str]
"""The number of an object that travels with its code: the process that gave the number, a count, and the job."""
Keep = Callable[[pickle.PickleBuffer], Any]


class Numbers(Protocol):
    """The numbers and the code of objects that travel with their code, in one job."""

    def number(self, thing: Any, *, defines: bool) -> Number:
        """The number of an object."""

    def code(self, kind: type) -> bytes:
        """The pickle of a class."""


def note(thing: Any, modules: set[str]) -> None:
    """Collect the module that this thing is, or that defines it."""
    if isinstance(thing, types.ModuleType):
        modules.add(thing.__name__)
    elif isinstance(thing, (type, types.FunctionType, types.BuiltinFunctionType)) and thing.__module__ is not None:
        modules.add(str(thing.__module__))


def named_in(code: types.CodeType) -> set[str]:
    """Modules whose names a function has in its code: it may import them when it runs."""
    inside = [named_in(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return {name for name in code.co_names if name in sys.modules}.union(*inside)


@cache
def coder() -> Callable[..., Any]:
    """The class that pickles with code: cloudpickle's, with numbers."""
    import cloudpickle  # 20 ms, and only where an object without a name has to travel
    from cloudpickle.cloudpickle import _class_getnewargs as new_arguments  # as above, and so are the next two
    from cloudpickle.cloudpickle import _class_getstate as state_of  # as above
    from cloudpickle.cloudpickle import _should_pickle_by_reference as by_reference  # as above

    class Coder(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        """``apart``: classes are written as bytes of their own, which a process reads only if it lacks them."""

        def __init__(
            self, file: io.BytesIO, pickles: Numbers, keep: Keep | None, *, defines: bool, apart: bool
        ) -> None:
            if (child := sys.modules.get(NAMELESS[1])) is not None:
                cloudpickle.register_pickle_by_value(child)
            super().__init__(file, PROTOCOL, buffer_callback=keep)
            self._pickles, self._defines, self._apart = pickles, defines, apart
            self.coded = False
            self.modules: set[str] = set()
            self._nameless = {*NAMELESS, *cloudpickle.list_registry_pickle_by_value()}

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind is types.ModuleType:
                note(obj, self.modules)
            if issubclass(kind, type):
                return self._class(obj)
            if kind is types.FunctionType:
                reduced = super().reducer_override(obj)
                if reduced is NotImplemented or len(reduced) != 6:
                    note(obj, self.modules)
                    return reduced  # by name
                self.modules |= named_in(obj.__code__)
                make, arguments, state, _, _, fill = reduced
                return self._numbered(obj, make, arguments, (fill, state))
            if issubclass(kind, Enum) and (name := classes.by_name(obj)) is not None and not by_reference(kind):
                return classes.member, (kind, name)
            if not self._defines and kind in _CHANGED:
                return _as_it_is(obj)  # cloudpickle would send another type, which only a function may mean
            if is_read_only(obj):
                return copied(obj)
            if kind not in self.dispatch_table and (parts := parts_of(obj, self._nameless, PROTOCOL)) is not None:
                return self._numbered(obj, *parts)
            return reduced_of(obj)

        def _numbered(self, obj: Any, make: Any, arguments: tuple[Any, ...], how: tuple[Any, Any]) -> Any:
            self.coded = True
            number = self._pickles.number(obj, defines=self._defines)
            return begun, (number, make, arguments), how, None, None, filled

        def _class(self, kind: type) -> Any:
            if not classes.is_enum(kind):
                reduced = super().reducer_override(kind)
                if reduced is NotImplemented or len(reduced) != 6:
                    note(kind, self.modules)
                    return reduced  # by name
            elif by_reference(kind):
                note(kind, self.modules)
                return NotImplemented
            if self._apart:
                self.coded = True
                return adopted, (self._pickles.number(kind, defines=self._defines), self._pickles.code(kind))
            first, names = new_arguments(kind)[3], state_of(kind)[0]
            names.pop("__slotnames__", None)  # a note that copyreg leaves when it first pickles one of its objects
            if "__slots__" in names:
                # cloudpickle would set them on the finished class. That class would have a __dict__ in place of
                # slots, and the state of its objects would not fit the sender's class. It also leaves the slots of
                # private names.
                first |= {"__slots__": names.pop("__slots__")}
                names = {name: each for name, each in names.items() if type(each) is not types.MemberDescriptorType}
            # By its own number for a class, cloudpickle would find the class of another job: it gets ours.
            arguments = classes.how_to_make(kind, first)
            return self._numbered(kind, classes.made, arguments, (classes.filled, classes.state_of(kind, names)))

    return Coder


def is_read_only(value: Any) -> bool:
    """Whether a value is a numpy array that may not be written. This does not import numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.flags.writeable


def copied(array: Any) -> Any:
    """How a numpy array is pickled: the receiver may write it, as with ``multiprocessing.Pool``.

    With its own memory as a buffer, a read-only array would be read-only there, too.
    """
    order = "C" if 0 in array.strides else "K"  # one that repeats its memory has no order of its own
    return (array if array.flags.writeable else array.copy(order=order)).__reduce_ex__(PROTOCOL)


_CHANGED = {memoryview, io.TextIOWrapper}
"""Types of values that cloudpickle sends as another type: as bytes, and as a StringIO."""


def _as_it_is(value: Any) -> tuple[Any, ...]:
    """How a value of one of these types is pickled. Raises TypeError, as Python does, if it cannot be."""
    if isinstance(value, memoryview):
        data, shape = value.tobytes(), value.shape or ()
        view_of(data, value.format, shape)
        return view_of, (data, value.format, shape)
    raise TypeError("cannot pickle an open file: have its name travel")


def view_of(data: bytes, form: Any, shape: tuple[int, ...]) -> memoryview:
    """The view of these bytes. Raises TypeError for a format that only another library knows."""
    try:
        return memoryview(data).cast(form, shape) if data else memoryview(data).cast(form)
    except ValueError as error:
        raise TypeError(f"cannot pickle a memoryview of the format {form}: {error}") from None


def _only_there(*_: Any) -> Any:
    raise pickle.UnpicklingError("the pickles of a job are read by Pickles.loads")


def adopted(number: Number, code: bytes) -> Any:
    """In a pickle: the class with this number, made from its code where it is not known."""
    return _only_there(number, code)


def begun(number: Number, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """In a pickle: the object with this number; where it is not known, a new one that is still empty."""
    return _only_there(number, make, arguments)


def filled(thing: Any, how: tuple[Callable[[Any, Any], Any], Any]) -> Any:
    """In a pickle: what a new object is filled with."""
    return _only_there(thing, how)
