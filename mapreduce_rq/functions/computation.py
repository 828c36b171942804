"""A user's own function, mapped over a range or over items, folded by a reducer.

Cost per term: that of the function. The reducer says what the value is worth: exact, or approximate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from types import FunctionType
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar, overload

import msgspec

from mapreduce_rq.core.bodies import ALLOW, ASIDE, FRAMED, Buffer, PlainCodec, ValueCodec
from mapreduce_rq.core.computation import Computation, Interruption, TermError
from mapreduce_rq.core.draw import drawn
from mapreduce_rq.core.foreign_errors import RemoteError, kind_of, message_of, noted, shown, told, traceback_of
from mapreduce_rq.core.given import check
from mapreduce_rq.core.messages import WORKER_DIED, Failure
from mapreduce_rq.core.outcome import Ask, More, Outcome, Progress
from mapreduce_rq.core.parameters import Params, validate
from mapreduce_rq.core.plain_values import Unfit, unpack_all
from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer, TermFailed
from mapreduce_rq.core.reducers.catalogue import keyed_reducer
from mapreduce_rq.core.reducers.catalogue import reducer as reducer_named
from mapreduce_rq.core.reducers.combine import Combine
from mapreduce_rq.core.reducers.custom import CallableReducer
from mapreduce_rq.core.reducers.handed import Handed, Raised, Unanswered, Unsent
from mapreduce_rq.core.reducers.sequence import ListReducer
from mapreduce_rq.core.reducers.sums import is_array
from mapreduce_rq.errors import BadFunction, VersionSkew
from mapreduce_rq.functions.calls import CALL, Caller, call
from mapreduce_rq.functions.coroutines import is_async, run_to_end
from mapreduce_rq.functions.pickle_codec import PickleCodec
from mapreduce_rq.functions.pickling import NAMELESS, Pickles, Unreadable
from mapreduce_rq.functions.retries import Retrying
from mapreduce_rq.functions.sources import check_theirs
from mapreduce_rq.functions.trust import Trust, find_as

BLOCK = 8192
"""Values held at a time: the memory of a task does not grow with its size."""

WIDE_BLOCK = 2048
"""As `BLOCK`, for a wide reducer, which has no fixed cost per block: a small block of pairs stays in the cache, and its
memory is used again without a run of the garbage collector."""
HELD_BYTES = 64 << 20
"""Bytes of arrays held at a time, unless a single array has more."""

MAX_ERROR_BYTES = 64 * 1024
"""Bytes of a pickled exception. A larger one is not sent: its class and message are."""
FIRST_KEPT = 8
"""Values held at first, where the answer holds all of them, and in a job's first task: they may be large."""
EARLY_BYTES = 8 << 20
"""An answer of this size is given before its task is done; the rest is cut again for all workers."""

F = TypeVar("F", bound=Callable[..., Any])
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of Python whose bytecode a pickled function has."""
KERNEL = "__mrq_kernel__"
LIBM = "__mrq_libm__"
SAMPLES = "__mrq_samples__"


@overload
def kernel(function: F, /) -> F: ...
@overload
def kernel(*, whole: bool = ..., libm: bool = ..., samples: bool = ...) -> Callable[[F], F]: ...
def kernel(function: Any = None, /, *, whole: bool = False, libm: bool = False, samples: bool = False) -> Any:
    """Declare a function of a span, ``f(lo, hi)``, instead of a function of a single item.

    It returns the values of the items ``lo <= k < hi`` of a range as an array or a list of that length, and the reducer
    folds them. With ``whole=True`` it returns one value that stands for the whole span. You promise then that the
    result does not depend on how spans are cut (which is true for integers, and not for sums of floats).
    ``libm=True`` says that it uses functions such as exp or sin, whose last bit differs between machines: workers whose
    bits differ from the submitter's refuse the job. ``samples=True`` says that its terms are random samples (made with
    ``random_for(term)``, for example): their mean has a confidence interval, and a tolerance may stop the job after any
    of them.
    """
    check(whole=whole, libm=libm, samples=samples)

    def declare(declared: Any) -> Any:
        check(function=declared)
        setattr(declared, KERNEL, "whole" if whole else "values")
        setattr(declared, LIBM, libm)
        setattr(declared, SAMPLES, samples)
        return declared

    return declare if function is None else declare(function)


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


class _Travelling:
    """An exception that becomes a value, with a note that its own pickle may lose."""

    def __init__(self, error: BaseException, text: str, made: Callable[[BaseException, str], Any]) -> None:
        self._made, self._parts = made, (error, text)

    def __reduce__(self) -> Any:
        return self._made, self._parts


def _starred(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda item: function(*item)


def _as_value(error: BaseException, traceback: str) -> BaseException:
    return noted(error, traceback, "")


def _as_raised(error: BaseException, traceback: str) -> Raised:
    return Raised(noted(error, traceback, ""))


def _folds(params: FoldParams) -> Iterator[FoldParams]:
    """These parameters, and those of each column."""
    yield params
    for fold in params.by_key.folds.values() if params.by_key is not None else ():
        yield from _folds(fold)


class _Begun(NamedTuple):
    """What a first call has left."""

    value: Any
    set_now: dict[str, Any]  # globals of functions that came with their code


_begun: dict[str, _Begun] = {}
"""First calls that this process has made."""
_worn: dict[str, int] = {}
"""Terms that this process has computed, by the first call, for those that want fresh processes."""


def _begin(first: FirstParams, trust: Trust) -> _Begun:
    """Make a first call, unless it was made here, and say what globals it has set: those of functions that came with
    their code are each function's own, and a script's functions are to see what it has set. Raises BadFunction.
    """
    if first.id in _begun:
        return _begun[first.id]
    function = FunctionComputation.to_map(first.call, trust).function
    inner = function.func if isinstance(function, partial) else function
    space = inner.__globals__ if isinstance(inner, FunctionType) and inner.__module__ in NAMELESS else {}
    before = dict(space)
    try:
        value = function()
    except Interruption:
        raise
    except BaseException as error:
        label = first.call.get("label", "it")
        raise BadFunction(f"{label}, which each process calls first, failed: {told(error)}") from error
    set_now = {name: value for name, value in space.items() if name not in before or before[name] is not value}
    _begun[first.id] = _Begun(value, set_now)
    return _begun[first.id]


class FunctionComputation(Computation[Any]):
    """Maps a user's function. Make it only from parameters that passed ``check_trust``."""

    name: ClassVar[str] = "function"
    summary: ClassVar[str] = "a function of your own (see `mrq run`)"
    Params: ClassVar[type[Params]] = FunctionParams

    def __init__(self, params: FunctionParams) -> None:
        super().__init__(params)
        self.total = params.terms
        self.label = params.label or params.function
        self._kernel = params.kernel
        self.vectorised = bool(params.kernel)
        self.libm = params.libm
        self.samples = params.samples
        self._draw = params.draw
        self._plain = params.draw is None and not params.carried  # term k is the item start + k step
        self._found: Callable[..., Any] | None = None  # as ``function``, and quicker to read
        self._pickles = Pickles()
        self.reducer = self._folding(params)
        self._codec: ValueCodec = PlainCodec()
        self._trust = Trust()
        self._start, self._step = params.start, params.step
        self._row: list[Any] = []  # the items being mapped
        self._underway: tuple[Callable[[int], int], list[Any]] | None = None  # terms by row, and values as they come
        self._block = FIRST_KEPT  # how many of them at a time, by the size of the last values
        self._short = False
        self._retrying: Retrying | None = None
        self._shared: list[Any] = []  # one value, once it was taken
        if self._kernel and (params.terms is None or params.step != 1):
            raise BadFunction(f"{self.label} is a kernel of spans: give it a range with step 1, not items")
        if self._kernel and params.carried:
            raise BadFunction(f"{self.label} is a kernel of spans: give it a range, not items")
        if self._draw is not None and (self._kernel or params.terms is None):
            raise BadFunction(f"{self.label} cannot have its terms drawn at random: that needs a range, and no kernel")

    @classmethod
    def to_map(cls, raw: dict[str, Any], trust: Trust) -> Self:
        made = cls._received(raw, trust, maps=True)
        made.wants = made.params.shared or ""
        if not made.wants:
            _ = made.function  # found now: a worker that cannot import it refuses the job, and not each of its tasks
        return made

    def take(self, body: Buffer) -> None:
        self._shared = self._items(body)
        self.wants = ""
        _ = self.function  # as in ``to_map``

    @classmethod
    def to_lead(cls, raw: dict[str, Any], trust: Trust) -> Self:
        return cls._received(raw, trust, maps=False)

    @classmethod
    def _received(cls, raw: dict[str, Any], trust: Trust, *, maps: bool) -> Self:
        params = validate(cls.name, cls.Params, raw)
        assert isinstance(params, FunctionParams)
        check_trust(params, trust, maps=maps)
        made = cls(params)
        made.trusting(trust)
        return made

    def trusting(self, trust: Trust, pickles: Pickles | None = None) -> ValueCodec:
        """Let items, values and the partials of a user's own merge travel as pickles, where these are trusted.

        ``pickles``: those with which the parameters were made. Returns the codec of the items.
        """
        self._pickles = pickles or self._pickles
        self._trust = trust
        if trust.pickles:
            self._codec = PickleCodec(self._pickles)
            self.reducer.travel_by(self._codec)
        return self._codec

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function. A master that continues another's job never needs it. Raises BadFunction."""
        params = self.params
        if params.first is not None:
            self._pickles.overlay = _begin(params.first, self._trust).set_now
        leading: list[Any] = []
        if params.setup is not None:
            begun = _begin(params.setup, self._trust)
            self._pickles.overlay = begun.set_now
            leading.append(begun.value)
        if params.shared is not None:
            if not self._shared:
                raise BadFunction(f"{self.label} was not given what its calls share")
            leading += self._shared
        function = (
            self._defined(params.pickle, params.around)
            if params.pickle
            else find_as(params.function, _codes(params.function, params.code, params.around))
        )
        if not callable(function):
            raise BadFunction(f"{self.label} is a {type(function).__name__}, not a function")
        if getattr(function.func if type(function) is partial else function, KERNEL, "") != self._kernel:
            raise BadFunction(f"{self.label} is a kernel of spans on one side only: deploy the same version")
        if function is call:
            function = Caller(self._trust)
        if is_async(function):
            function = run_to_end(function)
        if leading or params.given:
            before, named = unpack_all(1, params.given)[0] if params.given else ((), {})
            function = partial(function, *leading, *before, **named)
        if params.star:
            function = _starred(function)
        if params.retries:
            function = self._retrying = Retrying(function, params.retries, params.backoff or 0.0, self)
        self._found = self._guarded(function) if params.return_exceptions else function
        return self._found

    def _folding(self, params: FoldParams) -> Reducer[Any]:
        if params.by_key is not None:
            how = params.by_key
            folds = {column: self._folding(fold) for column, fold in how.folds.items()}
            return keyed_reducer(folds, how.top, how.sorted, how.parts, how.form)
        if params.combine is not None:
            functions = [
                find_as(name, _codes(name, code, params.around)) if name else None for name, code in params.combine
            ]
            return Combine(*functions, law=params.merge_law or Law.COMMUTATIVE)  # type: ignore[arg-type]  # the user's
        if params.reduce_pickle:
            return self._defined(params.reduce_pickle, params.around)  # type: ignore[no-any-return]
        if params.merge:
            zero = unpack_all(1, params.merge_zero or b"")[0]
            law = Law(params.merge_law or Law.ORDERED)
            return CallableReducer(
                find_as(params.merge, _codes(params.merge, params.merge_code or "", params.around)),
                zero,
                law,
                label=params.merge,
            )
        return reducer_named(params.reduce, **params.reduce_options)

    def _defined(self, pickled: bytes, around: Mapping[str, str]) -> Any:
        try:
            found = self._pickles.loads(pickled)
        except Unreadable as error:
            raise BadFunction(f"{self.label}, a pickle, cannot be read here: {error}") from error
        check_theirs(self.label, around)
        return found

    def map(self, lo: int, hi: int) -> Any:
        if self._kernel:
            return self._map_span(lo, hi)
        return self._map_items(lo, self._range(lo, hi))

    @cached_property
    def _carried(self) -> list[Any]:
        """The items that came with the job."""
        found = self._items(self.params.carried)
        if len(found) != self.params.terms:
            raise BadFunction(f"{len(found)} items came with the job for {self.params.terms} terms")
        return found

    def _range(self, lo: int, hi: int) -> Sequence[Any]:
        """The items of terms of a range, or of those that came with the job."""
        if self.params.carried:
            if self._draw is None:
                return self._carried[lo:hi]
            return [self._carried[place] for place in drawn(lo, hi, self.params.terms, self._draw)]
        start, step = self._start, self._step
        if self._draw is None:
            return range(start + lo * step, start + hi * step, step)
        return [start + place * step for place in drawn(lo, hi, self.params.terms, self._draw)]

    def place(self, term: int) -> int:
        if self._draw is None:
            return term
        return drawn(term, term + 1, self.params.terms, self._draw)[0]

    def map_encoded(self, lo: int, hi: int) -> bytes:
        if hi - lo > 1 or self._kernel:
            return self.reducer.encode(self.map(lo, hi))
        item = self._start + lo * self._step if self._plain else self._range(lo, hi)[0]
        if self._retrying is not None:
            self._begin_at(lo)
        try:
            return self.reducer.lift_encoded(lo, (self._found or self.function)(item))
        except Interruption:
            raise
        except BadValue as error:
            raise self._bad_value(error) from error
        except BaseException as error:
            raise self._failed(lo, error) from error

    def map_body(self, lo: int, hi: int, body: bytes) -> Any:
        items = self._items(body)
        if len(items) != hi - lo:
            raise ValueError(f"{len(items)} items came for {hi - lo} terms")
        del body
        found = self._map_items(lo, items)
        if self.params.worn_after is not None:
            key = self.params.first.id if self.params.first is not None else self.label
            _worn[key] = _worn.get(key, 0) + (self.reached or hi) - lo
            if _worn[key] >= self.params.worn_after:
                self.leave()
        return found

    def _items(self, body: Buffer) -> list[Any]:
        if bytes(body[:1]) in FRAMED and isinstance(self._codec, PlainCodec):
            raise BadFunction(f"the items are pickled: {ALLOW}")
        try:
            return self._codec.decode(body)
        except Unreadable as error:
            raise BadFunction(f"an item cannot be read here: {error}") from error

    def term_in_hand(self) -> int | None:
        if self._underway is None:
            return None
        term_of, values = self._underway
        return term_of(len(values))

    def cut_short(self) -> None:
        self._short = True
        self._row.clear()  # this ends the loop over it at its next term, and costs the terms nothing

    def _map_items(self, lo: int, items: Sequence[Any]) -> Any:
        function, reducer = self.function, self.reducer
        self._short, self.reached = False, 0
        total = None
        at = 0
        block = FIRST_KEPT if reducer.keeps else self._block
        largest = WIDE_BLOCK if reducer.wide else BLOCK
        while at < len(items) and not (self._short and at):
            values: list[Any] = []
            self._underway = (lo + at).__add__, values
            self._row = list(items[at : at + block])
            wanted = len(self._row)
            self._begin_at(lo + at)
            try:
                values.extend(map(function, self._row))
                if len(values) < wanted and not (self._short and values):
                    # It was cut short before its first term; or it raised StopIteration, which ends a loop in C.
                    if self._retrying is not None:
                        self._retrying.resume((lo + at + len(values)).__add__)
                    values.append(function(items[at + len(values)]))
            except Interruption:
                raise
            except BaseException as error:  # extend keeps what came before the failure: its length names the term
                raise self._failed(lo + at + len(values), error) from error
            try:
                total = reducer.fold(lo + at, values) if total is None else reducer.fold_into(total, lo + at, values)
            except BadValue as error:
                if not (isinstance(reducer, Handed) and self.params.return_exceptions):
                    raise self._bad_value(error) from error
                self._replace_unsent(lo + at, values, error)
                total = reducer.fold(lo + at, values) if total is None else reducer.fold_into(total, lo + at, values)
            except TermFailed as error:
                raise self._failed(error.term, error.__cause__ or error) from error.__cause__
            at += len(values)
            if reducer.keeps:  # an answer of some megabytes is sent early, and no block of values is much larger
                size = reducer.size(total)
                self._short = self._short or size >= EARLY_BYTES
                block = min(2 * block, BLOCK, 1 + at * EARLY_BYTES // max(1, size))
            else:
                size = values[-1].nbytes if is_array(values[-1]) else 0
                block = self._block = min(largest, max(1, HELD_BYTES // size)) if size else largest
        self._row, self._underway = [], None  # they may be large
        if at < len(items):
            self.reached = lo + at
        return reducer.zero() if total is None else total

    def _map_span(self, lo: int, hi: int) -> Any:
        function = self.function
        self._begin_at(lo)
        values = function(self._start + lo, self._start + hi)
        if self._kernel == "whole":
            return self._lift_whole(lo, hi, values)
        try:
            shape = getattr(values, "shape", None) or (len(values) if hasattr(values, "__len__") else None,)
            if shape != (hi - lo,):
                gave = type(values).__name__ if shape == (None,) else " by ".join(map(str, shape)) + " values"
                raise ValueError(f"{self.label} gave {gave} for the {hi - lo} terms [{lo}, {hi})")
            return self.reducer.fold(lo, values)
        except BadValue as error:
            raise self._failed(error.term, error) from error

    def _lift_whole(self, lo: int, hi: int, value: Any) -> Any:
        try:
            return self.reducer.lift(lo, value)
        except BadValue as error:
            # The bad term is not known. An error without a term lets the master halve the span until it is alone.
            raise ValueError(
                f"{self.label} gave {error.what} for the terms [{lo}, {hi}), and the reducer takes {error.takes}"
            ) from None

    def _begin_at(self, term: int) -> None:
        """The next calls are for this term and those that follow."""
        if self._retrying is not None:
            self._retrying.begin(term.__add__)

    def _tries_of(self, error: BaseException) -> int:
        return 1 if self._retrying is None else self._retrying.tries_of(error)

    def _failed(self, term: int, error: BaseException) -> TermError:
        return TermError(term, f"{self.label} at term {self.place(term)}: {told(error)}", tries=self._tries_of(error))

    def _bad_value(self, error: BadValue) -> TermError:
        """The failure of the term with this value. Its text names the place, for a drawn term has another number."""
        term, error.term = error.term, self.place(error.term)
        return self._failed(term, error)

    def cut_body(self, body: bytes, at: int, lo: int, hi: int) -> bytes:
        if body[:1] == ASIDE and self.aside is not None:
            cut = self._codec.encode(self._items(self.aside.get(body))[lo - at : hi - at])
            return self.aside.put(cut) or cut
        return self._codec.encode(self._items(body)[lo - at : hi - at])

    def left_out(self, term: int, failure: Failure) -> None:
        if isinstance(self.reducer, Handed) and self.reducer.hand is not None:
            unanswered = {WORKER_DIED: Unanswered, BadFunction.__name__: Unanswered}
            kind = {BadValue.__name__: Unsent, **unanswered}.get(failure.kind, Raised)
            self.reducer.hand(term, [kind(self.error_of(failure))])

    def _replace_unsent(self, lo: int, values: list[Any], error: BadValue) -> None:
        """Put exceptions in the places of the values that cannot travel; ``error`` names the first."""
        at = error.term - lo
        while at < len(values):
            try:
                self._codec.encode(values[at:])
            except Unfit as unfit:
                at += unfit.index
                why = unfit.__cause__ or error
                found = why if self.pickled_error(why) else RemoteError(kind_of(why), message_of(why))
                values[at] = _Travelling(found, shown(values[at]), Unsent)
                at += 1
            else:
                return

    def pickled_error(self, error: BaseException) -> bytes:
        if not isinstance(self._codec, PickleCodec):
            return b""
        try:
            pickled = self._pickles.dumps(error)
            same = type(self._pickles.loads(pickled)) is type(error)  # many classes cannot be made again from a pickle
        except Interruption:
            raise
        except BaseException:
            return b""
        return pickled if same and len(pickled) <= MAX_ERROR_BYTES else b""

    def error_of(self, failure: Failure) -> BaseException:
        if failure.pickled and isinstance(self._codec, PickleCodec):
            try:
                found = self._pickles.loads(failure.pickled)
                if isinstance(found, BaseException):
                    return noted(found, failure.traceback, failure.where)
            except Unreadable:  # its class cannot be found here
                pass
        return super().error_of(failure)

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with an exception that it raises as its value."""
        travels = isinstance(self.reducer, ListReducer)
        made = _as_raised if isinstance(self.reducer, Handed) else _as_value

        def guarded(item: Any) -> Any:
            try:
                return function(item)
            except Exception as error:
                found = error if self.pickled_error(error) else RemoteError(kind_of(error), message_of(error))
                text = traceback_of(error)
                return _Travelling(found, text, made) if travels else noted(found, text, "")

        return guarded

    def finish(self, partial: Any, terms: int) -> Outcome | More | Ask:
        return self._estimate(partial, terms) or self.reducer.finish(partial)

    def work(self, body: bytes) -> bytes:
        return self.reducer.work(body)

    def _estimate(self, partial: Any, terms: int) -> Outcome | None:
        """What a random sample of terms says about all terms; None where it is no sample, or already all terms."""
        if not self.reducer.estimates:
            return None
        if self.samples:
            return self.reducer.describe_sample(partial, None)
        if self._draw is not None and self.total is not None and terms < self.total:
            return self.reducer.describe_sample(partial, self.total)
        return None

    def peek(self, partial: Any, terms: int) -> Progress | None:
        if not self.reducer.live:
            return None
        now = self._estimate(partial, terms)
        if now is None:  # the first terms, for example: their rounding does not tell how far they are from all terms
            now = self.reducer.describe(partial)
            return Progress(value=now.value, number=now.number)
        error = None if now.bound is None else float(now.bound)
        return Progress(value=now.value, number=now.number, error=error, bound_kind=now.bound_kind)


def _codes(name: str, code: str, around: Mapping[str, str]) -> dict[str, str]:
    """The hashes that a worker compares, if the function came with them."""
    return {name.partition(":")[0]: code, **around} if code else {}
