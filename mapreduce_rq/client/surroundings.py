"""The search path and environment of the client's process, which its local workers inherit when the client is made."""

from __future__ import annotations

import os
import sys


class Surroundings:
    """The search path and environment of this process now. Later they tell which change may explain a failure."""

    def __init__(self) -> None:
        self._path = list(sys.path)
        self._variables = dict(os.environ)

    def explain(self, kind: str, message: str) -> str:
        """A text to add to a local worker's failure, about what the worker lacks; "" if that cannot be the cause."""
        path = [entry for entry in sys.path if entry not in self._path]
        names = sorted(name for name in os.environ if os.environ[name] != self._variables.get(name))
        if kind != "BadFunction":  # any code may need the variable, and then the message names it
            path, names = [], [name for name in names if name in message]
        changed = [f"sys.path has {', '.join(path)}"] * bool(path) + [f"{', '.join(names)} is set"] * bool(names)
        if not changed:
            return ""
        return f"; since this Client was made, {' and '.join(changed)}, which its local workers lack: do that before"
