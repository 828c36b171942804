"""Reports to Redis for a supervisor's workers: which died, which live; and reads which jobs are cancelled.

A worker cannot beat for itself: one that is stuck in C code lives, but could not beat; and one that is stopped could
not say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from mapreduce_rq.broker.jobs import STRIKE_OFF
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.fleet.give_back import given_back
from mapreduce_rq.core.fleet.obituary import Obituary, jobs_of
from mapreduce_rq.core.messages import Beat
from mapreduce_rq.errors import BrokerError
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.pool import kernel
from mapreduce_rq.runtime.pool.child import Child
from mapreduce_rq.runtime.pool.post import Post
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.systemd import Notifier
from mapreduce_rq.runtime.worker.probe import identity
from mapreduce_rq.runtime.worker.slate import Away, Doing
from mapreduce_rq.version import __version__

log = logging.getLogger("mapreduce_rq.pool")

BEAT_SECONDS = 3.0
RETRY_SECONDS = 0.25
"""Seconds after which a report is tried again if Redis does not answer."""
WATCH_SECONDS = 1.0
"""Seconds between two checks of busy workers' jobs for ``cancel --now``."""


class Reporter:
    """Reports for the workers of one host at its posts. ``kill`` ends a worker whose job was cancelled."""

    def __init__(
        self,
        settings: PoolSettings,
        host: str,
        clock: Clock,
        posts: Sequence[Post],
        *,
        kill: Callable[[Child, str], None],
        notifier: Notifier | None = None,
    ) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._posts = posts
        self._kill = kill
        self._notifier = notifier

    @property
    def connected(self) -> bool:
        """Whether the last report on one of the queues succeeded."""
        return any(post.connected for post in self._posts)

    @property
    def away(self) -> Away | None:
        """The error on a queue, until a report there succeeds again."""
        return next((post.away for post in self._posts if post.away is not None), None)

    @property
    def buried(self) -> bool:
        """Whether a death is not yet reported on each queue."""
        return any(post.buried for post in self._posts)

    def bury(self, child: Child, why: str, *, blame: bool) -> None:
        """Have a death reported next time. ``blame``: the task in its hand may be the reason."""
        for post in self._posts:
            post.buried.append((child, why, blame))

    def hurry(self) -> None:
        """Beat at the next report."""
        for post in self._posts:
            post.beat_at = 0.0

    def report(self, children: Mapping[int, Child], *, stopping: bool) -> None:
        """Tell Redis which workers died and which live, and read which jobs must be dropped at once."""
        now = self._clock.now()
        beats: dict[str, Beat] = {}
        for post in self._posts:
            if not post.due(now):
                continue
            try:
                post.connect()
                while post.buried:
                    self._give_back(post, *post.buried[0])
                    del post.buried[0]
                if now >= post.beat_at:
                    beats = beats or self._beats(children)
                    post.tasks.beat({wid: post.tasks.codecs.beat.at(wid).seal(beat) for wid, beat in beats.items()})
                    if self._notifier is not None:
                        self._notifier.ready()
                    post.beat_at = now + BEAT_SECONDS
                if now >= post.watch_at:
                    post.watch_at = now + WATCH_SECONDS
                    self._drop_cancelled(post.tasks, children)
                post.lost_hosts.look(now)
                post.away = None
            except BrokerError as error:
                log.debug("%s", error)
                post.away = post.away or Away(now, str(error))
                post.failed(now + RETRY_SECONDS)
                if stopping and not children:  # otherwise there is time to try again
                    post.buried.clear()  # a master gives back their tasks when their beats have stopped

    def _give_back(self, post: Post, child: Child, why: str, blame: bool) -> None:
        doing = child.slate.read()
        in_hand = (doing.job, doing.lo, doing.hi) if blame and doing.busy else None
        address = f"{self._host}:{child.pid}"
        name = self._settings.name
        reason = f"{why} ({f'{name}:{child.pid} on {self._host}' if name else address})"
        # A worker that dies outside of any task (its reply was too large for this host) would die again and again with
        # the same tasks in hand: so one of them is blamed.
        held = post.tasks.in_hand(child.wid)[::-1]
        obituary = str(Obituary(reason, jobs_of(post.tasks.codecs, held))) if why else STRIKE_OFF
        moves = given_back(post.tasks.codecs, held, in_hand, reason, guess=blame and not doing.busy)
        post.jobs.reap(child.wid, obituary, moves)

    def _beats(self, children: Mapping[int, Child]) -> dict[str, Beat]:
        now = self._clock.now()
        beats: dict[str, Beat] = {}
        for child in children.values():
            if child.stopped:
                continue
            doing = child.slate.read()
            rate = (doing.done - child.done) / (now - child.beat_at) if child.beat_at else 0.0
            child.beats += 1
            spent = kernel.cpu_seconds(child.pid)
            cpu = (spent - child.cpu) / (now - child.beat_at) if child.beat_at and spent >= child.cpu >= 0 else -1.0
            child.done, child.beat_at, child.cpu = doing.done, now, spent
            beats[child.wid] = self._beat_of(child, doing, rate, cpu)
        return beats

    def _beat_of(self, child: Child, doing: Doing, rate: float, cpu: float) -> Beat:
        return Beat(
            count=child.beats,
            host=self._host,
            pid=child.pid,
            name=self._settings.name or f"{self._host}:{child.pid}",
            state="busy" if doing.busy else "idle",
            job=doing.job,
            lo=doing.lo,
            hi=doing.hi,
            seconds=round(doing.seconds, 3),
            done=doing.done,
            rate=round(rate, 3),
            rss=kernel.rss(child.pid),
            version=__version__,
            probe=f"{identity()} {doing.numerics}".rstrip()
            if child.beats > 1
            else "",  # takes 40 ms, once, and not at the start
            kid=self._settings.keyring.kid,
            at=self._clock.wall(),
            cpu=round(cpu, 3),
            refuses=doing.refuses,
        )

    def _drop_cancelled(self, tasks: Tasks, children: Mapping[int, Child]) -> None:
        busy = {}
        for child in children.values():
            doing = child.slate.read()
            if doing.busy and doing.seconds > WATCH_SECONDS / 2:
                busy[child.pid] = doing
        if not busy:
            return
        names = sorted({doing.job for doing in busy.values()})
        dropped = set(tasks.cancelled_now(names))
        for pid, doing in busy.items():
            child = children[pid]
            if doing.job in dropped and child.slate.read().begun == doing.begun:
                self._kill(child, f"{doing.job} was cancelled")
