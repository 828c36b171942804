"""Plans a job before it is queued: its spec, its computation and the source of its items."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mapreduce_rq.client.arguments import limited, rows
from mapreduce_rq.client.identity import process_name
from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.fingerprint import code_of
from mapreduce_rq.core.given import check
from mapreduce_rq.core.job.events import Source
from mapreduce_rq.core.messages import DEFAULT_LIMITS, MAX_MESSAGE_BYTES, Limits, Spec, check_limits
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.errors import BadParameter, UsageError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.server.shelf import Shelf
from mapreduce_rq.runtime.worker.probe import numerics
from mapreduce_rq.version import __version__

if TYPE_CHECKING:  # what few programs use
    from mapreduce_rq.client.kept_plans import KeptPlan, KeptPlans
    from mapreduce_rq.client.open_job import Plan
    from mapreduce_rq.core.reducers.keyed import Keyed
    from mapreduce_rq.functions.pickling import Pickles
    from mapreduce_rq.functions.shipping import First


OF_FUNCTIONS = {"function", "files"}
"""The computations that call functions of users."""


class Planner:
    """Makes jobs for one queue. ``shelf``: the folder of a private server's large bodies; None: the server is shared.

    ``share`` puts a body where all workers find it by its hash.
    """

    def __init__(self, clock: Clock, trust: Trust, shelf: str | None, share: Callable[[str, bytes], None]) -> None:
        self._clock = clock
        self._trust = trust
        self._shelf = shelf
        self._share = share
        self._kept: KeptPlans | None = None
        self._checked = DEFAULT_LIMITS  # the last ones that were checked: most programs give the same again

    def computation(
        self, name: str, params: Mapping[str, Any], limits: Limits | None = None, *, lazy: bool = False
    ) -> tuple[Spec, Computation[Any]]:
        """The spec and computation of a job that is not queued yet. Raises UsageError."""
        check(computation=name)
        limits = DEFAULT_LIMITS if limits is None else limits
        if limits is not self._checked:
            check_limits(limits)
            self._checked = limits
        computation = load(name).create(dict(params))
        if limits.retries and name not in OF_FUNCTIONS:
            raise BadParameter(f"limits: retries is for functions of your own, and {name} is none")
        spec = Spec(
            job=self._id(name),
            computation=name,
            params=settled(computation.params),
            total=computation.total,
            limits=limits,
            created=self._clock.wall(),
            version=__version__,
            code="" if self._shelf is not None else code_of(computation),
            numerics=numerics() if computation.libm else "",
            lazy=lazy,
            by=process_name(),
            joins=computation.reducer.joins,
        )
        self._lay_in(computation, spec.job)
        return spec, computation

    def _id(self, name: str) -> str:
        return f"{name}-{self._clock.random(16).hex()}"

    def _lay_in(self, computation: Computation[Any], job: str) -> None:
        if self._shelf is not None:
            computation.aside = Shelf(self._shelf, job)
            computation.reducer.lay_in(computation.aside)

    def _again(self, kept: KeptPlan, items: Any) -> tuple[Spec, Computation[Any]]:
        """As ``function``, for a call like an earlier one."""
        from mapreduce_rq.functions.shipping import range_params  # as below

        params, computation = kept.over(range_params(items))
        spec = msgspec.structs.replace(
            kept.spec,
            job=self._id(kept.spec.computation),
            params=params,
            total=computation.total,
            created=self._clock.wall(),
            by=process_name(),
        )
        self._lay_in(computation, spec.job)
        return spec, computation

    def function(
        self,
        function: Callable[..., Any] | str,
        items: Iterable[Any],
        *more: Iterable[Any],
        reduce: str | Keyed | Reducer[Any] | Callable[[Any, Any], Any] = "sum",
        zero: Any = ...,
        law: Law | str = Law.ORDERED,
        options: Mapping[str, Any] | None = None,
        star: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        chunksize: int | None = None,
        limits: Limits | None = None,
        return_exceptions: bool = False,
        setup: Callable[..., Any] | str | None = None,
        shared: Any = ...,
        detached: bool = False,
    ) -> tuple[Spec, Computation[Any], Source | None]:
        """As ``computation``, for a caller's function, with the source of its items if they are not a range.

        ``detached``: all items are read now, and travel with the job. Raises UsageError; TooLarge for too many of them.
        """
        if self._kept is None:
            from mapreduce_rq.client.kept_plans import KeptPlans  # imports 18 modules that no built-in needs

            self._kept = KeptPlans()
        plain = type(items) is range and type(reduce) is str and not more and not detached  # else nothing is kept
        plain = plain and kwargs is None and setup is None and shared is ... and star is False
        plain = plain and zero is ... and law is Law.ORDERED and options is None and return_exceptions is False
        if plain and (kept := self._kept.find(function, reduce, limits, chunksize)) is not None:
            return (*self._again(kept, items), None)
        given = limits
        check(law=law, options=options, kwargs=kwargs, return_exceptions=return_exceptions, setup=setup)
        from mapreduce_rq.functions import shipping  # as above
        from mapreduce_rq.functions.computation import FunctionComputation  # with it
        from mapreduce_rq.functions.items import source_of  # with it
        from mapreduce_rq.functions.pickling import Pickles  # with it

        pickles = Pickles()
        items, star = rows(items, more, star=star)
        params = shipping.function_params(function, self._trust, pickles, kwargs) | {"star": star}
        params |= shipping.plain_params(self._trust)
        params |= self._leading(setup, shared, pickles)
        if params["kernel"] and star:
            raise BadParameter("a kernel of spans takes a range, not rows of arguments")
        if return_exceptions:
            params |= shipping.exception_params(reduce, params, self._trust)
        folding = shipping.reducer_params(reduce, zero, law, options, self._trust, pickles=pickles)
        params |= folding | {"around": params.get("around", {}) | folding.get("around", {})}
        lazy, lines = False, None
        files = sys.modules.get("mapreduce_rq.files.files")  # takes 10 ms, and only such items need it
        named: Any = items if files is not None and isinstance(items, files.Files) else None
        if files is not None and detached and named is not None and named.ship:
            if isinstance(named, files.Stream):
                raise UsageError("the lines of a stream come from this process: a detached job takes those of a file")
            items, named = named.records(), None  # they travel with the job
        if named is not None and named.ship and not named.in_lines:
            items, named = named.records(), None
        if named is not None:
            corpus, lines = named.shipment() if named.ship else (named.corpus(), None)
            params |= {"corpus": msgspec.structs.asdict(corpus)}
            lazy = lines is not None
        elif isinstance(items, range):
            params |= shipping.range_params(items)
        elif detached:
            params |= shipping.carried_params(items, self._trust, pickles)
        else:
            lazy = True
        limits = limited(limits, chunksize)
        check_limits(DEFAULT_LIMITS if limits is None else limits)
        params |= shipping.retry_params(limits) | shipping.sampling_params(params, limits)
        spec, computation = self.computation("function" if named is None else "files", params, limits, lazy=lazy)
        assert isinstance(computation, FunctionComputation)
        codec = computation.trusting(self._trust, pickles)
        if plain:
            self._kept.keep(function, reduce, given, chunksize, spec, computation)
        source: Source | None = None
        if lines is not None:
            from mapreduce_rq.functions.files import source_of_lines  # with what it reads, as above

            source = source_of_lines(lines, clock=self._clock.now, aside=computation.aside)
        elif lazy:
            source = source_of(items, codec=codec, clock=self._clock.now, aside=computation.aside)
        return spec, computation, source

    def open_job(
        self,
        function: Callable[..., Any] | str,
        *,
        star: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        setup: Callable[..., Any] | str | None = None,
        shared: Any = ...,
        first: First | None = None,
        worn_after: int | None = None,
    ) -> Plan:
        """As ``function``, for a job whose items come later and whose values are handed to the caller.

        The third part of the plan is the codec of the items. ``first`` is called once in each worker process; after
        ``worn_after`` terms a new process takes the place of the old one. Raises UsageError.
        """
        check(kwargs=kwargs, setup=setup)
        from mapreduce_rq.functions import shipping  # as above
        from mapreduce_rq.functions.computation import FunctionComputation  # as above
        from mapreduce_rq.functions.pickling import Pickles  # as above

        pickles = Pickles()
        params = shipping.function_params(function, self._trust, pickles, kwargs)
        if params["kernel"]:
            raise BadParameter("a kernel of spans takes a range, not items")
        params |= {"reduce": "handed", "star": star, "return_exceptions": self._trust.pickles}
        params |= shipping.plain_params(self._trust)
        params |= self._leading(setup, shared, pickles)
        if first is not None:
            params |= shipping.first_params(first, self._trust, pickles)
        limits = msgspec.structs.replace(limits or Limits(), on_error="skip")
        if limits.max_body == DEFAULT_LIMITS.max_body:  # a pool or an executor has no limit, and cannot be given one
            limits = msgspec.structs.replace(limits, max_body=MAX_MESSAGE_BYTES)
        check_limits(limits)
        params |= shipping.retry_params(limits)
        if worn_after is not None:
            params["worn_after"] = worn_after
            limits = msgspec.structs.replace(limits, chunk=1)
        spec, computation = self.computation("function", params, limits, lazy=True)
        assert isinstance(computation, FunctionComputation)
        return spec, computation, computation.trusting(self._trust, pickles)

    def _leading(self, setup: Callable[..., Any] | str | None, shared: Any, pickles: Pickles) -> dict[str, Any]:
        """The parameters for the first arguments of each call: the value of ``setup`` and the shared object, which is
        sent now. Raises UsageError, BrokerError.
        """
        from mapreduce_rq.functions import shipping  # as above

        params: dict[str, Any] = {} if setup is None else shipping.setup_params(setup, self._trust, pickles)
        if shared is not ...:
            name, body = shipping.shared_body(shared, self._trust, pickles)
            self._share(name, body)
            params["shared"] = name
        return params


FUNCTION = frozenset(Planner.function.__kwdefaults__ or ()) - {"detached"}
"""The named arguments about calls and folding, which several public functions hand on to ``Planner.function``."""
FOLDING = frozenset({"reduce", "zero", "law", "options"})


def settled(params: Params) -> dict[str, Any]:
    """The parameters with the defaults that the plan has filled in, so that every other process makes the same plan.

    The parameters of a function have many defaults; their class leaves them out by itself.
    """
    plain: dict[str, Any] = msgspec.to_builtins(params, builtin_types=(bytes,))
    return {name: value for name, value in plain.items() if value is not None}
