"""Map-reduce for people who already have Redis."""

from __future__ import annotations

__version__ = "0.1.0"
