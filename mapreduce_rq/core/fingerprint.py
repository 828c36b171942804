"""A hash of the code that a computation runs: by it two versions of this package know that they compute the same.

In a rolling deploy, workers of the next version meet jobs of this version. The package's version says little then,
because most releases change neither a kernel nor a reducer. So a job's spec has a hash of the source of its
computation, of its reducer, and of all modules of this package that they use. A worker of another version compares it
with its own hash. The format of messages is not in the hash: keys in Redis begin with the wire version.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

PACKAGE = __name__.partition(".")[0]
NO_CODE = {PACKAGE, f"{PACKAGE}.version"}
"""Modules that differ between any two versions and that compute nothing."""


def code_of(computation: Any) -> str:
    """The hash of the source of a computation and its reducer: 32 hexadecimal digits."""
    return _code_of(type(computation).__module__, type(computation.reducer).__module__)


@cache
def _code_of(*modules: str) -> str:
    found = list(dict.fromkeys(modules))
    for name in found:  # the list grows meanwhile
        found += [other for other in dict.fromkeys(_used(sys.modules[name])) if other not in found]
    made = hashlib.blake2b(digest_size=16)
    for name in sorted(found):
        source = _source(sys.modules[name])
        made.update(b"%s %d " % (name.encode(), len(source)) + source)
    return made.hexdigest()


def _used(module: ModuleType) -> Iterator[str]:
    """The modules of this package that define the classes and functions, and the constants' classes, in a module."""
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            name = value.__name__
        elif isinstance(value, (type, FunctionType)):
            name = value.__module__
        else:
            name = type(value).__module__
        if name.partition(".")[0] == PACKAGE and name not in NO_CODE and name in sys.modules:
            yield name


def _source(module: ModuleType) -> bytes:
    try:
        with open(module.__file__ or "", "rb") as file:
            return file.read()
    except OSError:  # an author's own module without a file
        return repr(sorted(vars(module))).encode()
