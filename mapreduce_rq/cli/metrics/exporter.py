"""The metrics of one queue over HTTP, in the format of Prometheus: `/metrics`, and `/healthz` for probes.

Redis is read when a monitoring system asks, at most once a second. No label is a job's or a worker's name: the number
of series does not depend on what is on the queue.

Beside `mrq worker` and `mrq master` it is a process of its own, forked before the first worker and before any thread:
a supervisor has no time for slow readers, and its workers must not inherit their connections. It ends with them.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from mapreduce_rq.broker.connection import LOOK_SECONDS
from mapreduce_rq.broker.journal import BEGINNING
from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.cli.connect import Place, connect
from mapreduce_rq.cli.listening import address_in, listen_at, port_of
from mapreduce_rq.cli.metrics.readings import (
    Totals,
    backlog,
    checkpoint_age,
    jobs_by_state,
    uncut_tasks,
    workers_by_state,
    workers_wanted,
)
from mapreduce_rq.cli.screen.changes import Changes
from mapreduce_rq.cli.screen.views import LEADERLESS_SECONDS, SILENT_SECONDS, Seen, age_of, silence
from mapreduce_rq.core.job.timeline import BUCKETS
from mapreduce_rq.errors import BadMessage, BrokerError, MrqError, UsageError
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.pool.kernel import die_with_parent
from mapreduce_rq.runtime.worker.wid import hostname

LEAST_SECONDS = 1.0
"""The least seconds between two reads of Redis."""
STUCK_SECONDS = 60.0
"""Seconds. If tasks wait for this time and idle workers take none of them, the workers do not really work."""
USUAL_PORT = "9464"
NO_CLIENT = "metrics need prometheus-client: pip install 'mapreduce-rq[metrics]'"
BUCKET_BITS = range(16, 45)
"""The upper ends of the histogram's buckets, in bits of nanoseconds: from 65 microseconds to 4.9 hours."""

Health = Callable[[Snapshot, Seen], str]
"""It returns what is wrong; '' if nothing is."""


class Look(NamedTuple):
    """One reading of the queue."""

    snapshot: Snapshot
    seen: Seen
    round_trip: float


class Reader:
    """Reads the queue, at most once in LEAST_SECONDS. Each request has a thread; one thread reads at a time."""

    def __init__(self, reach: Callable[[], Place]) -> None:
        self.totals = Totals()
        self._reach = reach
        self._place: Place | None = None
        self._changes = Changes()
        self._lock = threading.Lock()
        self._last: Look | BrokerError | None = None
        self._at = 0.0
        self._after = ""  # the last event that was read

    def look(self) -> Look:
        """The newest reading. Raises BrokerError."""
        with self._lock:
            now = time.monotonic()
            if self._last is None or now - self._at >= LEAST_SECONDS:
                try:
                    self._last = self._read(now)
                except BrokerError as error:
                    self._place, self._last = None, error
                self._at = time.monotonic()
            if isinstance(self._last, BrokerError):
                raise self._last
            return self._last

    def _read(self, now: float) -> Look:
        place = self._place = self._place or self._reach()
        round_trip = place.round_trip()
        snapshot = place.snapshot(self._last.snapshot if isinstance(self._last, Look) else None)
        for job in self.totals.look(snapshot):
            try:
                timeline = place.jobs.timeline(job)
            except BadMessage:
                continue
            if timeline is not None:
                self.totals.ran(timeline)
        self._hear(place)
        return Look(snapshot, Seen(time.time(), self._changes.look(snapshot, now)), round_trip)

    def _hear(self, place: Place) -> None:
        first, after = not self._after, self._after or BEGINNING
        while True:
            last, events, _ = place.journal.read(after)
            if last == after:
                break
            after = last
            if not first:
                self.totals.happened(events)
        self._after = after


class Collector:
    """Makes the families of metrics at each request."""

    def __init__(self, reader: Reader, queue: str) -> None:
        self._reader = reader
        self._queue = queue

    def collect(self) -> Iterator[Any]:
        """All families of metrics; `mrq_up` alone if Redis does not answer."""
        from prometheus_client.core import (  # 60 ms, for those who want metrics
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        def gauge(name: str, text: str, value: float, **labels: str) -> Any:
            family = GaugeMetricFamily(name, text, labels=["queue", *labels])
            family.add_metric([self._queue, *labels.values()], value)
            return family

        def gauges(name: str, text: str, label: str, values: dict[str, int]) -> Any:
            family = GaugeMetricFamily(name, text, labels=["queue", label])
            for word, value in values.items():
                family.add_metric([self._queue, word], value)
            return family

        def counter(name: str, text: str, value: float) -> Any:
            family = CounterMetricFamily(name, text, labels=["queue"])
            family.add_metric([self._queue], value)
            return family

        try:
            look = self._reader.look()
        except BrokerError:
            yield gauge("mrq_up", "Whether Redis answers.", 0)
            return
        snapshot, seen, totals = look.snapshot, look.seen, self._reader.totals
        server = snapshot.server
        yield gauge("mrq_up", "Whether Redis answers.", 1)
        yield gauge("mrq_backlog_tasks", "Tasks waiting, in hand, or not cut yet.", backlog(snapshot))
        yield gauge("mrq_waiting_tasks", "Tasks in the queue.", snapshot.waiting)
        yield gauge("mrq_in_hand_tasks", "Tasks that workers have taken.", snapshot.in_flight)
        yield gauge(
            "mrq_uncut_tasks",
            "Tasks that running jobs will be cut into, at the present size.",
            sum(map(uncut_tasks, snapshot.jobs)),
        )
        yield gauge("mrq_workers_wanted", "Workers that would end the known work in 30 s.", workers_wanted(snapshot))
        yield gauges("mrq_workers", "Workers by state.", "state", workers_by_state(snapshot, seen))
        yield gauges(
            "mrq_jobs", "Of the newest 200 jobs and all with a master, by state.", "state", jobs_by_state(snapshot)
        )
        age = checkpoint_age(snapshot, seen)
        if age is not None:
            yield gauge("mrq_checkpoint_age_seconds", "Age of the oldest checkpoint of a running job.", age)
        yield counter("mrq_terms", "Terms counted.", totals.terms)
        yield counter("mrq_tasks", "Answers counted.", totals.tasks)
        yield counter("mrq_replies", "Answers, counted or not.", totals.tasks + totals.duplicates)
        yield counter("mrq_duplicates", "Answers that came twice, and were counted once.", totals.duplicates)
        yield counter("mrq_dropped", "Replies that were forged or malformed.", totals.dropped)
        yield counter("mrq_workers_lost", "Workers lost while jobs ran, each once.", totals.lost)
        yield counter("mrq_retries", "Jobs that were queued anew.", totals.events["retried"])
        events = CounterMetricFamily(
            "mrq_events",
            "Events of jobs, as in `mrq events`: each job that runs tells of a worker that is lost.",
            labels=["queue", "what"],
        )
        for what, times in sorted(totals.events.items()):
            events.add_metric([self._queue, what.replace(" ", "_")], times)
        yield events
        histogram = HistogramMetricFamily(
            "mrq_task_seconds", "How long tasks took, of jobs that have ended.", labels=["queue"]
        )
        histogram.add_metric([self._queue], _buckets(totals.buckets), totals.task_seconds)
        yield histogram
        yield gauge("mrq_redis_round_trip_seconds", "How far away Redis is.", look.round_trip)
        if server.told:
            yield gauge("mrq_redis_memory_bytes", "Memory that Redis uses.", server.used_memory)
            yield gauge("mrq_redis_memory_limit_bytes", "maxmemory; 0: none.", server.maxmemory)
            yield gauge("mrq_redis_clients", "Connections to Redis.", server.clients)
        yield gauge("mrq_redis_info", "Which server it is.", 1, product=server.product, version=server.version)


def _buckets(found: list[int]) -> list[tuple[str, float]]:
    """Cumulative counts by upper end in seconds."""
    rows: list[tuple[str, float]] = []
    below = sum(found[: BUCKET_BITS.start])
    for bits in BUCKET_BITS:
        below += found[bits]
        rows.append((f"{2**bits / 1e9:.6g}", below))
    return [*rows, ("+Inf", sum(found[:BUCKETS]))]


# -- health ------------------------------------------------------------------------------------------------------------


def workers_of(supervisor: int, clock: Callable[[], float] = time.monotonic) -> Health:
    """Whether the workers of a supervisor on this host work: they beat, and do not stay idle while tasks wait."""
    host = hostname()
    since: list[Any] = [None, clock()]  # what they had done when that last changed, and when

    def check(snapshot: Snapshot, seen: Seen) -> str:
        ours = [
            one
            for one in snapshot.workers
            if one.beat is not None and one.beat.host == host and _parent(one.beat.pid) == supervisor
        ]
        if not any((age_of(one, seen) or 0.0) <= SILENT_SECONDS for one in ours):
            return "none of its workers has given a sign of life"
        done = sum(one.beat.done for one in ours if one.beat is not None)
        busy = any(one.beat is not None and one.beat.state == "busy" for one in ours)
        if busy or not snapshot.waiting or done != since[0]:
            since[:] = [done, clock()]
        stuck = clock() - since[1]
        return f"tasks wait, and its workers have taken none for {stuck:.0f} s" if stuck > STUCK_SECONDS else ""

    return check


def master_in(process: str) -> Health:
    """Whether a process, ``user@host:pid``, still leads the jobs that it has."""

    def check(snapshot: Snapshot, seen: Seen) -> str:
        for job in snapshot.jobs:
            if job.leader == process and silence(job, seen) >= LEADERLESS_SECONDS:
                return f"no sign of its master of {job.job} for {silence(job, seen):.0f} s"
        return ""

    return check


def well(_snapshot: Snapshot, _seen: Seen) -> str:
    """The health of a process that only reads: it has read, so it is well."""
    return ""


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


# -- the server --------------------------------------------------------------------------------------------------------


class _Quiet(WSGIRequestHandler):
    timeout = 10.0  # seconds that a client may be silent

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing: probes come every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: most errors are those of a client that closed its connection."""


def listen(option: str, text: str) -> socket.socket:
    """A listening socket at ``PORT`` or ``HOST:PORT``; without a host: of all interfaces.

    Raises BadParameter, UsageError where prometheus-client is missing, CannotWrite where the port is taken.
    """
    if find_spec("prometheus_client") is None:
        raise UsageError(f"{option}: {NO_CLIENT}")
    return listen_at(option, text, *address_in(option, text, USUAL_PORT))


def serve(listening: socket.socket, reach: Callable[[], Place], queue: str, health: Health) -> None:
    """Answer until the process ends."""
    from prometheus_client import CollectorRegistry, make_wsgi_app  # 60 ms, for those who want metrics

    reader = Reader(reach)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Undescribed(Collector(reader, queue)))
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        if path != "/healthz":
            start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"/metrics or /healthz\n"]
        try:
            look = reader.look()
            wrong = health(look.snapshot, look.seen)
        except MrqError as error:
            wrong = " ".join(str(error).split())
        start("503 Service Unavailable" if wrong else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{wrong or 'ok'}\n".encode()]

    server = _Server(("", 0), _Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.server_name, server.server_port = "mrq", port_of(listening)
    server.setup_environ()
    server.set_app(application)
    server.serve_forever()


class _Undescribed:
    """A collector that is not asked for its metrics when it is registered: Redis may not be there yet."""

    def __init__(self, collector: Collector) -> None:
        self.collect = collector.collect

    def describe(self) -> list[Any]:
        """Nothing."""
        return []


def serve_beside(listening: socket.socket, url: str, queue: str, key_file: str | None, health: Health) -> None:
    """Serve in a process of its own, which ends with this one. Before it there may be no thread and no connection."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it may be closed
            stream.flush()
    parent = os.getpid()
    if os.fork():
        listening.close()  # workers must not hold the port
        return
    import signal  # here and not above: only the child changes what signals do

    try:
        # A signal to the whole group is for its parent, which may take its time; and it ends when its parent has ended.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.setpgid(0, 0)
        die_with_parent(parent)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        serve(listening, lambda: connect(url, queue, key_file, within=LOOK_SECONDS), queue, health)
    finally:
        os._exit(70)


def _end_with(parent: int) -> None:
    """End when the parent has ended, on systems whose kernel does not do that for us."""
    clock = Clock()
    while os.getppid() == parent:
        clock.sleep(1.0)
    os._exit(0)
