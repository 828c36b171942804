"""The built-in computations, one file each, found by name.

The catalogue names modules instead of importing them: a command imports only the computation it runs.
Other distributions add theirs under the entry point group ``mapreduce_rq.computations``.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from typing import Any

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.plugins import COMPUTATIONS, load_plugin, offered
from mapreduce_rq.errors import UnknownComputation

CATALOGUE: dict[str, tuple[str, str]] = {
    # name: (module:class, the line that `mrq compute --help` shows)
    "exp": ("mapreduce_rq.computations.exp:Exp", "e^x by its power series, correct to the last bit or digit"),
    "const": ("mapreduce_rq.computations.const:Const", "pi, e, ln2, zeta3 or catalan to any number of digits"),
    "sum": ("mapreduce_rq.computations.sum:Sum", "partial sums of 1/n^2, 1/n or Leibniz' series, correctly rounded"),
    "primes": ("mapreduce_rq.computations.primes:Primes", "how many primes there are up to a number"),
    "montecarlo": (
        "mapreduce_rq.computations.montecarlo:MonteCarlo",
        "pi and other integrals from random samples, with a confidence interval",
    ),
    "nqueens": ("mapreduce_rq.computations.nqueens:NQueens", "how many ways there are to place n queens on a board"),
    "wordcount": ("mapreduce_rq.computations.wordcount:WordCount", "how often each word occurs in files"),
    "mandelbrot": (
        "mapreduce_rq.computations.mandelbrot:Mandelbrot",
        "a picture of the Mandelbrot set, and its escape times",
    ),
}

UNLISTED = {
    "function": "mapreduce_rq.functions.computation:FunctionComputation",
    "files": "mapreduce_rq.functions.files:FilesComputation",
}
"""Not for `mrq compute`: users' functions come through `mrq run` and the Python API."""


@cache
def load(name: str) -> type[Computation[Any]]:
    """The computation class of this name. Raises UnknownComputation with the nearest name, BadPlugin."""
    if name in CATALOGUE or name in UNLISTED:
        module, _, attribute = (UNLISTED.get(name) or CATALOGUE[name][0]).partition(":")
        kind: type[Computation[Any]] = getattr(import_module(module), attribute)
        return kind
    found = load_plugin(COMPUTATIONS, name, Computation)
    if found is None:
        known = [*CATALOGUE, *offered(COMPUTATIONS)]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(known)}"
        raise UnknownComputation(f"no computation is called {name!r}: {hint}")
    return found
