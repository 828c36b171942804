"""The reducer that a job's parameters name or carry, and objects that they carry as pickles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapreduce_rq.core.plain_values import unpack_all
from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.core.reducers.catalogue import keyed_reducer
from mapreduce_rq.core.reducers.catalogue import reducer as reducer_named
from mapreduce_rq.core.reducers.combine import Combine
from mapreduce_rq.core.reducers.custom import CallableReducer
from mapreduce_rq.core.text import here
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.params import FoldParams
from mapreduce_rq.functions.pickling import Pickles, Unreadable
from mapreduce_rq.functions.sources import check_theirs
from mapreduce_rq.functions.trust import find_as


def reducer_of(params: FoldParams, pickles: Pickles, label: str) -> Reducer[Any]:
    """The reducer. Raises BadFunction; ``label`` names it in the error."""
    if params.by_key is not None:
        how = params.by_key
        folds = {column: reducer_of(fold, pickles, label) for column, fold in how.folds.items()}
        return keyed_reducer(folds, how.top, how.sorted, how.parts, how.form)
    if params.combine is not None:
        functions = [
            find_as(name, codes_of(name, code, params.around)) if name else None for name, code in params.combine
        ]
        return Combine(*functions, law=params.merge_law or Law.COMMUTATIVE)  # type: ignore[arg-type]  # the user's
    if params.reduce_pickle:
        return defined(params.reduce_pickle, params.around, pickles, label)  # type: ignore[no-any-return]
    if params.merge:
        return CallableReducer(
            find_as(params.merge, codes_of(params.merge, params.merge_code or "", params.around)),
            unpack_all(1, params.merge_zero or b"")[0],
            Law(params.merge_law or Law.ORDERED),
            label=params.merge,
        )
    return reducer_named(params.reduce, **params.reduce_options)


def runs_code(params: FoldParams) -> bool:
    """Whether folding runs code of the user's own: a merge, a ``Combine`` or a ``Reducer``."""
    if params.by_key is not None:
        return any(map(runs_code, params.by_key.folds.values()))
    return bool(params.combine is not None or params.reduce_pickle or params.merge)


def defined(pickled: bytes, around: Mapping[str, str], pickles: Pickles, label: str) -> Any:
    """What a pickle holds, if the modules ``around`` it are the same here. Raises BadFunction, VersionSkew."""
    try:
        found = pickles.loads(pickled)
    except Unreadable as error:
        raise BadFunction(f"{label}, a pickle, cannot be read {here()}: {error}") from error
    check_theirs(label, around)
    return found


def codes_of(name: str, code: str, around: Mapping[str, str]) -> dict[str, str]:
    """The hashes that a worker compares, if the function came with them."""
    return {name.partition(":")[0]: code, **around} if code else {}
