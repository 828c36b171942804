"""The supervisor: a process that forks workers, replaces dead ones, and beats for all of them.

Its duties, in order, four times a second and each time that a signal or a death wakes it:

1. Reap children. A dead one's tasks go back to the queue at once, the task it had in hand blamed; an obituary
   tells everybody. A stopped one (SIGSTOP) is no longer vouched for.
2. Kill children whose task is over its time, or whose job was cancelled with ``--now``; have those whose task turned
   out long answer the part that they have.
3. Fork until there are as many as wanted.
4. Every BEAT_SECONDS write a sign of life for each child that runs. A child stuck in C code could not do so itself.
5. Now and then look after what lost hosts have left (see caretaker.py).

Signals: TERM or INT once: children finish their task in hand, give the rest back and leave; twice: they give everything
back at once. QUIT: kill. TTIN/TTOU: one worker more, one fewer. HUP: replace all, one
after another. USR1: log what each worker does, with its Python stacks; a worker writes these on USR2, from wherever it
is (faulthandler), to a pipe. USR2 does nothing to a supervisor. Each of them is logged.

The supervisor has no threads and never works itself, so forking from it is safe. A worker has one, which waits for a
word of the supervisor's.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.fleet.give_back import given_back
from mapreduce_rq.core.fleet.liveness import OBITUARY
from mapreduce_rq.core.messages import Beat, Codecs, Keyring
from mapreduce_rq.errors import BrokerError, MrqError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.pipes.lines import PipeEnd
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.pool.cores import usable_cores
from mapreduce_rq.runtime.pool.lost_hosts import Caretaker
from mapreduce_rq.runtime.pool.systemd import Notifier
from mapreduce_rq.runtime.pool.way import Birth, Way, WayTo
from mapreduce_rq.runtime.worker.prepare import Preparer
from mapreduce_rq.runtime.worker.probe import identity
from mapreduce_rq.runtime.worker.rota import Rota
from mapreduce_rq.runtime.worker.slate import Doing, Slate
from mapreduce_rq.runtime.worker.wid import hostname
from mapreduce_rq.runtime.worker.worker import Stop, Worker
from mapreduce_rq.version import __version__

log = logging.getLogger("mapreduce_rq.pool")

BEAT_SECONDS = 3.0
TICK_SECONDS = 0.25
LONG_SECONDS = 0.4
"""Seconds after which a task of several terms is answered in part, and others do the rest: twice what it should take.
Other tasks and answers of the same worker do not wait for its end, either."""
WATCH_SECONDS = 1.0
"""Seconds between two checks of busy workers' jobs for ``cancel --now``."""
QUICK_DEATH_SECONDS = 1.0
MAX_RESPAWN_SECONDS = 5.0
BOOT_FAILED = 78
"""Exit code of a child that could not begin (EX_CONFIG): to replace it would not help."""

CANNOT_START = 71
"""Exit code of a pool whose first worker could not be forked (EX_OSERR)."""

SIGNALS = {
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP,
    signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip
HURRY = signal.SIGUSR1
"""The signal that tells a worker to give back all tasks at once: when two TERMs arrive together, a process may see only
one."""
STACKS = signal.SIGUSR2
"""The signal that has a worker write the Python stacks of its threads."""
STACK_SECONDS = 0.2
"""Seconds that it gets for that."""
STACK_BYTES = 32 * 1024


@dataclass(frozen=True)
class PoolSettings:
    """The settings of a pool of workers."""

    endpoint: Endpoint | PipeEnd
    queue: str
    keyring: Keyring
    size: int
    also: tuple[str, ...] = ()  # further queues, in the order of their rank
    name: str = ""
    burst: bool = False
    max_tasks: int | None = None
    once: bool = False  # who has done its tasks is not replaced, as long as there are as many workers as cores
    max_idle: float | None = None  # seconds without a task, of all workers together, after which they leave
    max_memory: int | None = None  # resident bytes of a worker, above which it ends after its task and is replaced
    trust: Trust = field(default_factory=Trust)
    shelf: str = ""  # the directory of large bodies beside a private server


@dataclass
class Child:
    """One forked worker, as its supervisor sees it."""

    wid: str
    pid: int
    slate: Slate
    born: float
    line: int = -1  # descriptor: a byte written to it has the worker shorten its task
    stopped: bool = False
    told: int = 0  # times told to stop
    why: str = ""  # if we killed it
    over: str = ""  # the words for its memory, if it had too much
    stacks: int = -1  # descriptor: the stacks that it writes when asked
    beats: int = 0
    done: int = 0  # at the last beat
    beat_at: float = field(default=0.0)


class Pool:
    """Runs workers until told to stop, or until all have left a burst."""

    def __init__(
        self, settings: PoolSettings, way: WayTo, clock: Clock | None = None, *, notifier: Notifier | None = None
    ) -> None:
        self._notifier = notifier
        self.settings = settings
        self.clock = clock or Clock()
        self.size = settings.size
        self._host = hostname()
        keys, codecs = Keys(settings.queue), Codecs(settings.queue, settings.keyring)
        self._way: Way = way(settings.endpoint)
        self._wire: Wire = self._way.wire()
        self._tasks = Tasks(self._wire, keys, codecs)
        self._jobs = Jobs(self._wire, keys, codecs)
        self._queues = [(self._tasks, self._jobs)]
        for queue in settings.also:
            keys, codecs = Keys(queue), Codecs(queue, settings.keyring)
            self._queues.append((Tasks(self._wire, keys, codecs), Jobs(self._wire, keys, codecs)))
        self._children: dict[int, Child] = {}
        self._buried: list[tuple[Child, str, bool]] = []  # dead, not yet reported: (child, why, blame)
        self._retire: list[Child] = []  # to be replaced one after another (HUP)
        self._stopping = 0
        self._exit_code = 0
        self._connected = False
        self._respawn_at = 0.0
        self._quick_deaths = 0
        self._beat_at = 0.0
        self._watch_at = 0.0
        self._stacks_at = float("inf")  # when the stacks that were asked for are read
        self._begun = -1  # tasks, by all children at the last look
        self._worked_at = self.clock.now()
        self._caretakers = [Caretaker(jobs) for _, jobs in self._queues]

    def run(self, ready: Callable[[], None] | None = None) -> int:
        """Supervise; the exit code: 0, or 78 if workers could not begin. Installs signal handlers: main thread only."""
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
        while self._children or self._buried or not self._over():
            readable, _, _ = select.select([awake.fileno(), *self._way.watched()], [], [], TICK_SECONDS)
            if self._way.over():  # the client has ended, and all of this with it
                self._signalled(signal.SIGQUIT)
                self._way.close()
            if awake.fileno() in readable:
                for raised in awake.recv(4096):
                    self._signalled(signal.Signals(raised))
            if self._notifier is not None:
                self._notifier.turned(self.clock.now(), f"{len(self._children)} of {self.size} workers")
            self._bury()
            self._enforce()
            self._tell_stacks()
            self._leave_if_idle()
            self._report()
            if not self._over():
                self._spawn_missing()
            if self._over() and not self._children and not self._connected:
                break
        signal.set_wakeup_fd(-1)
        awake.close()
        waker.close()
        self._wire.close()
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
            self._retire_next()
        elif number == signal.SIGUSR1:
            self._tell_doings()
        elif number == signal.SIGUSR2:
            log.info("USR2: does nothing; USR1 logs what each worker does")

    def _tell_doings(self) -> None:
        """Log what each worker does, and ask for its stacks."""
        log.info("USR1: %d of %d there", len(self._children), self.size)
        for child in self._children.values():
            doing = child.slate.read()
            what = f"in {doing.job} [{doing.lo}, {doing.hi}) for {doing.seconds:.1f} s" if doing.busy else "idle"
            what += " (stopped)" if child.stopped else ""
            log.info("worker %d: %s, %d tasks done, %.0f MB", child.pid, what, doing.done, _rss(child.pid) / 1e6)
            if not child.stopped:
                os.kill(child.pid, STACKS)
        self._stacks_at = self.clock.now() + STACK_SECONDS

    def _tell_stacks(self) -> None:
        """Log the stacks that were asked for."""
        if self.clock.now() < self._stacks_at:
            return
        self._stacks_at = float("inf")
        for child in self._children.values():
            with contextlib.suppress(BlockingIOError):  # a worker that is stuck in the kernel has written none
                text = os.read(child.stacks, STACK_BYTES).decode(errors="replace")
                for line in filter(None, text.splitlines()):
                    log.info("worker %d: %s", child.pid, line)

    def _tell(self, child: Child) -> None:
        child.told += 1
        os.kill(child.pid, signal.SIGTERM if child.told == 1 else HURRY)
        if child.stopped:
            os.kill(child.pid, signal.SIGCONT)

    def _retire_next(self) -> None:
        while self._retire:
            child = self._retire.pop()
            if child.pid in self._children:
                self._tell(child)
                return

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
        slate = Slate()
        ear, line = os.pipe()
        os.set_blocking(line, False)
        stacks, pen = os.pipe()
        os.set_blocking(stacks, False)
        os.set_blocking(pen, False)
        supervisor = os.getpid()
        secret = self.clock.random(8).hex()
        # The wake-up pipe is shared: a signal to a child that has no handlers yet would be taken for one to us.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            birth = self._way.birth()
            pid = os.fork()
            if pid == 0:
                for mouth in (
                    line,
                    stacks,
                    *(end for child in self._children.values() for end in (child.line, child.stacks)),
                ):
                    os.close(mouth)
                self._be_worker(slate, secret, supervisor, ear, pen, birth)
        except OSError:
            os.close(line)
            os.close(stacks)
            raise
        finally:
            os.close(ear)
            os.close(pen)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        wid = f"{self._host}:{pid}:{secret}"
        birth.born(wid)
        self._children[pid] = Child(wid, pid, slate, self.clock.now(), line, stacks=stacks)
        self._beat_at = 0.0  # it is announced at once

    def _be_worker(  # noqa: PLR0917  what a fork hands over
        self, slate: Slate, secret: str, supervisor: int, ear: int, pen: int, birth: Birth
    ) -> NoReturn:
        """The child's whole life; never returns."""
        code = BOOT_FAILED
        try:
            die_with_parent(supervisor)
            _forget_random_state()
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(line_buffering=True)  # what functions print: we end without a last flush
            settings = self.settings
            wid = f"{self._host}:{os.getpid()}:{secret}"
            prepare = Preparer(settings.trust)
            workers = [
                Worker(
                    wid,
                    Tasks(birth.wire(), tasks.keys, tasks.codecs),
                    self.clock,
                    slate,
                    prepare=prepare,
                    name=settings.name,
                    burst=settings.burst,
                    max_tasks=settings.max_tasks,
                    shelf=settings.shelf,
                )
                for tasks, _ in self._queues
            ]
            worker = workers[0] if len(workers) == 1 else Rota(workers, self.clock, burst=settings.burst)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the supervisor decides
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: worker.told_to_stop())
            signal.signal(HURRY, lambda *_: worker.told_to_stop(at_once=True))
            faulthandler.register(STACKS, pen)
            _fork_without(signal.SIGTERM, HURRY)  # what a function forks must end when it is told to: it is no worker
            # A thread, and no signal, which would cut short what waits in C. Signals, still blocked, are not for it.
            threading.Thread(target=_listen, args=(ear, worker.told_to_shorten), daemon=True).start()
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self._wire.close()
            worker.run()
            code = 0
        except Stop:  # before it had begun
            code = 0
        except MrqError as error:
            if birth.over():
                code = 0  # the supervisor is gone
            else:
                log.error("%s", error)  # noqa: TRY400  it is no fault of ours: its one line says all
        except BaseException:
            log.exception("a worker failed; please report this")
            code = 70
        finally:
            os._exit(code)

    def _bury(self) -> None:
        """Notice who died, stopped or came back."""
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
        self._retire_next()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 and (child.told or not child.slate.read().busy):
            if self.settings.burst or (self.settings.once and self.size > usable_cores()):
                self.size -= 1
            self._quick_deaths = 0
            self._buried.append((child, child.over, False))
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
                self._exit_code = 69
                for other in self._children.values():
                    self._tell(other)
        why = child.why or how
        ordered = child.why.startswith("its supervisor") or how == f"exit code {BOOT_FAILED}"
        self._buried.append((child, why, not ordered))
        if self.clock.now() - child.born < QUICK_DEATH_SECONDS and not child.slate.read().begun:
            self._quick_deaths += 1
            self._respawn_at = self.clock.now() + min(MAX_RESPAWN_SECONDS, 0.1 * 2**self._quick_deaths)
        else:
            self._quick_deaths = 0
            self._respawn_at = 0.0
        if not self._over():
            log.warning("worker %s died (%s): replaced", child.pid, why)

    def _enforce(self) -> None:
        """Kill workers whose task is over its timeout; ask for part answers to long tasks; end those that grew."""
        most = self.settings.max_memory
        for child in self._children.values():
            if most is not None and not child.told and (size := _rss(child.pid)) > most:
                self._grown(child, size, most)
            doing = child.slate.read()
            if not doing.busy:
                continue
            if doing.timeout and doing.seconds > doing.timeout and child.slate.read().begun == doing.begun:
                self._kill(child, f"over the task timeout of {doing.timeout:g} s")
            elif doing.seconds > LONG_SECONDS:
                self._shorten(child)

    def _grown(self, child: Child, size: int, most: int) -> None:
        """Have a worker end after its task, for its memory. The next is started when it has ended, not before."""
        doing = child.slate.read()
        if not doing.begun:
            return  # it does one task at least, whatever the limit: else no job would end
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
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it has heard nothing for hours, or is dying
            os.write(child.line, b".")

    def _kill(self, child: Child, why: str) -> None:
        child.why = child.why or why
        os.kill(child.pid, signal.SIGKILL)

    # -- speaking for them -----------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Tell Redis which workers died and which live, and read which jobs are to be dropped at once."""
        now = self.clock.now()
        if not (self._buried or now >= self._beat_at or now >= self._watch_at):
            return
        try:
            if not self._connected:
                self._wire.connect()
                self._connected = True
            while self._buried:
                self._give_back(*self._buried[0])
                del self._buried[0]
            if now >= self._beat_at:
                self._beat()
                if self._notifier is not None:
                    self._notifier.ready()
                self._beat_at = now + BEAT_SECONDS
            if now >= self._watch_at:
                self._watch_at = now + WATCH_SECONDS
                self._drop_cancelled()
            for caretaker in self._caretakers:
                caretaker.look(now)
        except BrokerError as error:
            log.debug("%s", error)
            self._connected = False
            self._beat_at = self._watch_at = now + TICK_SECONDS
            if self._stopping and not self._children:  # else there is time to try again
                self._buried.clear()  # a master gives back their tasks when their beats have stopped

    def _give_back(self, child: Child, why: str, blame: bool) -> None:
        doing = child.slate.read()
        in_hand = (doing.job, doing.lo, doing.hi) if blame and doing.busy else None
        address = f"{self._host}:{child.pid}"
        name = self.settings.name
        reason = f"{why} ({f'{name}:{child.pid} on {self._host}' if name else address})"
        # A worker that dies outside of any task (its reply was too large for this host) would do so again and again
        # with the same tasks in hand: so one of them is blamed.
        obituary = OBITUARY.decode() + reason if why else "X"
        for tasks, jobs in self._queues:
            held = tasks.in_hand(child.wid)[::-1]
            moves = given_back(tasks.codecs, held, in_hand, reason, guess=blame and not doing.busy)
            jobs.reap(child.wid, obituary, moves)

    def _beat(self) -> None:
        now = self.clock.now()
        beats: dict[str, Beat] = {}
        for child in self._children.values():
            if child.stopped:
                continue
            doing = child.slate.read()
            rate = (doing.done - child.done) / (now - child.beat_at) if child.beat_at else 0.0
            child.beats += 1
            child.done, child.beat_at = doing.done, now
            beats[child.wid] = self._beat_of(child, doing, rate)
        for tasks, _ in self._queues:
            tasks.beat({wid: tasks.codecs.beat.at(wid).seal(beat) for wid, beat in beats.items()})

    def _beat_of(self, child: Child, doing: Doing, rate: float) -> Beat:
        return Beat(
            count=child.beats,
            host=self._host,
            pid=child.pid,
            name=self.settings.name or f"{self._host}:{child.pid}",
            state="busy" if doing.busy else "idle",
            job=doing.job,
            lo=doing.lo,
            hi=doing.hi,
            seconds=round(doing.seconds, 3),
            done=doing.done,
            rate=round(rate, 3),
            rss=_rss(child.pid),
            version=__version__,
            probe=f"{identity()} {doing.numerics}".rstrip() if child.beats > 1 else "",  # 40 ms, once, not at the start
            kid=self.settings.keyring.kid,
            at=self.clock.wall(),
        )

    def _drop_cancelled(self) -> None:
        busy = {}
        for child in self._children.values():
            doing = child.slate.read()
            if doing.busy and doing.seconds > WATCH_SECONDS / 2:
                busy[child.pid] = doing
        if not busy:
            return
        names = sorted({doing.job for doing in busy.values()})
        dropped = {job for tasks, _ in self._queues for job in tasks.cancelled_now(names)}
        for pid, doing in busy.items():
            child = self._children[pid]
            if doing.job in dropped and child.slate.read().begun == doing.begun:
                self._kill(child, f"{doing.job} was cancelled")


def _forget_random_state() -> None:
    """Seed numpy's global generator anew, as a fork does with Python's, so that workers draw different numbers."""
    numpy_random = sys.modules.get("numpy.random")  # loaded later, it seeds itself
    if numpy_random is not None:
        with contextlib.suppress(Exception):  # a script's own generator may be made in ways that only the script knows
            numpy_random.set_bit_generator(type(numpy_random.get_bit_generator())())


def _listen(ear: int, heard: Callable[[], None]) -> None:
    """Call ``heard`` each time that something comes through a pipe, until the pipe ends."""
    with contextlib.suppress(OSError):  # a function may have closed all that it found open
        while os.read(ear, 64):
            heard()


def _fork_without(*numbers: signal.Signals) -> None:
    """Let processes forked from here on start without our handlers of these signals. No signal is lost in between."""
    masks: list[set[int]] = []

    def hold() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, numbers))

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def forget() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=forget)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies (on Linux; elsewhere the caller must notice itself)."""
    if sys.platform == "linux":
        import ctypes  # 10 ms, and only here

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)  # the parent died before the call above


def _rss(pid: int) -> int:
    """Resident bytes of a process; 0 if the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
