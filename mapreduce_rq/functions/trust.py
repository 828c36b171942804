"""How a user's function gets to a worker: by name with a hash of its source, or as a pickle where that is allowed.

By name (``package.module:function``) no code of the function travels. The worker imports it and compares the hash of
the module's source, so a worker with another version of the code refuses instead of answering differently.

On a queue without a key every program with access to Redis may name any function. So a worker is told what to allow:
``foo``, what this module itself defines; ``foo.*``, also its submodules; ``foo:f``, this one function. The rule is
about the *object* that a name leads to: ``foo:os.system`` leads to what foo has imported, ``foo:f.__globals__`` to
everything that foo can reach, and ``foo.sub:f`` runs the code of another module. So a name is checked before anything
is imported, and the object before it is called.

A pickle is code. It is accepted from a private server, whose only clients are our own processes. Elsewhere it is
accepted only if both sides allow it and a key signs every message.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import msgspec

from mapreduce_rq.core.foreign_errors import message_of, told
from mapreduce_rq.core.text import here
from mapreduce_rq.errors import BadFunction, UsageError
from mapreduce_rq.functions.nameless import NAMELESS
from mapreduce_rq.functions.sources import check_theirs, learn


class Trust(msgspec.Struct, frozen=True):
    """What a worker or a client accepts from Redis."""

    private: bool = False  # the server is private: only our own processes use it
    signed: bool = False  # every message carries a MAC made with a key that we hold
    allow: tuple[str, ...] = ()  # what may be named on a queue that is not signed: foo, foo.*, foo:f
    allow_pickle: bool = False
    as_rq: bool = False  # as an RQ worker this process already runs any importable function that this Redis names
    files: str | None = None  # the folder whose files computations may read; None: any file, on a queue that is signed

    def __post_init__(self) -> None:
        for entry in self.allow:
            if not _ALLOWED.fullmatch(entry):
                raise UsageError(
                    f"--allow {entry!r} cannot be read: write foo for what a module defines, foo.* for its submodules, "
                    "too, or foo:f for one function"
                )

    @property
    def pickles(self) -> bool:
        """Whether pickles are read and written."""
        return self.private or (self.allow_pickle and self.signed)

    def folder(self, computation: str) -> str | None:
        """The folder in which a computation may read files; None: all files. Raises BadFunction if it may read none."""
        if self.files is None and not (self.private or self.signed or self.as_rq):
            raise BadFunction(
                f"{computation} reads files of the worker's machine, and messages on this queue are not signed: start "
                "workers with --files DIR, a folder without secrets, or give both sides a key (`mrq key`)"
            )
        return self.files

    def check_name(self, name: str) -> None:
        """Raises BadFunction unless the object with this name may be run. It imports only allowed modules."""
        if self.private or self.signed or self.as_rq or (":" in name and name in self.allow):
            return
        module, _, path = name.partition(":")
        parts = path.split(".")
        if not all(part.isidentifier() and not part.startswith("__") for part in [*module.split("."), *parts]):
            raise BadFunction(f"{name!r} may not be run without a key: name package.module:function, with no __ in it")
        if not self._allows(module):
            raise BadFunction(
                f"{name}: messages on this queue are not signed, and this worker was not told to allow {module}: "
                f"start it with --allow {module}, have its Client allow it (allow=[{module!r}]), or give both sides a "
                "key (`mrq key`)"
            )
        inside: Any = _imported(name, module)
        at = f"{module}:{parts[0]}"
        # Only what stands in the module itself: its own __getattr__ may import more.
        found = vars(inside).get(parts[0], _ABSENT)
        self._check_home(name, at, found)
        for part in parts[1:]:
            if not isinstance(found, type):
                raise BadFunction(f"{name}: {at} is not a class, and without a key a worker calls only methods of one")
            owner = next((each for each in found.__mro__ if part in vars(each)), None)
            self._check_home(name, f"what {at} gets {part} from", _ABSENT if owner is None else owner)
            found = getattr(found, part)
            at = f"{at}.{part}"
            self._check_home(name, at, found)

    def _check_home(self, name: str, at: str, thing: Any) -> None:
        """Raises BadFunction for an object that no allowed module defines."""
        if thing is _ABSENT:
            module, _, path = name.partition(":")
            raise BadFunction(f"{name}: {module} has no {path}")
        if isinstance(thing, ModuleType):
            raise BadFunction(f"{name}: {at} is a module, and not defined there: name it {thing.__name__}:...")
        home = _home(thing)
        if not self._allows(home) and not (_is_in_c(home) and self._allows(_public(home))):
            raise BadFunction(
                f"{name}: {at} is defined in {home}, which this worker was not told to allow: name it {home}:... "
                f"and start the worker with --allow {home}, or allow this one by --allow {name}"
            )

    def _allows(self, module: str) -> bool:
        return any(
            module == entry or (entry.endswith(".*") and f"{module}.".startswith(entry[:-1])) for entry in self.allow
        )


_ALLOWED = re.compile(r"\w+(\.\w+)*(\.\*|:\w+(\.\w+)*)?")
_ABSENT = object()
MOST_LISTED = 5
"""A wrong name is answered by the names of all functions of the module, if they are not more than this."""
_FUNCTIONS = (
    *(FunctionType, BuiltinFunctionType, MethodType),
    *(MethodDescriptorType, ClassMethodDescriptorType, WrapperDescriptorType, MethodWrapperType),
)


def _is_in_c(module: str) -> bool:
    """Whether a module is imported and has no source, such as _operator, which defines the functions of operator."""
    found = sys.modules.get(module)
    return found is not None and not (getattr(found, "__file__", None) or "").endswith(".py")


def _public(module: str) -> str:
    """The module to which this part in C belongs by its name: ``operator`` for ``_operator``."""
    package, dot, last = module.rpartition(".")
    return f"{package}{dot}{last.removeprefix('_')}"


def _home(thing: Any) -> str:
    """The module that defines a function, a method or a class; for another object that of its class; "" if unknown."""
    if not isinstance(thing, (type, *_FUNCTIONS)):
        own = getattr(thing, "__dict__", {}).get("__module__")  # functools.wraps sets it
        if isinstance(own, str):
            return own
        thing = type(thing)
    home = getattr(thing, "__module__", None)
    if home is None:  # a method of a type in C
        owner = getattr(thing, "__objclass__", None) or getattr(thing, "__self__", None)
        home = getattr(owner if isinstance(owner, type) else type(owner), "__module__", None)
    return home if isinstance(home, str) else ""


def well_named(name: str) -> str:
    """A name that may be one of a function, as it is. Raises BadFunction."""
    if ":" not in name or not _ALLOWED.fullmatch(name):
        raise BadFunction(f"{name!r} is not the name of a function: write package.module:function")
    return name


def find(name: str) -> Any:
    """The object with the name ``package.module:attribute``. Raises BadFunction in one line.

    It is looked up each time, for a module may be reloaded.
    """
    module, separator, attribute = name.partition(":")
    if not (module and separator and attribute):
        raise BadFunction(f"{name!r} is not the name of a function: write package.module:function")
    found: Any = _imported(name, module)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise BadFunction(f"{name}: {module} has no {attribute}{_near(part, found)}") from None
    return found


def _near(word: str, thing: Any) -> str:
    """The question after a function that a module has and whose name is like this one, or a list of the few it has."""
    from difflib import get_close_matches  # 5 ms, and only for a mistake

    known = [name for name, one in getattr(thing, "__dict__", {}).items() if not name.startswith("_") and callable(one)]
    near = get_close_matches(word, known, 1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; it has {', '.join(known)}" if 0 < len(known) <= MOST_LISTED else ""


def find_as(name: str, codes: Mapping[str, str]) -> Any:
    """As ``find``; with hashes of modules from another process. Raises BadFunction for one from another source."""
    thing = find(name)
    check_theirs(name, codes)
    return thing


def _imported(name: str, module: str) -> ModuleType:
    if module in NAMELESS:
        raise BadFunction(
            f"{name}: {module} is another module in a worker: give the function itself, or put it into a module"
        )
    try:
        found = importlib.import_module(module)
        learn()
        return found
    except ModuleNotFoundError as error:
        if error.name == module and module.endswith(".py"):
            right = name.replace(module, module.removesuffix(".py"), 1)
            raise BadFunction(f"{name}: that names a file: leave .py out, {right}") from None
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise BadFunction(
                f"{name}: there is no module {error.name} {here()}: start in its folder, or set PYTHONPATH"
            ) from None
        raise BadFunction(f"{name}: importing {module} failed: {message_of(error)}") from error
    except (Exception, SystemExit) as error:
        raise BadFunction(f"{name}: importing {module} failed: {told(error)}") from error


def name_of(function: Callable[..., Any]) -> str | None:
    """The name under which a new interpreter finds exactly this function; None if there is none."""
    module, attribute = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None and hasattr(function, "__objclass__"):  # a method of a built-in type, such as str.split
        module = function.__objclass__.__module__
    if not module or module in NAMELESS or not attribute or "<" in attribute:
        return None
    try:
        found = find(f"{module}:{attribute}")
        # A method of a class is a new object each time that it is read.
        same = found is function or (isinstance(found, MethodType) and isinstance(function, MethodType))
        return f"{module}:{attribute}" if same and found == function else None
    except BadFunction:
        return None
