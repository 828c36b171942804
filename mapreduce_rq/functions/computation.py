"""A user's own function, mapped over a range or over items, folded by a reducer.

Cost per term: that of the function. The reducer says whether the value is exact or approximate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from operator import add
from typing import Any, ClassVar, Self

from msgspec import structs

from mapreduce_rq.core.bodies import ALLOW, ASIDE, FRAMED, Buffer, PlainCodec, ValueCodec
from mapreduce_rq.core.computation import Computation, Grow, Interruption, TermError
from mapreduce_rq.core.draw import drawn
from mapreduce_rq.core.foreign_errors import told
from mapreduce_rq.core.messages import WORKER_DIED, Failure
from mapreduce_rq.core.outcome import Ask, More, Outcome, Progress
from mapreduce_rq.core.parameters import Params, validate
from mapreduce_rq.core.reducers.base import BadValue, TermFailed
from mapreduce_rq.core.reducers.handed import Handed, Raised, Unanswered, Unsent
from mapreduce_rq.core.text import here, plural
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.blocks import BLOCK, block_after
from mapreduce_rq.functions.called import called
from mapreduce_rq.functions.coding import Number
from mapreduce_rq.functions.first_calls import begin, things_of, worn
from mapreduce_rq.functions.folding import reducer_of, runs_code
from mapreduce_rq.functions.onto import Onto
from mapreduce_rq.functions.params import FirstParams, FunctionParams, check_trust
from mapreduce_rq.functions.pickle_codec import PickleCodec
from mapreduce_rq.functions.pickling import Pickles, Unreadable
from mapreduce_rq.functions.raised import guarded, pickled, replace_unsent, unpickled
from mapreduce_rq.functions.retries import Retrying
from mapreduce_rq.functions.trust import Trust

FIRST_KEPT = 8
"""Values held at first, where the answer holds all of them, and in a job's first task: they may be large."""
EARLY_BYTES = 8 << 20
"""An answer of this size is given before its task is done; the rest is cut again for all workers."""

_PLAIN, _NONE = PlainCodec(), Trust()
"""Before it is told whom to trust."""


class FunctionComputation(Computation[Any]):
    """Maps a user's function. Make it only from parameters that passed ``check_trust``."""

    name: ClassVar[str] = "function"
    summary: ClassVar[str] = "a function of your own (see `mrq run`)"
    Params: ClassVar[type[Params]] = FunctionParams

    def __init__(self, params: FunctionParams) -> None:
        super().__init__(params)
        self.label = params.label or params.function
        self._kernel = params.kernel
        self.vectorised = bool(params.kernel)
        self.libm = params.libm
        self.samples = params.samples
        self._draw = params.draw
        self._plain = params.draw is None and not params.carried  # term k is the item start + k step
        self._found: Callable[..., Any] | None = None  # as ``function``, and quicker to read
        self._pickles = Pickles()
        for first in (params.first, params.setup):
            self._pickles.know(things_of(first))
        self._codec: ValueCodec = _PLAIN
        self._trust = _NONE
        self._set_out(params)

    def _set_out(self, params: FunctionParams) -> None:
        """What belongs to one range: its terms, a reducer, and the state of a map."""
        self.params = params
        self.total = params.terms
        self.reducer = reducer_of(params, self._pickles, self.label)
        self.maps_onto = self.reducer.joins and not params.kernel and not runs_code(params)
        self._start, self._step = params.start, params.step
        self._row: list[Any] = []  # the items being mapped
        self._underway: tuple[Callable[[int], int], list[Any]] | None = None  # terms by row, and values as they come
        self._block = FIRST_KEPT  # how many of them at a time, by the size of the last values
        self._short = False
        self._onto: Onto | None = None  # where values go; None: into a partial of the task alone
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

    def over(self, span: Mapping[str, int]) -> Self:
        """The computation of the same function and reducer over another range: ``start``, ``step`` and ``terms``.

        What does not depend on the range is not made anew, because a lone task would wait for that. Pickles are: the
        two may be used in different threads.
        """
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        if self._codec is not _PLAIN:
            made._pickles = Pickles()
        made._set_out(structs.replace(self.params, **span))
        if self._codec is not _PLAIN:
            made.trusting(self._trust)
        return made

    def trusting(self, trust: Trust, pickles: Pickles | None = None) -> ValueCodec:
        """Let items, values and the partials of a user's own merge travel as pickles, where both sides trust these.

        ``pickles``: those with which the parameters were made. Returns the codec of the items.
        """
        self._pickles = pickles or self._pickles
        self._trust = trust
        if trust.pickles and not self.params.plain:
            self._codec = PickleCodec(self._pickles)
            self.reducer.travel_by(self._codec)
        return self._codec

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function. A master that continues another's job never needs it. Raises BadFunction."""
        params = self.params
        if params.first is not None:
            self._pickles.overlay = begin(params.first, partial(self._first, params.first)).set_now
        leading: list[Any] = []
        if params.setup is not None:
            begun = begin(params.setup, partial(self._first, params.setup))
            self._pickles.overlay = begun.set_now
            leading.append(begun.value)
        if params.shared is not None:
            if not self._shared:
                raise BadFunction(f"{self.label}: the object that its calls share is missing here: submit it again")
            leading += self._shared
        function = called(params, leading, self.label, self._pickles, self._trust)
        if params.retries:
            function = self._retrying = Retrying(function, params.retries, params.backoff or 0.0, self)
        self._found = guarded(function, self.reducer, self._trusted) if params.return_exceptions else function
        return self._found

    def _first(self, first: FirstParams) -> tuple[Callable[..., Any], dict[Number, Any]]:
        """The function of a call that each process makes first, and what came with its code."""
        made = FunctionComputation._received(first.call, self._trust, maps=True)
        made.trusting(self._trust, self._pickles)
        with self._pickles.noting() as things:
            return made.function, things

    def map(self, lo: int, hi: int) -> Any:
        if self._kernel:
            return self._map_span(lo, hi)
        return self._map_items(lo, self._range(lo, hi))

    def map_onto(self, grow: Grow, lo: int, hi: int, body: bytes) -> tuple[Any, int]:
        onto = self._onto = Onto(grow, self.reducer.merge, lo)
        try:
            found = self.map_body(lo, hi, body) if body else self.map(lo, hi)
        finally:
            self._onto = None
        return None if onto.all_there else found, onto.first

    @cached_property
    def _carried(self) -> list[Any]:
        """The items that came with the job."""
        found = self._items(self.params.carried)
        if len(found) != self.params.terms:
            raise BadFunction(f"{plural(len(found), 'item')} came with the job for {plural(self.params.terms, 'term')}")
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
            value = (self._found or self.function)(item)
            self.called()
            return self.reducer.lift_encoded(lo, value)
        except Interruption:
            raise
        except BadValue as error:
            raise self._bad_value(error) from error
        except BaseException as error:
            raise self._failed(lo, error) from error

    def map_body(self, lo: int, hi: int, body: bytes) -> Any:
        items = self._items(body)
        if len(items) != hi - lo:
            raise ValueError(f"{plural(len(items), 'item')} came for {plural(hi - lo, 'term')}")
        del body
        found = self._map_items(lo, items)
        if self.params.worn_after is not None:
            key = self.params.first.id if self.params.first is not None else self.label
            if worn(key, (self.reached or hi) - lo) >= self.params.worn_after:
                self.leave()
        return found

    def _items(self, body: Buffer) -> list[Any]:
        if bytes(body[:1]) in FRAMED and isinstance(self._codec, PlainCodec):
            raise BadFunction(f"the items are pickled: {ALLOW}")
        try:
            return self._codec.decode(body)
        except Unreadable as error:
            raise BadFunction(f"an item cannot be read {here()}: {error}") from error

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
        total: Any = None
        at = 0
        block = FIRST_KEPT if reducer.keeps else self._block
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
            if at + len(values) == len(items) and self.params.worn_after is None:
                self.called()
            try:
                total = self._with(total, values, partial(self._fold, lo + at, values), partial(add, lo, at))
            except BadValue as error:
                if not (isinstance(reducer, Handed) and self.params.return_exceptions):
                    raise self._bad_value(error) from error
                replace_unsent(values, error, error.term - lo - at, self._codec, self._trusted)
                total = self._fold(lo + at, values, total)
            except TermFailed as error:
                raise self._failed(error.term, error.__cause__ or error) from error.__cause__
            at += len(values)
            if reducer.keeps:  # an answer of some megabytes is sent early, and no block of values is much larger
                size = reducer.size(total)
                self._short = self._short or size >= EARLY_BYTES
                block = min(2 * block, BLOCK, 1 + at * EARLY_BYTES // max(1, size))
            else:
                block = self._block = block_after(reducer, values[-1])
        self._row, self._underway = [], None  # they may be large
        if at < len(items):
            self.reached = lo + at
        return reducer.zero() if total is None else total

    def _with(self, total: Any, values: Sequence[Any], fold: Callable[[Any], Any], first: Callable[[], int]) -> Any:
        """The task's own partial with these values, which ``fold`` adds; see `Onto.fold`."""
        return fold(total) if self._onto is None else self._onto.fold(total, values, fold, first)

    def _fold(self, first: int, values: Sequence[Any], total: Any) -> Any:
        return self.reducer.fold(first, values) if total is None else self.reducer.fold_into(total, first, values)

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
                raise ValueError(f"{self.label} gave {gave} for {plural(hi - lo, 'term')} [{lo}, {hi})")
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
        term = error.term
        error.renumber(self.place)
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

    @property
    def _trusted(self) -> Pickles | None:
        return self._pickles if isinstance(self._codec, PickleCodec) else None

    def pickled_error(self, error: BaseException) -> bytes:
        return pickled(error, self._pickles) if self._trusted is not None else b""

    def error_of(self, failure: Failure) -> BaseException:
        found = unpickled(failure, self._pickles) if self._trusted is not None else None
        return super().error_of(failure) if found is None else found

    def finish(self, partial: Any, terms: int) -> Outcome | More | Ask:
        return self._estimate(partial, terms) or self.reducer.finish(partial)

    def work(self, body: bytes) -> bytes:
        return self.reducer.work(body)

    def _estimate(self, partial: Any, terms: int) -> Outcome | None:
        """The estimate for all terms from a random sample of them; None if it is no sample, or already all terms."""
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
