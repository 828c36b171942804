"""A computation: it knows how many terms it has, how to map a span of them, and what the merged total means.

A computation is made from validated parameters, in the same way on the master and on every worker. So it must not
depend on anything else: not on the clock, the host, or how the terms are cut.

    plan:    total          how many terms (a finish may ask for more)
    worker:  map(lo, hi)    the partial of terms lo <= k < hi
    master:  reducer        merges partials
    master:  finish(...)    the Outcome; More(total) when the terms so far do not decide it; Ask(...) when much is left
    worker:  work(body)     the answer to a request of ``finish``
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from mapreduce_rq.core.bodies import Aside, Buffer
from mapreduce_rq.core.foreign_errors import Interruption, RemoteError, noted
from mapreduce_rq.core.messages import Failure, Tried
from mapreduce_rq.core.numbers.rational import Rational
from mapreduce_rq.core.outcome import Ask, BoundKind, More, Outcome, Progress
from mapreduce_rq.core.parameters import Params, validate
from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.core.span import MAX_TERMS
from mapreduce_rq.errors import TooLarge

__all__ = ["MAX_TERMS", "Ask", "BoundKind", "Computation", "Interruption", "More", "Outcome", "Progress", "TermError"]

P = TypeVar("P")


Grow = Callable[[Callable[[Any], Any]], bool]
"""It has its argument called with a partial, to which that adds values, and takes what is returned for the partial. It
returns False, and calls nothing, if the partial is not there any more."""


class TermError(Exception):
    """A term could not be computed. ``__cause__``: its exception. ``place``: the place of its item, such as a file and
    line. ``tries``: the number of calls for it.
    """

    def __init__(self, term: int, message: str, place: str = "", tries: int = 1) -> None:
        super().__init__(message)
        self.term, self.place, self.tries = term, place, tries


def _stay() -> None:
    """Do nothing: this process is not a worker's."""


def _done() -> None:
    """Do nothing: this process is not a worker's."""


def _at_once(_: float) -> None:
    """Do not wait: this process is not a worker's."""


def _unheard(_: Tried) -> None:
    """Do nothing: no caller wants to know."""


class Computation(ABC, Generic[P]):
    """One computation with its parameters. Subclasses are listed in ``mapreduce_rq.computations``."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for the list of computations."""
    Params: ClassVar[type[Params]]
    positional: ClassVar[str] = ""
    """The parameter that the command line takes without its name. If it is a list of texts, several words are taken."""
    seconds_per_term: ClassVar[float | None] = None
    """A guess of a term's cost, for the first tasks; the master measures the cost later. None: no guess."""

    even: bool = False
    """Whether to cut a few tasks of one size, because a merge costs more than workers that wait at the end."""

    vectorised: bool = True
    """Whether a call of ``map`` costs about a millisecond, whatever its span: then tasks are never cut smaller."""

    first_stage: ClassVar[int] = 4096
    """The number of terms after which the tolerance is checked for the first time."""

    samples: bool = False
    """Whether its terms are random samples, each as good as any other. A statistical bound is then true for any set of
    terms that are counted."""

    libm: bool = False
    """Whether the kernel uses functions whose last bit differs between machines (see runtime/worker/probe.py)."""

    reached: int = 0
    """The term before which the last call of ``map`` or ``map_body`` ended, if it was cut short; 0: it was not."""

    reads_files: ClassVar[bool] = False
    """Whether ``map`` reads files that its parameters name. On a queue without a key, a worker refuses the job unless
    it was started with a folder to read in."""

    maps_onto: bool = False
    """Whether it has ``map_onto``."""

    folder: str | None = None
    """The only folder that a computation which ``reads_files`` may read in; None: it may read anywhere."""

    term_params: ClassVar[tuple[str, ...]] = ()
    """The parameters on which the value of one term depends, for `mrq term`; none: terms are not fractions."""

    leave: Callable[[], None] = staticmethod(_stay)
    """In a worker: end the process when the task in hand is answered. The supervisor then starts another one."""

    called: Callable[[], None] = staticmethod(_done)
    """In a worker: the calls of the task in hand are made; what follows is its answer."""

    pause: Callable[[float], None] = staticmethod(_at_once)
    """In a worker: wait these seconds before a term is tried again, and end the task if its job is over."""

    told_of: Callable[[Tried], None] = staticmethod(_unheard)
    """In a worker: note that a term took more than one call."""

    wants: str = ""
    """In a worker: the hash of a body that it must ``take`` before it can map."""

    aside: Aside | None = None
    """In a master on the host of a private server: the place where large bodies of its job are laid aside."""

    reducer: Reducer[P]
    total: int | None
    """The number of terms, known from the parameters alone; None: the master learns it from an iterable's end."""

    def __init__(self, params: Any) -> None:
        self.params = params

    @classmethod
    def create(cls, raw: dict[str, Any]) -> Computation[Any]:
        """The computation of these raw parameters. Raises BadParameter (see errors), naming the parameter."""
        return cls(validate(cls.name, cls.Params, raw))

    @classmethod
    def to_map(cls, raw: dict[str, Any], trust: Any) -> Computation[Any]:
        """As ``create``, in a worker, for parameters that came from Redis.

        Raises MrqError for a job that this process must not or cannot run (``trust``: see functions/trust.py).
        """
        folder = trust.folder(cls.name) if cls.reads_files else None
        made = cls.create(raw)
        made.folder = folder
        return made

    @classmethod
    def to_lead(cls, raw: dict[str, Any], trust: Any) -> Computation[Any]:  # noqa: ARG003  subclasses use it
        """As ``to_map``, in a master that resumes another master's job: it merges and finishes, and does not map."""
        return cls.create(raw)

    @abstractmethod
    def map(self, lo: int, hi: int) -> P:
        """The partial of terms ``lo <= k < hi``. Pure. Raises ``TermError`` if it knows which term is at fault."""

    def take(self, body: Buffer) -> None:
        """In a worker: take the body that it ``wants``. Raises MrqError."""
        raise NotImplementedError(f"{self.name} wants no body")

    def map_encoded(self, lo: int, hi: int) -> bytes:
        """``reducer.encode(map(lo, hi))``. Workers spend their time here, so a subclass may define a quicker way."""
        return self.reducer.encode(self.map(lo, hi))

    def map_onto(self, grow: Grow, lo: int, hi: int, body: bytes) -> tuple[P | None, int]:
        """As ``map``, or as ``map_body`` if there is a body, with ``grow`` to fold values into another partial of the
        job, whose terms come before these. Returns None and ``lo``; or, once ``grow`` has returned False, the partial
        of the other terms, and the first of these. If it raises, the other partial may have some of the values.
        """
        raise NotImplementedError(f"{self.name} does not fold into another partial")

    def term_in_hand(self) -> int | None:
        """In a worker, while it maps: the term that is computed now; None if that is not known."""
        return None

    def cut_short(self) -> None:
        """Make ``map`` end after the term in hand, if the computation can do that. Another thread calls this.

        Then ``map`` returns the partial of the terms below ``reached``.
        """

    def map_body(self, lo: int, hi: int, body: bytes) -> P:
        """As ``map``, for tasks that carry their items in ``body`` (encoded by the client)."""
        raise NotImplementedError(f"{self.name} does not take items")

    def cut_body(self, body: bytes, at: int, lo: int, hi: int) -> bytes:
        """The items of terms ``lo <= k < hi``, taken from a body whose first item is term ``at``."""
        raise NotImplementedError(f"{self.name} does not take items")

    @abstractmethod
    def finish(self, partial: P, terms: int) -> Outcome | More | Ask:
        """The outcome of ``terms`` merged terms (all terms, unless the job ended early), or a wish for more terms or
        for help.
        """

    def work(self, body: bytes) -> bytes:
        """The answer to one request of ``finish``. It is pure, and workers call it, like ``map``."""
        raise NotImplementedError(f"{self.name} asks for nothing")

    def conclude(self, partial: P, terms: int) -> Outcome | More:
        """As ``finish``, but this process answers all its requests."""
        found = self.finish(partial, terms)
        while isinstance(found, Ask):
            found = found.then([self.work(body) for body in found.bodies])
        return found

    def term(self, k: int) -> Rational:
        """Term ``k``, exactly, if ``term_params`` is not empty."""
        raise NotImplementedError(f"the terms of {self.name} are no fractions")

    def place(self, term: int) -> int:
        """The number by which people know a term. It differs if terms are drawn from a range in random order."""
        return term

    def peek(self, partial: P, terms: int) -> Progress | None:
        """The running value after ``terms`` terms: the first ones (ordered law), or any (commutative law). It must be
        cheap; None if there is none.
        """
        return None

    def left_out(self, term: int, failure: Failure) -> None:
        """In a master: a term was counted without a value."""

    def pickled_error(self, error: BaseException) -> bytes:
        """In a worker: the bytes of a term's exception, for ``error_of``; b"" if it cannot be sent."""
        return b""

    def error_of(self, failure: Failure) -> BaseException:
        """In a master: the exception of a failure, or one that stands for it, with the worker's traceback as a note."""
        ours = TooLarge.read(failure.message) if failure.kind == TooLarge.__name__ else None
        return noted(ours or RemoteError(failure.kind, failure.message), failure.traceback, failure.where)

    @property
    def law(self) -> Law:
        """The law of the reducer."""
        return self.reducer.law
