"""One job with its master, standby, supervisor and workers as threads of this process, on a real server.

The code is the real one: Client, Master, Standby, Pool, Worker. Made here is only what the kernel does for processes:
starting, ending, telling the supervisor of a death. Clocks run SPEED times as fast, so that a takeover takes half a
second. Threads can be killed and paused only where they talk to Redis or compute: at the places that ``hook`` hears of.
"""

from __future__ import annotations

import queue as queues
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch

from mapreduce_rq.broker.connection import Endpoint, parse_url
from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.journal import MAX_EVENTS
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.client.client import Client
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job import chunking as pace
from mapreduce_rq.core.job.record import Done, Report
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.messages import Limits, Spec
from mapreduce_rq.core.reducers import shuffle
from mapreduce_rq.core.reducers.keyed import by_key
from mapreduce_rq.errors import BrokerDown, MrqError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master import bodies, owning
from mapreduce_rq.runtime.master.cancel import cancel
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.standby import Standby
from mapreduce_rq.runtime.pool.by_redis import ByRedis
from mapreduce_rq.runtime.pool.child import Child
from mapreduce_rq.runtime.pool.post import Post
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.supervisor import TICK_SECONDS, Pool
from mapreduce_rq.runtime.worker.prepare import Preparer
from mapreduce_rq.runtime.worker.slate import Slate
from mapreduce_rq.runtime.worker.worker import Worker
from tests.chaos.wires import Killed, Watched
from tests.support.servers import RealServer
from tests.support.stage import until
from tests.support.terms import MODULE, fingerprint, fingerprint_by_key, total, totals_by_key

SPEED = 20.0
TERMS = 100
TERM_SECONDS = 0.002  # of real time, so that there is time for looks and leases
INLINE_SPEC_TASKS, WINDOW = 2, 16
"""Fewer than usual: messages of which every byte is a place should be short, and tasks be pushed more than once."""
KEY = b"k" * 32
FIRST_PID = 1 << 23  # above any pid that Linux gives out

Hook = Callable[[str, str, str], None]
"""Called with an actor, a verb's name and ``before`` or ``after``."""


class FastClock(Clock):
    """Clocks that run SPEED times as fast."""

    def now(self) -> float:
        return time.monotonic() * SPEED

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / SPEED)


class Quiet:
    """An observer that remembers what was noticed."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def progressed(self, report: Callable[[], Report]) -> None:
        """Not of interest."""

    def noticed(self, text: str) -> None:
        self.notices.append(text)


class Crew(Pool):
    """A supervisor and its workers as threads."""

    def __init__(self, arena: Arena, name: str, size: int) -> None:
        settings = PoolSettings(arena.endpoint, arena.client.keys.name, arena.client.keyring, size)
        super().__init__(settings, ByRedis, arena.clock)
        self.name = name
        self._arena = arena
        wire: Any = arena.wire(f"{name}")
        self._speak_on(name, [Post(wire, arena.client.keys, arena.client.codecs)])
        self._workers: dict[int, Worker] = {}
        self._news: queues.SimpleQueue[tuple[int, int]] = queues.SimpleQueue()
        self._born = 0
        self.leaving = False
        self.unheard = False  # it was cut off as it left, and does not wait for the server
        self.lost = False  # the whole host is gone: nobody speaks for the workers any more
        self.thread = arena.start(name, self.live)

    def live(self) -> None:
        """Supervise; killed, it is a lost host, and another takes its place."""
        try:
            self.supervise()
        except Killed:
            self.lose()
            self._arena.crew(f"{self.name}-next", self.size)
            raise

    def supervise(self) -> None:
        """As Pool.run, without its signals."""
        while (self._children or self._reporter.buried or not self._over()) and not self.lost:
            if not self._over():
                self._spawn_missing()
            if (self.leaving or self._arena.closing) and not self._stopping:
                self._signalled(signal.SIGTERM)
            self._bury()
            self._reporter.report(self._children, stopping=bool(self._stopping))
            time.sleep(TICK_SECONDS / SPEED)
        self.unheard = not self._reporter.connected
        wire: Any = self._posts[0].wire
        wire.close()

    def beat_soon(self) -> None:
        """Speak for the workers at the next look at them."""
        self._reporter.hurry()

    def worker(self, number: int) -> Worker:
        """The worker born as the ``number``-th, from 0."""
        return self._workers[FIRST_PID + number]

    def _spawn(self) -> None:
        pid = FIRST_PID + self._born
        actor = f"{self.name}.{self._born}"
        self._born += 1
        wid = f"{self.name}:{pid}:{self.clock.random(8).hex()}"
        slate = Slate()
        wire: Any = self._arena.wire(actor)
        tasks = Tasks(wire, self._arena.client.keys, self._arena.client.codecs)
        worker = Worker(wid, tasks, self.clock, slate, prepare=self._arena.preparer(actor))
        self._workers[pid] = worker
        self._children[pid] = Child(wid, pid, slate, self.clock.now())
        self._reporter.hurry()

        def live() -> None:
            status = signal.SIGKILL.value
            try:
                worker.run()
                status = 0
            finally:
                self._news.put((pid, status))

        self._arena.start(actor, live)

    def _bury(self) -> None:
        while not self._news.empty():
            pid, status = self._news.get()
            self._died(self._children.pop(pid), status)

    def _tell(self, child: Child) -> None:
        child.told += 1
        self._workers[child.pid].stopping = True

    def stopped(self, number: int, *, stopped: bool) -> None:
        """Learn of a worker what the kernel says when it is stopped, or goes on."""
        child = self._children.get(FIRST_PID + number)
        if child is not None:
            child.stopped = stopped

    def lose(self) -> None:
        """The whole host is gone: nobody speaks for the workers, and they come no further than their next place."""
        self.lost = True


class Arena:
    """Everything there is of one job. ``routes``: for an actor another socket than the server's, such as a proxy's."""

    def __init__(
        self,
        server: RealServer,
        queue: str,
        hook: Hook,
        *,
        routes: dict[str, str] | None = None,
        terms: int = TERMS,
        laid: bool = False,
    ) -> None:
        self.server = server
        self.endpoint: Endpoint = parse_url(server.url)
        self.clock = FastClock()
        self.hook = hook
        self.terms = terms
        self.laid = laid
        self.observer = Quiet()
        self.errors: list[BaseException] = []  # that nobody is meant to see
        self.queue = queue
        self._routes = routes or {}
        self._heirs = 0
        self._cancelled = ""  # what the canceller was told
        self._dead: set[str] = set()
        self._came: Counter[tuple[str, str]] = Counter()
        self._master: Master | None = None
        self._clients: list[Client] = []
        self._threads: list[threading.Thread] = []
        self._watchers: list[Standby] = []
        self.closing = False
        self._smaller = ExitStack()
        self.before: set[str] = set()  # crews of earlier times, which are gone
        self.crews: list[Crew] = []
        self._raw = server.client()
        self.client = self._client("master")
        function, reduce = (fingerprint_by_key, by_key("int_sum", parts=2)) if laid else (fingerprint, "int_sum")
        self.spec, self.computation, _ = self.client.planner.function(
            f"{MODULE}:{function.__name__}", range(terms), reduce=reduce, limits=Limits(chunk=1, keep=3600)
        )
        self.job = self.spec.job

    def wire(self, actor: str) -> Watched:
        """A wire for an actor."""
        socket = self._routes.get(actor, self.endpoint.path)
        endpoint = Endpoint(path=socket, password=self.endpoint.password)
        return Watched(RedisWire(endpoint), lambda name, when: self._met(actor, name, when), SPEED)

    def _met(self, actor: str, verb: str, when: str) -> None:
        if when == "before":
            self._came[actor, verb] += 1
        self.hook(actor, verb, when)
        crew = self._crew_of(actor)
        if crew is not None and crew.lost:
            raise Killed

    def _crew_of(self, actor: str) -> Crew | None:
        name = actor.partition(".")[0]
        return next((crew for crew in self.crews if crew.name == name), None)

    def preparer(self, actor: str) -> Callable[[Spec], Computation[Any]]:
        """What makes computations for a worker: their ``map`` is a place as well, called ``compute``."""
        prepare = Preparer(Trust(signed=True))

        def prepared(spec: Spec) -> Computation[Any]:
            made = prepare(spec)

            def watched(map_: Callable[[int, int], Any]) -> Any:
                def mapped(lo: int, hi: int) -> Any:
                    self._met(actor, "compute", "before")
                    time.sleep(TERM_SECONDS * (hi - lo))
                    found = map_(lo, hi)
                    self._met(actor, "compute", "after")
                    return found

                return mapped

            made.map_encoded = watched(made.map_encoded)  # type: ignore[method-assign]
            made.map = watched(made.map)  # type: ignore[method-assign]  # of one term the other does not come here
            return made

        return prepared

    def start(self, name: str, body: Callable[[], object]) -> threading.Thread:
        """A thread that may be killed."""

        def run() -> None:
            try:
                body()
            except Killed:
                self._dead.add(name)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def crew(self, name: str, size: int) -> Crew:
        """A supervisor with workers."""
        self.crews.append(Crew(self, name, size))
        return self.crews[-1]

    def lead(self, *, heirs: bool = True) -> None:
        """Submit the job and lead it. An heir stands by for it when that is killed."""
        self._master = self.client.leader.master(self.spec, self.computation, self.observer)

        def live() -> None:
            self._connect(self.client)
            assert self._master is not None
            self.client.leader.lead(self._master)

        self.start("master", lambda: self._or_stand_by(live) if heirs else live())

    def let_go(self) -> None:
        """Have the master let go of the job."""
        assert self._master is not None
        self._master.stop = True

    def stopped(self, actor: str, *, stopped: bool) -> None:
        """Somebody was stopped, or goes on; a worker's supervisor is told."""
        crew = self._crew_of(actor)
        if crew is not None and crew.name != actor:
            crew.stopped(int(actor.partition(".")[2]), stopped=stopped)

    def over(self) -> bool:
        """Whether the job has ended."""
        return self._raw_state() not in {"", "running"}

    def died(self, actor: str) -> bool:
        """Whether somebody has been killed."""
        return actor in self._dead

    def met(self, actor: str, verb: str) -> int:
        """How often somebody has come to a verb."""
        return self._came[actor, verb]

    def stand_by(self, name: str = "standby") -> None:
        """Follow the job until it is over, leading it if need be. An heir does when that is killed."""
        client = self._client(name)

        def watch(whom: object) -> None:
            if isinstance(whom, Standby):
                self._watchers.append(whom)
                if self.closing:
                    whom.stop = True

        def live() -> None:
            until(self._raw_state, 20, "the job is there")
            self._connect(client)
            client.leader.follow(self.job, self.observer, watch)

        self.start(name, lambda: self._or_stand_by(live))

    def cancel(self) -> None:
        """Cancel the job, from an actor of its own; killed or cut, once more."""

        def live() -> None:
            while True:
                client = self._client("canceller")
                try:
                    client.verbs.wire.connect()
                    self._cancelled = cancel(client.verbs, self.clock, self.job)
                    break
                except (MrqError, Killed):
                    pass

        self.start("canceller", live)

    def state(self) -> JobState | None:
        """The job as it stands."""
        wire = RedisWire(self.endpoint)
        wire.connect()
        try:
            return Jobs(wire, self.client.keys, self.client.codecs).load(self.job)
        finally:
            wire.close()

    def names(self) -> set[str]:
        """What there is of the queue's keys, without their prefix and without the job's id."""
        keys = self.client.keys
        found: list[bytes] = self._raw.execute_command("KEYS", keys.prefix.replace("{", "\\{") + "*")
        return {name.decode().removeprefix(keys.prefix).replace(self.job, "JOB") for name in found}

    def finish(self, seconds: float = 30.0, *, state: str = "done") -> None:
        """Wait for the job's end and for the workers to have nothing left, and check that all is as it should be.

        A cancel may come too late, and the job be done; but then whoever cancels must have been told.
        """
        until(self.over, seconds, f"the job over; noticed: {self.observer.notices}")
        until(lambda: not self._in_hands(), seconds, "nothing in any hand")
        self.close()
        assert self.errors == [], self.errors
        found = self.state()
        assert found is not None
        assert found.state == (self._cancelled or state), f"{found.state}, and the canceller heard {self._cancelled!r}"
        if found.state == "done":
            assert isinstance(found.record, Done)
            assert self._value(found) == (totals_by_key(self.terms) if self.laid else total(self.terms))
            assert found.record.skipped == []
        # An obituary stays until some later master strikes it off; the sign of life of a killed master stays, too.
        left = {name for name in self.names() if name[:2] != "f:"}
        assert left <= {"J", "j:JOB", "w", "m", "e", "v:JOB"}, left
        assert self._raw.xlen(self.client.keys.events) <= MAX_EVENTS
        assert self._raw.ttl(self.client.keys.values(self.job)) != -1, "what tells of the end stays for ever"
        assert not self._in_hands()
        for wid, beat in self.entries().items():
            assert (
                beat.startswith(b"X:")
                or any((crew.lost or crew.unheard) and wid.startswith(crew.name.encode()) for crew in self.crews)
                or wid.startswith(tuple(name.encode() for name in self.before))
            )

    def _value(self, found: JobState) -> Any:
        """The value of the job, also if its record is too small for it: as others make it, of its checkpoint."""
        assert isinstance(found.record, Done)
        if not self.laid:
            return int(found.record.value or "")
        assert found.checkpoint is not None
        reducer = self.computation.reducer
        tally = Tally.restore(reducer, found.checkpoint.runs, found.checkpoint.parts)
        return dict(reducer.describe(tally.prefix()[1]).native)

    def close(self) -> None:
        """Let everybody go, and whoever still comes in place of somebody killed on leaving."""
        self.closing = True
        for watcher in self._watchers:
            watcher.stop = True
        deadline = time.monotonic() + 20
        for thread in self._threads:  # which may become more
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} does not end"

    def __enter__(self) -> Self:
        self._smaller.enter_context(patch.object(owning, "INLINE_SPEC_TASKS", INLINE_SPEC_TASKS))
        self._smaller.enter_context(patch.object(pace, "FIRST_WINDOW", WINDOW))
        self._smaller.enter_context(patch.object(pace, "QUICK_WINDOW", WINDOW))
        if self.laid:
            self._smaller.enter_context(patch.object(shuffle, "LEAST_BYTES", 1))
            self._smaller.enter_context(patch.object(bodies, "APART_BYTES", 1))
        return self

    def __exit__(self, *_: object) -> None:
        self._smaller.close()
        for client in self._clients:
            client.close()
        self._raw.close()

    def entries(self) -> dict[bytes, bytes]:
        """The registered workers and their beats or obituaries."""
        found: dict[bytes, bytes] = self._raw.execute_command("HGETALL", self.client.keys.workers)
        return found

    def _in_hands(self) -> set[str]:
        """The queue and the hands that are not empty; those of lost hosts are for a later master."""
        gone = tuple(f"f:{name}:" for name in [*self.before, *(crew.name for crew in self.crews if crew.lost)])
        return {name for name in self.names() if name == "q" or (name[:2] == "f:" and not name.startswith(gone))}

    def _raw_state(self) -> str:
        found: bytes | None = self._raw.execute_command("HGET", self.client.keys.job(self.job), "state")
        return (found or b"").decode()

    def computed(self) -> int:
        """How many terms have been begun, by anybody."""
        return sum(count for (_, verb), count in list(self._came.items()) if verb == "compute")

    def _connect(self, client: Client) -> None:
        while True:
            try:
                client.verbs.wire.connect()
                return
            except BrokerDown:
                pass

    def _or_stand_by(self, live: Callable[[], object]) -> None:
        try:
            live()
        except Killed:
            self._heirs += 1
            self.stand_by(f"heir {self._heirs}")

    def _client(self, actor: str) -> Client:
        made = Client(self.server.url, queue=self.queue, keys=[KEY])
        made.verbs.wire.close()
        made.clock = made.leader.clock = self.clock
        wire: Any = self.wire(actor)
        made.wires.own = Jobs(wire, made.keys, made.codecs)
        self._clients.append(made)
        return made
