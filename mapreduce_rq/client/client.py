"""The Python API: a client of one queue.

    with Client() as mrq:                                   # no URL: a private server and local workers
        mrq.map_reduce(f, range(1_000_000))                 # the exact sum of f(k)
        job = mrq.submit("exp", x="2", terms=50)
        job.result().value

A client without a URL (none given, none in MRQ_URL or REDIS_URL) starts a private server and its own workers, and ends
both when it is closed. With a URL it uses the workers that run there (``local=N`` adds some). Several threads may use
one client: while one folds, the others get connections of their own. Each submitted job has a thread of its own.

This file is long because it is the public API: it changes only when a method's arguments or promises change. What the
methods share, from the opening of a client to its close, is in the layer below (``base.py``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.client.arguments import heard_by, limited, rows, seen_by
from mapreduce_rq.client.base import ClientBase
from mapreduce_rq.client.environment import chosen_queue
from mapreduce_rq.client.planning import FOLDING, FUNCTION
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.given import check, only, shown
from mapreduce_rq.core.job.events import Source
from mapreduce_rq.core.messages import Limits, Spec
from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.errors import BadParameter, NoSuchJob, UsageError
from mapreduce_rq.pipes.url import NO_SERVER
from mapreduce_rq.runtime.master.cancel import cancel
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

if TYPE_CHECKING:  # what few programs use is imported in the functions that need it: `mrq compute` must not pay for it
    from mapreduce_rq.broker.snapshot import Snapshot
    from mapreduce_rq.client.executor import Executor
    from mapreduce_rq.client.found_job import FoundJob
    from mapreduce_rq.client.job import Job
    from mapreduce_rq.client.loops import Loops, RQQueue
    from mapreduce_rq.client.pool import Pool
    from mapreduce_rq.client.streams import Values
    from mapreduce_rq.core.reducers.keyed import Keyed
    from mapreduce_rq.progress.printed import Logs
    from mapreduce_rq.progress.shown import Progress

T = TypeVar("T")


class Client(ClientBase):
    """A client of one queue.

    ``url``: a Redis or Valkey. None means the value of MRQ_URL, or else of REDIS_URL; ``""``, or where neither is set,
    means a private server with local workers. ``local``: the number of local workers (None: one per core on a private
    server, none on another). ``queue``: its name (None: the value of MRQ_QUEUE, or ``default``). ``keys``: signing
    keys, as bytes or as `mrq key` prints them; the first signs (None: those of MRQ_KEY_FILE or MRQ_KEY; a private
    server makes its own). ``server``: a private server that is already started. ``allow``: what local workers run on a
    queue without a key (``foo``: what this module defines; ``foo.*``; ``foo:f``). ``allow_pickle``: with a key,
    functions without an importable name are sent as pickles, and local workers read them. ``as_rq``, ``host``,
    ``loops``: for jobs on an RQ fleet, see ``on_rq``.

    ``repr()`` and the log ``mapreduce_rq.client`` say which server it is. Raises UsageError, BrokerError.
    """

    def __init__(
        self,
        url: str | Endpoint | None = None,
        *,
        local: int | None = None,
        queue: str | None = None,
        keys: Iterable[bytes | str] | None = None,
        server: EmbeddedServer | None = None,
        allow_pickle: bool = False,
        allow: Iterable[str] = (),
        as_rq: bool = False,
        host: str = "",
        loops: Loops | None = None,
    ) -> None:
        check(local=local, queue=queue, server=server, allow_pickle=allow_pickle, allow=allow, as_rq=as_rq, host=host)
        check(url=None if isinstance(url, Endpoint) else url, keys=keys, loops=loops)
        super().__init__(
            url,
            chosen_queue(queue),
            local=local,
            keys=keys,
            server=server,
            allow_pickle=allow_pickle,
            allow=allow,
            as_rq=as_rq,
            host=host,
            loops=loops,
        )

    @classmethod
    def on_rq(
        cls,
        rq_queue: RQQueue,
        helpers: int = 4,
        *,
        local: int | None = None,
        queue: str | None = None,
        keys: Iterable[bytes | str] | None = None,
        allow_pickle: bool = False,
    ) -> Self:
        """A client on the Redis of an RQ queue, whose rq workers are given up to ``helpers`` worker loops to run.

        Jobs are led here; the loops are kept at that number until the client is closed, and then told to leave. They
        run whatever function is named, as RQ does; their key is what MRQ_KEY or MRQ_KEY_FILE says where rq workers run.
        Raises UsageError, BrokerError.
        """
        check(helpers=helpers, local=local, queue=queue, keys=keys, allow_pickle=allow_pickle)
        if helpers < 1:
            raise BadParameter(f"{helpers} helpers: at least one rq worker is needed to help")
        name = chosen_queue(queue)
        from mapreduce_rq.client.loops import Loops  # few programs use it

        loops = Loops(rq_queue, name, lambda _: helpers)
        return cls(loops.endpoint, local=local, queue=name, keys=keys, allow_pickle=allow_pickle, loops=loops)

    # -- your own functions ----------------------------------------------------------------------------------------

    def map_reduce(
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
        progress: Progress = None,
        logs: Logs = False,
        observer: Observer | None = None,
        wait_workers: float | None = None,
    ) -> Any:
        """Fold ``function(item)`` over all items, in this thread, and return the reducer's Python object.

        ``function``: a callable, its name ``package.module:function``, or a ``kernel`` of spans. ``items``: a range
        costs nothing to send. Any other iterable is read in this thread, only as fast as workers take its items; while
        it has no item to give, deadlines wait, too. ``more`` iterables give further arguments, as for ``map``; with
        ``star`` each item is a row of arguments; ``kwargs`` are the named arguments. ``chunksize``: terms per task
        (None: measured). ``reduce``: a reducer's name (with ``options``), a Reducer, a ``by_key``, or an associative
        callable with its ``zero`` and ``law`` (ordered, or commutative if you know that it is). The result has the same
        bits for any number of workers and any schedule. If ``limits`` let the job end early or leave terms out, only
        ``submit_function`` tells what is missing. ``return_exceptions``: what a term raises becomes its value, with the
        worker's traceback as a note (for lists and your own folds, where pickles are trusted). ``setup``: a callable or
        its name, called once in each worker process; its value comes first in each call. ``shared``: an object that is
        sent once to each host, whatever its size, and comes next in each call. ``progress``: True for
        a bar on a terminal or in a notebook; a callable, which gets a ``Report`` ten times a second at most and once at
        the end, and ends the job by what it raises; a tqdm bar; or a ``rich.progress.Progress``. ``logs``: what the
        calls print, write to standard error and log comes here with their answers, the last 8 kB of each task: True
        for lines on standard error, each with its worker and term; a callable, which gets each ``Printed``. A task may
        be computed twice, and so may a line come twice. The call returns when the job's end is on its way to Redis; the
        next call, or ``close``, makes sure that it arrived.
        Raises UsageError, and JobFailed, which names the term.
        """
        limits, observer = heard_by(logs, limits, observer)
        plan = self.planner.function(
            function,
            items,
            *more,
            reduce=reduce,
            zero=zero,
            law=law,
            options=options,
            star=star,
            kwargs=kwargs,
            chunksize=chunksize,
            limits=limits,
            return_exceptions=return_exceptions,
            setup=setup,
            shared=shared,
        )
        reducer = plan[1].reducer
        reducer.hasten()
        try:
            return self._led_here(*plan, progress=progress, observer=observer, wait_workers=wait_workers).take()
        finally:
            reducer.ahead = None  # the plan may be kept

    def reduce_by_key(
        self,
        pairs: Callable[..., Any] | str,
        items: Iterable[Any],
        reduce: Any = "sum",
        *,
        zero: Any = ...,
        law: Law | str = Law.ORDERED,
        options: Mapping[str, Any] | None = None,
        top: int | None = None,
        sorted: bool = False,  # noqa: A002  as the built-in
        parts: int | None = None,
        out: str | os.PathLike[str] | None = None,
        form: str = "jsonl",
        progress: Progress = None,
        logs: Logs = False,
        limits: Limits | None = None,
        observer: Observer | None = None,
        wait_workers: float | None = None,
        **how: Any,
    ) -> Any:
        """Fold the values of each key, in this thread, and return a dictionary, or a list of pairs.

        ``pairs(item)`` returns a pair ``(key, value)``, a dictionary, or an iterable of pairs. ``reduce``, ``zero``,
        ``law``, ``options``, ``top`` and ``sorted``: see ``by_key``. For many keys: ``parts`` (see there) makes the
        result an iterable of pairs; ``out``, a folder that is new or empty, has the parts written as files (``form``:
        jsonl, or parquet with pyarrow), and a ``PartFiles`` returned. The folder is there whole, with a file _SUCCESS
        that tells what it holds, or not at all. Other arguments and errors: see ``map_reduce``; CannotWrite.
        """
        only("reduce_by_key", how, REDUCE_BY_KEY)
        check(out=out, form=form)
        from mapreduce_rq.core.reducers.keyed import DEFAULT_PARTS, by_key, in_parts  # few programs use it

        keyed = by_key(reduce, zero=zero, law=law, options=options, top=top, sorted=sorted, parts=parts)
        limits, observer = heard_by(logs, limits, observer)
        how["limits"] = limits
        led: dict[str, Any] = {"progress": progress, "observer": observer, "wait_workers": wait_workers}
        if out is None:
            if form != "jsonl":
                raise UsageError(f"form is {shown(form)}, and says how the files of out are written: give out, too")
            return self.map_reduce(pairs, items, reduce=keyed, **led, **how)
        from mapreduce_rq.client.part_folder import PartFolder  # with the reducers, which only those who reduce need

        folder = PartFolder(os.fspath(out))
        keyed = in_parts(keyed, DEFAULT_PARTS if parts is None else parts, form)
        plan = self.planner.function(pairs, items, reduce=keyed, **how)
        return folder.write(self._led_here(*plan, **led))

    # -- values as they come ---------------------------------------------------------------------------------------

    def imap(
        self,
        function: Callable[..., T] | str,
        items: Iterable[Any],
        *more: Iterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        star: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        chunksize: int | None = None,
        limits: Limits | None = None,
        setup: Callable[..., Any] | str | None = None,
        shared: Any = ...,
        progress: Progress = None,
        logs: Logs = False,
        observer: Observer | None = None,
        wait_workers: float | None = None,
    ) -> Values[T]:
        """An iterator over the values of ``function(item)``, in the order of the items, while items still come.

        The iterable may be endless and slow: it is read in a thread of its own, never more than ``buffersize`` items
        ahead of what the caller has taken. Memory is constant. What a term raises is raised where its value would
        stand, and the next call continues with the next term. ``chunksize``: items per task (None: measured).
        ``more``, ``star``, ``kwargs``, ``setup``, ``shared``, ``progress``, ``logs``, ``wait_workers``: see
        ``map_reduce``. ``observer``, and a callable for progress or logs: are called in a thread of the job. To close
        or to drop the iterator ends the job.
        Raises UsageError, BrokerError; while it is read, BadFunction for an item that cannot travel, and JobError.
        """
        check(ordered=ordered, buffersize=buffersize, observer=observer, wait_workers=wait_workers)
        items, star = rows(items, more, star=star)
        if buffersize is not None and buffersize < 1:
            raise BadParameter(f"buffersize: {buffersize}: at least one item must be on its way")
        iterator = iter(items)
        limits, observer = heard_by(logs, limits, observer)
        plan = self.planner.open_job(
            function, star=star, kwargs=kwargs, limits=limited(limits, chunksize), setup=setup, shared=shared
        )
        from mapreduce_rq.client.streams import Values  # few programs use it

        return Values(
            self,
            plan,
            iterator,
            ordered=ordered,
            buffersize=buffersize,
            observer=observer,
            shown=seen_by(progress, plan[0].label, observer),
            wait_workers=wait_workers,
        )

    def imap_unordered(
        self, function: Callable[..., T] | str, items: Iterable[Any], *more: Iterable[Any], **how: Any
    ) -> Values[T]:
        """As ``imap``, but each value comes as soon as it is there."""
        only("imap_unordered", how, IMAP - {"ordered"})
        return self.imap(function, items, *more, ordered=False, **how)

    def starmap(self, function: Callable[..., T] | str, items: Iterable[Iterable[Any]], **how: Any) -> Values[T]:
        """As ``imap``, but each item is a row of arguments: the values of ``function(*item)``."""
        only("starmap", how, IMAP - {"star"})
        return self.imap(function, items, star=True, **how)

    def executor(
        self,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        logs: Logs = False,
    ) -> Executor:
        """A ``concurrent.futures.Executor`` on the workers of this queue; see ``Executor``."""
        from mapreduce_rq.client.executor import Executor  # few programs use it

        return Executor(
            self, initializer=initializer, initargs=initargs, max_tasks_per_child=max_tasks_per_child, logs=logs
        )

    def pool(
        self,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        logs: Logs = False,
    ) -> Pool:
        """A ``multiprocessing.Pool`` on the workers of this queue; see ``Pool``."""
        from mapreduce_rq.client.pool import Pool  # imports multiprocessing: 15 ms

        return Pool(self, initializer=initializer, initargs=initargs, maxtasksperchild=maxtasksperchild, logs=logs)

    # -- jobs in the background ------------------------------------------------------------------------------------

    def submit(
        self,
        computation: str,
        /,
        *,
        limits: Limits | None = None,
        progress: Progress = None,
        logs: Logs = False,
        **params: Any,
    ) -> Job:
        """Start a job and return at once. ``progress``, ``logs``: see ``map_reduce``.

        Raises UsageError, BrokerError.
        """
        limits, heard = heard_by(logs, limits)
        return self._start(*self.planner.computation(computation, params, limits), progress=progress, heard=heard)

    def submit_function(
        self,
        function: Callable[..., Any] | str,
        items: Iterable[Any],
        *more: Iterable[Any],
        progress: Progress = None,
        logs: Logs = False,
        limits: Limits | None = None,
        wait_workers: float | None = None,
        **how: Any,
    ) -> Job:
        """As ``map_reduce``, but it returns at once. ``how``: its arguments about calls and folding.

        A callable for ``progress`` or ``logs`` is called in a thread of the job.
        """
        only("submit_function", how, SUBMIT_FUNCTION)
        check(wait_workers=wait_workers)
        limits, heard = heard_by(logs, limits)
        plan = self.planner.function(function, items, *more, limits=limits, **how)
        return self._start(*plan, progress=progress, heard=heard, wait_workers=wait_workers)

    def _start(
        self,
        spec: Spec,
        computation: Computation[Any],
        source: Source | None = None,
        *,
        progress: Progress = None,
        heard: Observer | None = None,
        wait_workers: float | None = None,
    ) -> Job:
        from mapreduce_rq.client.job import Job  # with the lists of values that it reads: few programs use it

        def lead(job: Job) -> Master:
            verbs = self.wires.verbs_over(self.wires.borrow())
            return self.leader.master(spec, computation, job, source=source, verbs=verbs, wait_workers=wait_workers)

        return Job(self, spec, lead, seen_by(progress, spec.label), heard)

    # -- jobs that others lead -------------------------------------------------------------------------------------

    def detach(self, spec: Spec, computation: Computation[Any]) -> FoundJob:
        """Queue a job that the planner made, for an `mrq master` to lead. See ``submit_detached``."""
        from mapreduce_rq.client.detached import detach  # few programs use it

        return detach(self, spec, computation)

    def submit_detached(self, computation: str, /, *, limits: Limits | None = None, **params: Any) -> FoundJob:
        """Queue a job for an `mrq master` to lead, and return at once: this process may end.

        Raises UsageError, also on a private server, which ends with this process; BrokerError.
        """
        return self.detach(*self.planner.computation(computation, params, limits))

    def submit_function_detached(
        self, function: Callable[..., Any] | str, items: Iterable[Any], *more: Iterable[Any], **how: Any
    ) -> FoundJob:
        """As ``submit_detached``, for a function of yours; ``how`` as for ``submit_function``.

        Items that are no range travel with the job: all are read first, and must fit into 32 MB.
        """
        only("submit_function_detached", how, FUNCTION)
        spec, computation, _ = self.planner.function(function, items, *more, detached=True, **how)
        return self.detach(spec, computation)

    def job(self, job: str) -> FoundJob:
        """The job with this id, whichever process submitted or leads it. Raises NoSuchJob, BrokerError."""
        if self.job_state(job) is None:
            raise NoSuchJob(f"there is no job {job} on queue {self.keys.name}: see `mrq jobs`")
        from mapreduce_rq.client.found_job import FoundJob  # few programs use it

        return FoundJob(self, job)

    def retry(self, job: str) -> FoundJob:
        """Queue a failed or cancelled job anew, from what it has counted, for an `mrq master` to lead: a new job.

        It goes on from the last checkpoint, which is about a second old; heavy ones are rarer, and ``reduce_by_key`` in
        parts has none. What came after it is computed again, and counted once: only time is lost.

        Raises NoSuchJob; UsageError for a job that runs, is done, or had items that only its client has.
        """
        check(job=job)
        from mapreduce_rq.client.detached import retry  # few programs use it

        return retry(self, job)

    def stand_by(
        self,
        observer: Observer,
        stop: threading.Event,
        may_lead: Callable[[Client, JobState], bool] = lambda _client, _state: True,
        has_ended: Callable[[str], bool] = lambda _: False,
        *,
        at_once: int | None = None,
    ) -> None:
        """Lead every job of the queue that was handed over, or whose master dies or lets go, until ``stop`` is set.

        See ``lead_all``; ``may_lead`` is asked with this client, too.
        """
        from mapreduce_rq.client.adopters import MOST_LED, lead_all  # few programs use it

        may = partial(may_lead, self)
        lead_all(self.leader, observer, stop, may, has_ended, most=MOST_LED if at_once is None else at_once)

    def cancel(self, job: str, *, now: bool = False) -> str:
        """Cancel a job by id and return the state in which it ended. Raises NoSuchJob."""
        check(job=job, now=now)
        with self.wires.verbs() as verbs:
            return cancel(verbs, self.clock, job, now=now, journal=self.leader.events(verbs))

    def job_state(self, job: str) -> JobState | None:
        """What Redis holds of a job, or None."""
        check(job=job)
        with self.wires.verbs() as verbs:
            return verbs.load(job)

    def snapshot(self) -> Snapshot:
        """What is on the queue at one moment, for people. Raises UsageError over pipes: nothing sees them."""
        if self.site.hub is not None:
            raise UsageError(NO_SERVER)
        from mapreduce_rq.broker.snapshot import read_snapshot  # few programs use it

        with self.wires.verbs() as verbs:
            return read_snapshot(verbs.wire, self.keys, self.codecs)


CLIENT = frozenset(Client.__init__.__kwdefaults__ or ())
IMAP = frozenset(Client.imap.__kwdefaults__ or ())
SUBMIT_FUNCTION = FUNCTION | frozenset(Client.submit_function.__kwdefaults__ or ())
REDUCE_BY_KEY = (FUNCTION - FOLDING) | frozenset(Client.reduce_by_key.__kwdefaults__ or ()) | {"reduce"}
"""The named arguments of these functions, also of those that hand them on."""
