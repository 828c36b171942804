"""What a job says of its function, its items and its reducer; and whether these may become code here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from mapreduce_rq.core.parameters import Params
from mapreduce_rq.errors import BadFunction, VersionSkew
from mapreduce_rq.functions.calls import CALL
from mapreduce_rq.functions.trust import Trust

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of Python whose bytecode a pickled function has."""


class FoldParams(Params, frozen=True, kw_only=True, omit_defaults=True):
    """How to find a reducer."""

    reduce: str = "sum"
    reduce_options: dict[str, Any] = msgspec.field(default_factory=dict)
    reduce_pickle: bytes = b""  # a pickled Reducer
    python: str = ""  # the Python version that pickled it, or the function
    merge: str | None = None  # package.module:function that folds, if it has a name
    merge_code: str | None = None
    merge_zero: bytes | None = None
    merge_law: Literal["commutative", "ordered"] | None = None
    combine: list[tuple[str, str]] | None = None  # names and hashes of a Combine's functions, if they have names
    around: dict[str, str] = msgspec.field(default_factory=dict)  # hashes of the modules that these modules import
    by_key: KeyedParams | None = None


class FirstParams(Params, frozen=True, kw_only=True, omit_defaults=True):
    """A call that each process makes once, before the first term of any job that names it so.

    ``id``: its name; that of a setup is a hash of the call, so jobs with the same setup share its value.
    """

    id: str
    call: dict[str, Any]  # as FunctionParams


class KeyedParams(Params, frozen=True, kw_only=True, omit_defaults=True):
    """How the values of each key are folded: see ``by_key``."""

    folds: dict[str, FoldParams]
    top: int | None = None
    sorted: bool = False
    parts: int | None = None  # with a shuffle
    form: Literal["", "jsonl", "parquet"] = ""  # how each part is written, for a file; '': to be iterated over


class FunctionParams(FoldParams, frozen=True, kw_only=True, omit_defaults=True):
    """How to find the function, its items and its reducer on a worker."""

    function: str = ""  # package.module:function, unless there is a pickle
    code: str = ""  # hash of its module's source
    pickle: bytes = b""  # the pickled function
    start: int = 0  # term k is the item start + k step, unless tasks carry items
    step: int = 1
    terms: int | None = None
    kernel: Literal["", "values", "whole"] = ""  # what the function declares (see ``kernel``)
    libm: bool = False
    samples: bool = False
    carried: bytes = b""  # the items, which travel with the job: then terms are their places
    draw: int | None = None  # terms come in the random order with this number
    return_exceptions: bool = False  # exceptions become values
    plain: bool = False  # the submitter reads no pickles, so workers that write some for other jobs write none for this
    star: bool = False  # an item is a sequence of arguments
    first: FirstParams | None = None  # to be called once in each process
    setup: FirstParams | None = None  # as ``first``, and its value is the first argument of each call
    shared: str | None = None  # the hash of a body that every host has: its value is an argument of each call
    retries: int | None = None  # further calls for a term where it raises; as the job's limits say
    backoff: float | None = None  # seconds
    worn_after: int | None = None  # terms after which a new process takes the place of this one
    given: bytes = b""  # arguments of every call: a tuple of those before the item, a dict of named ones
    label: str = ""  # for people


def check_trust(params: FunctionParams, trust: Trust, *, maps: bool) -> None:
    """Raises BadFunction or VersionSkew unless these parameters may become code here. ``maps``: also the function."""
    folds = list(_folds(params))
    pickled = [fold.python for fold in folds if fold.reduce_pickle or (maps and fold is params and params.pickle)]
    if pickled and not trust.pickles:
        raise BadFunction(
            "the job has a pickled function, and this process reads no pickles: start workers with --allow-pickle and "
            "a key (MRQ_KEY)"
        )
    for python in pickled:
        if python not in {"", PYTHON}:
            raise VersionSkew(
                f"{params.label or 'the reducer'} was pickled by Python {python}, and this is Python {PYTHON}: "
                "bytecode belongs to one version: run the same Python on both sides, or put the function into a module"
            )
    merging = [name for fold in folds for name in (fold.merge, *(name for name, _ in fold.combine or ()))]
    mapped = params.function if maps and params.function != CALL else ""  # that one checks what it is to call
    for name in filter(None, (mapped, *merging)):
        trust.check_name(name)


def _folds(params: FoldParams) -> Iterator[FoldParams]:
    """These parameters, and those of each column."""
    yield params
    for fold in params.by_key.folds.values() if params.by_key is not None else ():
        yield from _folds(fold)
