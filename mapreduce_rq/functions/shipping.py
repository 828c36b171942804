"""A user's function and reducer as the parameters of a job: by name, or as a pickle."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

from mapreduce_rq.core.bodies import ALLOW_PICKLES, PlainCodec, ValueCodec, hash_of, join
from mapreduce_rq.core.computation import MAX_TERMS
from mapreduce_rq.core.foreign_errors import shown, told
from mapreduce_rq.core.given import a_kind
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.plain_values import TAKES, Unfit, pack
from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.core.reducers.combine import Combine
from mapreduce_rq.core.reducers.custom import CallableReducer
from mapreduce_rq.core.reducers.keyed import Keyed
from mapreduce_rq.core.reducers.options import travelling
from mapreduce_rq.core.reducers.part_files import check_form
from mapreduce_rq.core.sealing import MAX_SPEC_BYTES
from mapreduce_rq.errors import BadFunction, BadParameter, TooLarge
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.items import refused
from mapreduce_rq.functions.kernel import KERNEL, LIBM, SAMPLES
from mapreduce_rq.functions.params import PYTHON
from mapreduce_rq.functions.pickle_codec import PickleCodec
from mapreduce_rq.functions.pickling import Pickles
from mapreduce_rq.functions.sources import check_ours, codes_of, sources_of
from mapreduce_rq.functions.trust import Trust, find, name_of

CARRIED_AT_ONCE = 1024
"""Items encoded together."""
DRAW = 1
"""The number of the random order in which drawn terms come. It is the same at each run; any number would do."""


def function_params(
    function: Callable[..., Any] | str, trust: Trust, pickles: Pickles, named: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters for a function and the arguments that each call has.

    A ``partial`` is taken apart: it has no name, but the function in it may have one. ``named``: named arguments.
    Raises BadFunction for a function that cannot be sent to a worker.
    """
    before: tuple[Any, ...] = ()
    named = dict(named or {})
    while type(function) is partial:
        before, named = function.args + before, function.keywords | named
        function = function.func
    if not callable(function) and not isinstance(function, str):
        raise BadFunction(f"{shown(function)} is not a function: give a callable or package.module:function")
    name = function if isinstance(function, str) else name_of(function)
    found = function if name is None else find(name)
    if not callable(found):
        raise BadFunction(f"{name} is {a_kind(found)}, not a function: name a function of that module")
    label = str(name or getattr(function, "__qualname__", type(function).__name__))
    given, whole = b"", name is None
    if before or named:
        try:
            given = pack((before, named))
        except (TypeError, ValueError, RecursionError) as error:
            _need_pickles_for_arguments(label, error, trust)
            whole = True
    if name is not None and not whole:
        code, around = sources_of(name)
        return {"label": name, "function": name, "code": code, "around": around, "given": given} | said(found)
    need_pickles(label, trust)
    thing = partial(found, *before, **named) if before or named else found
    return {"label": label, **_pickled("pickle", thing, label, pickles)} | said(thing)


class First(NamedTuple):
    """A call that each process makes once, before the first term of any job that names it so."""

    id: str
    call: Callable[[], Any]


def plain_params(trust: Trust) -> dict[str, Any]:
    """The parameter that says to workers whether this process could read a pickle from them."""
    return {} if trust.pickles else {"plain": True}


def first_params(first: First, trust: Trust, pickles: Pickles) -> dict[str, Any]:
    """The parameters that say what is called first. Raises BadFunction."""
    return {"first": {"id": first.id, "call": function_params(first.call, trust, pickles)}}


def setup_params(setup: Callable[..., Any] | str, trust: Trust, pickles: Pickles) -> dict[str, Any]:
    """The parameters for a call that each process makes once, and whose value each call begins with.

    Raises BadFunction.
    """
    call = function_params(setup, trust, pickles)
    if call["kernel"]:
        raise BadFunction(f"{call['label']} is a kernel of spans, and a setup is called once, without a span")
    told = sorted((name, value) for name, value in call.items() if name != "around")
    same = blake2b(repr([*told, sorted(call["around"].items())]).encode(), digest_size=16).hexdigest()
    return {"setup": {"id": same, "call": call}}


def shared_body(shared: Any, trust: Trust, pickles: Pickles) -> tuple[str, bytes]:
    """What the calls share, as the body that is sent once, and its hash. Raises BadFunction if it cannot travel."""
    if isinstance(shared, io.IOBase) and not isinstance(shared, io.BytesIO | io.StringIO):  # cloudpickle sends its text
        raise BadFunction("shared: an open file cannot travel: give its name, and open it with setup=")
    codec: ValueCodec = PickleCodec(pickles) if trust.pickles else PlainCodec()
    try:
        body = codec.encode([shared])
    except Unfit as unfit:
        raise BadFunction(f"shared: {shown(shared)} cannot travel ({unfit}): {codec.remedy}") from None
    return hash_of([body]).hexdigest(), body


def said(function: Any) -> dict[str, Any]:
    """What a function declares about itself (see ``kernel``)."""
    function = function.func if type(function) is partial else function
    return {
        "kernel": getattr(function, KERNEL, ""),
        "libm": getattr(function, LIBM, False),
        "samples": getattr(function, SAMPLES, False),
    }


def reducer_params(
    reduce: str | Keyed | Reducer[Any] | Callable[[Any, Any], Any],
    zero: Any,
    law: Law | str,
    options: Mapping[str, Any] | None,
    trust: Trust,
    *,
    pickles: Pickles,
) -> dict[str, Any]:
    """The parameters for the reducer. ``zero`` is ``...`` where none was given. Raises UsageError."""
    law = Law.given(law)
    if isinstance(reduce, Keyed):
        if zero is not ... or options:
            raise BadParameter("zero and options were given beside by_key: give them to by_key")
        folds = {column: reducer_params(*fold, trust, pickles=pickles) for column, fold in reduce.folds.items()}
        if reduce.form:
            check_form(reduce.form, list(reduce.folds))
        how = {"top": reduce.top, "sorted": reduce.sorted, "parts": reduce.parts, "form": reduce.form}
        return {"by_key": {"folds": folds} | how}
    if isinstance(reduce, str):
        if zero is not ...:
            raise BadParameter(f"zero was given, and the reducer {reduce} has its own: leave it out")
        return {"reduce": reduce, "reduce_options": travelling(reduce, options) if options else {}}
    if options:
        raise BadParameter("options were given without a reducer's name: leave them out, or name a reducer")
    if isinstance(reduce, Reducer):
        if zero is not ...:
            raise BadParameter("zero was given, and a Reducer has its own: leave it out")
        if type(reduce) is Combine and (named := _named(reduce)):
            return named
        need_pickles("a Reducer", trust, "give its name and options")
        return _pickled("reduce_pickle", reduce, "the reducer", pickles)
    if not callable(reduce):
        raise BadParameter(f"reduce: {a_kind(reduce)} was given: give a name, a Reducer or a function")
    label = getattr(reduce, "__qualname__", type(reduce).__name__)
    if zero is ...:
        raise BadParameter(f"reduce: {label} needs zero=..., the value that changes no other when it is folded with it")
    name = name_of(reduce)
    if name is None:
        need_pickles(label, trust)
        return _pickled("reduce_pickle", CallableReducer(reduce, zero, law), label, pickles)
    try:
        packed = pack(zero)
    except (TypeError, ValueError, RecursionError) as error:
        if trust.pickles:
            return _pickled("reduce_pickle", CallableReducer(reduce, zero, law), label, pickles)
        raise BadParameter(f"zero: {error}; it can be {TAKES}") from None
    code, around = sources_of(name)
    return {"merge": name, "merge_code": code, "around": around, "merge_zero": packed, "merge_law": law.value}


def exception_params(reduce: object, params: Mapping[str, Any], trust: Trust) -> dict[str, bool]:
    """The parameters that let exceptions be values. Raises BadParameter where they cannot be."""
    if isinstance(reduce, Keyed) or (isinstance(reduce, str) and reduce != "list"):
        name = reduce if isinstance(reduce, str) else "by_key"
        raise BadParameter(
            f"return_exceptions: {name} cannot fold exceptions: reduce to a list, or with a function of yours"
        )
    if params["kernel"]:
        raise BadParameter("return_exceptions: a kernel of spans raises for a whole span, not for a term: leave it out")
    if not trust.pickles:
        raise BadParameter(f"return_exceptions: exceptions travel as pickles: leave it out, or {ALLOW_PICKLES}")
    return {"return_exceptions": True}


def _named(reduce: Combine) -> dict[str, Any] | None:
    """The parameters of a Combine whose functions have names; None if one has none."""
    combine: list[tuple[str, str]] = []
    around: dict[str, str] = {}
    for function in reduce.functions:
        if function is None:
            combine.append(("", ""))
            continue
        name = name_of(function)
        if name is None:
            return None
        code, others = sources_of(name)
        combine.append((name, code))
        around |= others
    return {"combine": combine, "around": around, "merge_law": reduce.law.value}


def range_params(items: range) -> dict[str, int]:
    """The parameters for a range of items. Raises BadParameter for one that is too large."""
    if max(map(abs, (items.start, items.stop, items.step))) >= 1 << 63:
        raise BadParameter(f"items: {items} does not fit into 64 bits")
    if (terms := max(0, -((items.start - items.stop) // items.step))) > MAX_TERMS:
        raise BadParameter(f"items: {terms} are too many: {MAX_TERMS} at most")
    return {"start": items.start, "step": items.step, "terms": terms}


def carried_params(items: Iterable[Any], trust: Trust, pickles: Pickles) -> dict[str, Any]:
    """The parameters for items that travel with the job. Raises BadFunction for one that cannot, and TooLarge."""
    codec: ValueCodec = PickleCodec(pickles) if trust.pickles else PlainCodec()
    bodies, terms, size = [], 0, 0
    iterator = iter(items)
    while some := list(islice(iterator, CARRIED_AT_ONCE)):
        try:
            bodies.append(codec.encode(some))
        except Unfit as unfit:
            raise refused(terms + unfit.index, some[unfit.index], unfit, codec) from None
        terms += len(some)
        size += len(bodies[-1])
        if size > MAX_SPEC_BYTES:
            raise TooLarge("the job with its items", size, MAX_SPEC_BYTES, "put the items into files, and give Files")
    return {"terms": terms, "carried": join(bodies) if bodies else codec.encode([])}


def _pickled(name: str, thing: Any, what: str, pickles: Pickles) -> dict[str, Any]:
    """The parameter with this name, the sources that the pickle names, and our Python version. Raises BadFunction."""
    try:
        pickled = pickles.definition(thing)
    except Exception as error:
        raise BadFunction(f"{what} cannot be sent to the workers: {told(error)}") from error
    around = codes_of(pickles.modules)
    check_ours(what, around)
    return {name: pickled, "around": around, "python": PYTHON}


def retry_params(limits: Limits | None) -> dict[str, Any]:
    """The parameters by which workers try terms again, where the limits say so."""
    if not isinstance(limits, Limits) or limits.retries == 0:
        return {}
    return {"retries": limits.retries, "backoff": limits.backoff}


def sampling_params(params: Mapping[str, Any], limits: Limits | None) -> dict[str, int]:
    """The parameters that make the first terms a random sample, where a tolerance may end the job after them.

    Raises BadParameter where they cannot be a sample: the first lines of a sorted file say nothing about the rest.
    """
    if not isinstance(limits, Limits) or not limits.tolerant:
        return {}
    # Files are no matter here: like other items that are no range, they give no sample.
    computation = FunctionComputation.create({name: value for name, value in params.items() if name != "corpus"})
    if not computation.reducer.estimates or computation.samples:
        return {}
    if computation.total is None:
        raise BadParameter(
            "limits: a tolerance needs a random sample, and the first lines of a file, or items of an iterable, "
            "are not one: leave it out, or give a range"
        )
    if computation.vectorised:
        raise BadParameter(
            "limits: a tolerance needs a random sample, and the first spans of a kernel are not one: leave it out, or "
            "declare kernel(samples=True) if its values are drawn at random"
        )
    return {"draw": DRAW}


def _need_pickles_for_arguments(label: str, error: Exception, trust: Trust) -> None:
    if not trust.pickles:
        raise BadFunction(
            f"the arguments of {label} cannot travel to the workers ({error}); they can be {TAKES}: make them one of "
            f"these, or {ALLOW_PICKLES}"
        ) from None


def need_pickles(what: str, trust: Trust, instead: str = "put it into a module") -> None:
    """Raises BadFunction for what has no name, where pickles are not trusted."""
    if not trust.pickles:
        raise BadFunction(f"{what} has no importable name: {instead}, or {ALLOW_PICKLES}")
