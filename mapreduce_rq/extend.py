"""The names for authors of computations and reducers: all names that an author needs, and no others.

A distribution offers computations and reducers by entry point, and each `mrq` in the same environment finds them::

    [project.entry-points."mapreduce_rq.computations"]
    collatz = "collatz_plugin:Collatz"           # mrq compute collatz ..., Client.submit("collatz", ...)

    [project.entry-points."mapreduce_rq.reducers"]
    bitwise_or = "collatz_plugin:BitwiseOr"      # mrq run ... --reduce bitwise_or, reduce="bitwise_or"

Masters and workers both need the distribution. Its computations and reducers are trusted as the built-ins are. If the
parameters of a computation give power over the worker's machine (a path, a command), then every program that may write
to the queue has that power.

These names follow the version policy of the package: they change with a major version only.
"""

from __future__ import annotations

from mapreduce_rq.core.computation import MAX_TERMS, Computation, TermError
from mapreduce_rq.core.outcome import Ask, BoundKind, More, Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.errors import BadParameter

__all__ = [
    "MAX_TERMS",
    "Ask",
    "BadParameter",
    "BadValue",
    "BoundKind",
    "Computation",
    "Law",
    "More",
    "Outcome",
    "Params",
    "Progress",
    "Reducer",
    "TermError",
    "reducer",
]
