"""A job's result, as its caller gets it; and what is said of a job that has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapreduce_rq.core.outcome import Deferred


class Result:
    """A job's result. Attributes are the keys of its record (see core/job/record.py), and ``native``.

    ``value`` is text, ``float`` the nearest double or None, ``bound`` text or None with ``bound_kind``, ``digest``
    a hash of the exact total, ``native`` the Python object that the computation makes of it.
    """

    def __init__(self, record: dict[str, Any], native: Any) -> None:
        self.record = record
        self._native = native

    @property
    def native(self) -> Any:
        """The Python object, made now if that takes long."""
        if isinstance(self._native, Deferred):
            self._native = self._native.make()
        return self._native

    @property
    def content(self) -> bytes:
        """What a file of it holds: bytes as they are, anything else as its text and a newline."""
        return self._native if isinstance(self._native, bytes) else f"{self.value}\n".encode()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.record[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        value = self.record["value"]
        return f"<Result {value if len(value) < 60 else value[:57] + '...'} of {self.record['job']}>"


def failure_text(record: Mapping[str, Any]) -> str:
    """One line about a failed job, from its record."""
    where = f" on {record['where']}" if record.get("where") else ""
    term = record.get("term")
    at = f"term {term}" if term is not None else f"terms {record.get('span')}"
    label = (record.get("params") or {}).get("label") or record.get("computation")
    return f"{label} failed at {at}{where}: {record.get('kind')}: {record.get('message')} (job {record.get('job')})"
