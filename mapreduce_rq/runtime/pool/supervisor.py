"""The supervisor: a process that forks workers, replaces dead ones, and beats for all of them.

Its duties, in order, four times a second and each time that a signal or a death wakes it:

1. Reap children. The tasks of a dead child go back to the queue at once, and the task it had in hand is blamed; an
   obituary in Redis tells all other processes. A stopped child (SIGSTOP) gets no more beats.
2. Kill children whose task is over its time, or whose job was cancelled with ``--now``; have those whose task turned
   out to be long answer the part that they have.
3. Fork until the wanted number of children is there.
4. Every BEAT_SECONDS write a sign of life for each child that runs. A child stuck in C code could not do so itself.
5. From time to time, give back the tasks that lost hosts have left (see lost_hosts.py).

Signals: TERM or INT once: children finish their task in hand, give the rest back and leave; twice: they give everything
back at once. QUIT: kill. TTIN/TTOU: one worker more, one fewer. HUP: replace all, one after another. USR1: log what
each worker does, with its Python stacks; on USR2 a worker writes these (by faulthandler) to a pipe. USR2 does nothing
to a supervisor. Each signal is logged.

The supervisor has no threads and never computes, so forking from it is safe. A worker has one thread beside its own,
which waits for a message of the supervisor.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.pool.child import Child
from mapreduce_rq.runtime.pool.cores import usable_cores
from mapreduce_rq.runtime.pool.doings import Doings
from mapreduce_rq.runtime.pool.forking import BOOT_FAILED, Forker
from mapreduce_rq.runtime.pool.kernel import rss
from mapreduce_rq.runtime.pool.outage import Outage
from mapreduce_rq.runtime.pool.post import Post
from mapreduce_rq.runtime.pool.reporter import Reporter
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.signals import HURRY, SIGNALS
from mapreduce_rq.runtime.pool.systemd import Notifier
from mapreduce_rq.runtime.pool.way import Way, WayTo
from mapreduce_rq.runtime.worker.wid import hostname

log = logging.getLogger("mapreduce_rq.pool")

TICK_SECONDS = 0.25
LONG_SECONDS = 0.4
"""Seconds after which a task of several terms is answered in part, and other workers do the rest: twice the time that a
task should take. Other tasks and answers of the same worker do not wait for its end, either."""
QUICK_DEATH_SECONDS = 1.0
MAX_RESPAWN_SECONDS = 5.0
CANNOT_START = 71
"""Exit code of a pool whose first worker could not be forked (EX_OSERR)."""


class Pool:
    """Runs workers until told to stop, or until all have left a burst."""

    def __init__(
        self, settings: PoolSettings, way: WayTo, clock: Clock | None = None, *, notifier: Notifier | None = None
    ) -> None:
        self._notifier = notifier
        self.settings = settings
        self.clock = clock or Clock()
        self.size = settings.size
        self._way: Way = way(settings.endpoint)
        queues = (settings.queue, *settings.also)
        posts = [Post(self._way.wire(queue), Keys(queue), Codecs(queue, settings.keyring)) for queue in queues]
        self._speak_on(hostname(), posts)
        self._children: dict[int, Child] = {}
        self._retire: list[Child] = []  # workers to replace, one after another (HUP)
        self._retiring: Child | None = None  # the one of these that was told to end
        self._stopping = 0
        self._exit_code = 0
        self._respawn_at = 0.0
        self._quick_deaths = 0
        self._begun = -1  # tasks done by all children at the last look
        self._worked_at = self.clock.now()
        self._doings = Doings(self.clock)
        self._outage = Outage(private=bool(settings.shelf))

    def _speak_on(self, host: str, posts: Sequence[Post]) -> None:
        """Fork workers for these queues, and report for them."""
        self._posts = posts
        self._forker = Forker(self.settings, self._way, host, self.clock, posts=posts)
        self._reporter = Reporter(self.settings, host, self.clock, posts, kill=self._kill, notifier=self._notifier)

    def run(self, ready: Callable[[], None] | None = None) -> int:
        """Supervise, and return the exit code: 0, or 78 if workers could not begin. It installs signal handlers, so
        call it in the main thread.
        """
        awake, waker = socket.socketpair()
        awake.setblocking(False)
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the process that started us may have blocked them
        self._spawn_missing()
        if ready is not None:
            ready()
        while self._children or self._reporter.buried or not self._over():
            readable, _, _ = select.select([awake.fileno(), *self._way.watched()], [], [], TICK_SECONDS)
            if self._way.over():  # the client has ended, so this pool ends
                self._signalled(signal.SIGQUIT)
                self._way.close()
            if awake.fileno() in readable:
                for raised in awake.recv(4096):
                    self._signalled(signal.Signals(raised))
            if self._notifier is not None:
                self._notifier.turned(self.clock.now(), f"{len(self._children)} of {self.size} workers")
            self._bury()
            self._enforce()
            self._doings.tell_stacks(self._children.values())
            self._leave_if_idle()
            self._reporter.report(self._children, stopping=bool(self._stopping))
            slates = (child.slate for child in self._children.values())
            if text := self._outage.look(self.clock.now(), slates, self._reporter.away):
                log.warning("%s", text)
            if not self._over():
                self._spawn_missing()
            if self._over() and not self._children and not self._reporter.connected:
                break
        signal.set_wakeup_fd(-1)
        awake.close()
        waker.close()
        for post in self._posts:
            post.wire.close()
        self._way.clear_away(self.settings.shelf)
        return self._exit_code

    def _over(self) -> bool:
        return bool(self._stopping) or self._exit_code != 0 or (self.settings.burst and self.size <= 0)

    # -- signals ---------------------------------------------------------------------------------------------------

    def _signalled(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if not self._stopping:
                log.info("stopping: workers finish the task in hand; again: they give it back at once")
            else:
                log.info("%s: workers give back what they have in hand, at once", number.name)
            self._stop()
        elif number == signal.SIGQUIT:
            self._stopping = 2
            if self._children:
                log.info("QUIT: %d killed", len(self._children))
            for child in self._children.values():
                child.why = "its supervisor was told to quit"
                os.kill(child.pid, signal.SIGKILL)
        elif number == signal.SIGTTIN:
            self.size += 1
            log.info("TTIN: one worker more: %d", self.size)
        elif number == signal.SIGTTOU and self.size <= 1:
            log.info("TTOU: one worker is the least; TERM ends all")
        elif number == signal.SIGTTOU:
            self.size -= 1
            log.info("TTOU: one worker fewer: %d; it finishes its task in hand", self.size)
            youngest = max(self._children.values(), key=lambda child: (not child.told, child.born), default=None)
            if youngest is not None:
                self._tell(youngest)
        elif number == signal.SIGHUP:
            self._retire = [child for child in self._children.values() if not child.told]
            log.info("HUP: %d to be replaced, one after another, each after its task", len(self._retire))
            if self._retiring is None:
                self._retire_next()
        elif number == signal.SIGUSR1:
            log.info("USR1: %d of %d there", len(self._children), self.size)
            self._doings.tell(self._children.values())
        elif number == signal.SIGUSR2:
            log.info("USR2: does nothing; USR1 logs what each worker does")

    def _tell(self, child: Child) -> None:
        child.told += 1
        os.kill(child.pid, signal.SIGTERM if child.told == 1 else HURRY)
        if child.stopped:
            os.kill(child.pid, signal.SIGCONT)

    def _retire_next(self) -> None:
        while self._retire:
            child = self._retire.pop()
            if child.pid in self._children:
                self._retiring = child
                self._tell(child)
                return
        if self._retiring is not None:
            self._retiring = None
            log.info("HUP: all that were there then have ended")

    # -- children --------------------------------------------------------------------------------------------------

    def _spawn_missing(self) -> None:
        if self.clock.now() < self._respawn_at:
            return
        while (there := sum(not child.told or bool(child.over) for child in self._children.values())) < self.size:
            try:
                self._spawn()
            except OSError as error:  # no descriptors, no processes or no memory left
                log.warning("cannot start worker %d of %d: %s (ulimit -u, -n)", there + 1, self.size, error.strerror)
                self._respawn_at = self.clock.now() + MAX_RESPAWN_SECONDS
                self._exit_code = 0 if self._children else CANNOT_START
                return

    def _spawn(self) -> None:
        child = self._forker.fork(self._children.values())
        self._children[child.pid] = child
        self._reporter.hurry()  # it is announced at once

    def _bury(self) -> None:
        """Notice workers that died, stopped or went on."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.get(pid)
            if child is None:
                continue
            if os.WIFSTOPPED(status):
                child.stopped = True
                log.warning("worker %s is stopped (%s): not vouched for", pid, signal.Signals(os.WSTOPSIG(status)).name)
            elif os.WIFCONTINUED(status):
                child.stopped = False
            else:
                del self._children[pid]
                os.close(child.line)
                os.close(child.stacks)
                self._died(child, status)

    def _died(self, child: Child, status: int) -> None:
        if child is self._retiring:
            self._retire_next()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 and (child.told or not child.slate.read().busy):
            if self.settings.burst or (self.settings.once and self.size > usable_cores()):
                self.size -= 1
            self._quick_deaths = 0
            self._reporter.bury(child, child.over, blame=False)
            return
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            try:
                how = f"killed by {signal.Signals(number).name}"
            except ValueError:
                how = f"killed by signal {number}"
        else:
            how = f"exit code {os.WEXITSTATUS(status)}"
            if os.WEXITSTATUS(status) == BOOT_FAILED:
                if not self._exit_code and (away := child.slate.why_away()) is not None:
                    log.error("%s", away.why)
                self._exit_code = 69
                for other in self._children.values():
                    self._tell(other)
        why = child.why or how
        ordered = child.why.startswith("its supervisor") or how == f"exit code {BOOT_FAILED}"
        self._reporter.bury(child, why, blame=not ordered)
        if self.clock.now() - child.born < QUICK_DEATH_SECONDS and not child.slate.read().begun:
            self._quick_deaths += 1
            self._respawn_at = self.clock.now() + min(MAX_RESPAWN_SECONDS, 0.1 * 2**self._quick_deaths)
        else:
            self._quick_deaths = 0
            self._respawn_at = 0.0
        if not self._over():
            log.warning("worker %s died (%s): replaced", child.pid, why)

    def _enforce(self) -> None:
        """Kill workers whose task is over its timeout; ask for part answers to long tasks; end workers that grew."""
        most = self.settings.max_memory
        for child in self._children.values():
            if most is not None and not child.told and (size := rss(child.pid)) > most:
                self._grown(child, size, most)
            doing = child.slate.read()
            if not doing.busy:
                continue
            if doing.timeout and doing.seconds > doing.timeout and child.slate.read().begun == doing.begun:
                self._kill(child, f"over the task timeout of {doing.timeout:g} s")
            elif doing.seconds > LONG_SECONDS:
                self._shorten(child)

    def _grown(self, child: Child, size: int, most: int) -> None:
        """Have a worker end after its task, because of its memory. The next one is started when it has ended."""
        doing = child.slate.read()
        if not doing.begun:
            return  # it does one task at least, for any limit: otherwise no job would end
        child.over = f"{size / 1e6:.0f} MB, over --max-memory {most / 1e6:.0f} MB"
        if doing.begun == 1:
            child.over += (
                f", in its first task; {doing.job} needs more: give its workers more, or smaller tasks (--chunk)"
            )
        log.warning("worker %d has %s: replaced after its task", child.pid, child.over)
        self._tell(child)

    def _leave_if_idle(self) -> None:
        if self.settings.max_idle is None or self._over():
            return
        found = [child.slate.read() for child in self._children.values()]
        begun = sum(doing.begun for doing in found)
        if begun != self._begun or any(doing.busy for doing in found):
            self._begun, self._worked_at = begun, self.clock.now()
        elif self.clock.now() - self._worked_at >= self.settings.max_idle:
            log.info("no task for %g s: leaving", self.settings.max_idle)
            self._stop()

    def _stop(self) -> None:
        if self._notifier is not None:
            self._notifier.stopping()
        self._stopping += 1
        for child in self._children.values():
            self._tell(child)

    def _shorten(self, child: Child) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # the pipe is full, or the worker is dying
            os.write(child.line, b".")

    def _kill(self, child: Child, why: str) -> None:
        child.why = child.why or why
        os.kill(child.pid, signal.SIGKILL)
