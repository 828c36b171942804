"""The reducers by name. As with the computations, only the module of the named reducer is imported.

exact, in any order     sum int_sum product count min max argmin argmax mean variance stats histogram counter topk
in the order of terms   list concat prefix_sums (and series, for kernels that return pieces of a rational series)
approximate             distinct quantiles

Other distributions add theirs under the entry point group ``mapreduce_rq.reducers``.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from inspect import signature
from typing import Any

from mapreduce_rq.core.plugins import REDUCERS as GROUP
from mapreduce_rq.core.plugins import load_plugin, offered
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.errors import BadParameter

REDUCERS: dict[str, tuple[str, str]] = {
    # name: (module:class, one line for lists)
    "sum": ("value_sums:Sum", "exact sum of numbers, or of arrays element by element, rounded once"),
    "int_sum": ("sums:IntSum", "sum of integers"),
    "product": ("product:Product", "exact product, rounded once"),
    "count": ("sums:Count", "how many values"),
    "min": ("value_extremes:Minimum", "smallest value"),
    "max": ("value_extremes:Maximum", "largest value"),
    "argmin": ("extremes:ArgMin", "index of the smallest value, the first if several are equal"),
    "argmax": ("extremes:ArgMax", "index of the largest value, the first if several are equal"),
    "mean": ("value_moments:Mean", "mean with its confidence interval (confidence=0.95), correctly rounded"),
    "variance": ("value_moments:Variance", "unbiased variance, correctly rounded"),
    "stats": ("moments:AllStatistics", "count, mean, variance, standard deviation, confidence interval"),
    "histogram": ("histogram:Histogram", "counts between edges=[...], or low=, high=, bins="),
    "counter": ("counter:CounterReducer", "how often each key occurs"),
    "topk": ("counter:TopK", "the k=10 most frequent keys"),
    "list": ("sequence:ListReducer", "all values in the order of their terms"),
    "concat": ("sequence:Concat", "texts or bytes joined in the order of their terms"),
    "prefix_sums": ("prefix_sums:PrefixSums", "for each term the exact sum up to it, rounded once"),
    "series": ("series:SeriesReducer", "pieces of a rational series"),
    "distinct": ("sketches:Distinct", "about how many different values (k=4096)"),
    "quantiles": ("sketches:Quantiles", "approximate quantiles (q=[0.25, 0.5, 0.75, 0.9, 0.99])"),
}


UNLISTED = {"handed": "handed:Handed"}
"""Not for users: the reducer of jobs whose values go to the caller as they come."""


@cache
def _options_of(kind: type[Reducer[Any]]) -> tuple[str, ...]:
    return tuple(signature(kind).parameters)


@cache
def _kind_of(name: str) -> type[Reducer[Any]]:
    if name in REDUCERS or name in UNLISTED:
        module, _, attribute = (UNLISTED.get(name) or REDUCERS[name][0]).partition(":")
        kind: type[Reducer[Any]] = getattr(import_module(f"{__package__}.{module}"), attribute)
        return kind
    found = load_plugin(GROUP, name, Reducer)
    if found is None:
        known = [*REDUCERS, *offered(GROUP)]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(known)}"
        raise BadParameter(f"no reducer is called {name!r}: {hint}")
    return found


def reducer(name: str, **options: Any) -> Reducer[Any]:
    """The reducer of this name. Raises BadPlugin, and BadParameter for an unknown name or option, or a bad value."""
    kind = _kind_of(name)
    takes = _options_of(kind)
    for option in options:
        if option not in takes:
            raise BadParameter(f"the reducer {name} takes {', '.join(takes) or 'no options'}, not {option}")
    try:
        return kind(**options)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadParameter(f"the reducer {name}: {error}") from None


def keyed_reducer(
    reducers: dict[str, Reducer[Any]],
    top: int | None,
    sorted: bool,  # noqa: A002  as of ``by_key``
    parts: int | None,
    form: str,
) -> Reducer[Any]:
    """The reducer of each key's values; with ``parts``, by a shuffle. Its module is imported now, too."""
    made: Reducer[Any] = import_module(f"{__package__}.by_key").ByKey(reducers, top=top, sorted=sorted)
    if parts is not None:
        made = import_module(f"{__package__}.shuffle").Shuffle(made, parts, form)
    return made
