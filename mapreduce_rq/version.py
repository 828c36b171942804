"""The version of this package, in a place that every layer may ask."""

from __future__ import annotations

__version__ = "0.1.0"
