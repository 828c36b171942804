"""How a user's function gets to a worker: by name with a hash of its source, or as a pickle where that is allowed.

By name (``package.module:function``) nothing of the function travels: the worker imports it and compares the hash of
the module's source, so that a worker with another version of the code refuses instead of answering differently.

A pickle is code. It is accepted from a private server, whose only clients are our own processes; elsewhere only where
both sides allow it and a key signs every message.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.pickling import NAMELESS


@dataclass(frozen=True)
class Trust:
    """What a worker, or a client, lets in."""

    private: bool = False  # the server is ours alone
    signed: bool = False  # every message carries a MAC of a key that we hold
    allow: tuple[str, ...] = ()  # modules whose functions may be named on a queue that is not signed
    allow_pickle: bool = False

    @property
    def pickles(self) -> bool:
        """Whether pickles are read and written."""
        return self.private or (self.allow_pickle and self.signed)

    def check_name(self, name: str) -> None:
        """Raises BadFunction unless a function of this name may be run."""
        module = name.partition(":")[0]
        if self.private or self.signed or any(module == base or module.startswith(f"{base}.") for base in self.allow):
            return
        raise BadFunction(
            f"{name}: messages on this queue are not signed, so a worker runs only what it was told to allow: "
            f"start it with --allow {module}, or give both sides a key (`mrq key`)"
        )


@lru_cache(maxsize=256)
def find(name: str) -> Any:
    """The object called ``package.module:attribute``. Raises BadFunction in one line."""
    module, separator, attribute = name.partition(":")
    if not (module and separator and attribute):
        raise BadFunction(f"{name!r}: a function is named package.module:function")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise BadFunction(
                f"{name}: there is no module {error.name} here: be in its folder, or set PYTHONPATH"
            ) from None
        raise BadFunction(f"{name}: importing {module} failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise BadFunction(f"{name}: importing {module} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise BadFunction(f"{name}: {module} has no {attribute}") from None
    return found


@lru_cache(maxsize=256)
def source_hash(name: str) -> str:
    """A hash of the source of the module that ``name`` is in; for one without source, of what versions there are."""
    module = importlib.import_module(name.partition(":")[0])
    path = getattr(module, "__file__", None)
    if path and path.endswith(".py"):
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    facts = f"{module.__name__} {getattr(module, '__version__', '')} {sys.version}"
    return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()


def name_of(function: Callable[..., Any]) -> str | None:
    """The name under which a fresh interpreter finds exactly this function; None if there is none."""
    module, attribute = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None and hasattr(function, "__objclass__"):  # a method of a built-in type, such as str.split
        module = function.__objclass__.__module__
    if not module or module in NAMELESS or not attribute or "<" in attribute:
        return None
    try:
        return f"{module}:{attribute}" if find(f"{module}:{attribute}") is function else None
    except BadFunction:
        return None
