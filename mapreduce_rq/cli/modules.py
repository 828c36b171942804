"""Where users' modules are found."""

from __future__ import annotations

import os
import sys


def look_here() -> None:
    """Find modules in the current directory, as `python -m` does."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
