"""Begins worker processes: the fork from the supervisor, the pipes between the two, and the worker's signal handlers.

The supervisor has no threads, so forking from it is safe. A worker has one thread beside its own, which waits for a
message of the supervisor.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.text import read_elsewhere
from mapreduce_rq.errors import MrqError
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.polling import answered
from mapreduce_rq.runtime.pool.child import Child
from mapreduce_rq.runtime.pool.kernel import die_with_parent
from mapreduce_rq.runtime.pool.post import Post
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.signals import HURRY, SIGNALS, STACKS
from mapreduce_rq.runtime.pool.way import Birth, Way
from mapreduce_rq.runtime.tracing import flush
from mapreduce_rq.runtime.worker.prepare import Preparer
from mapreduce_rq.runtime.worker.rota import Rota
from mapreduce_rq.runtime.worker.slate import Slate
from mapreduce_rq.runtime.worker.stops import Stop
from mapreduce_rq.runtime.worker.worker import Worker

log = logging.getLogger("mapreduce_rq.pool")

BOOT_FAILED = 78
"""The exit code of a child that could not begin (EX_CONFIG): replacing it would not help."""


class Forker:
    """Forks the workers of one pool. ``posts``: their queues, and the supervisor's own wires, which a child closes."""

    def __init__(self, settings: PoolSettings, way: Way, host: str, clock: Clock, *, posts: Sequence[Post]) -> None:
        self._settings = settings
        self._way = way
        self._host = host
        self._clock = clock
        self._posts = posts

    def fork(self, others: Iterable[Child]) -> Child:
        """Fork a worker; ``others``: the workers that are there. Raises OSError."""
        slate = Slate()
        reader, line = os.pipe()
        os.set_blocking(line, False)
        stacks, pen = os.pipe()
        os.set_blocking(stacks, False)
        os.set_blocking(pen, False)
        supervisor = os.getpid()
        secret = self._clock.random(8).hex()
        # The wake-up pipe is shared: a signal to a child without handlers of its own would look like one to us.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            birth = self._way.birth()
            pid = os.fork()
            if pid == 0:
                for descriptor in (
                    line,
                    stacks,
                    *(end for child in others for end in (child.line, child.stacks)),
                ):
                    os.close(descriptor)
                self._be_worker(slate, secret, supervisor, reader, pen, birth)
        except OSError:
            os.close(line)
            os.close(stacks)
            raise
        finally:
            os.close(reader)
            os.close(pen)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        wid = f"{self._host}:{pid}:{secret}"
        birth.born(wid)
        return Child(wid, pid, slate, self._clock.now(), line, stacks=stacks)

    def _be_worker(  # noqa: PLR0917  all that the fork gives to the child
        self, slate: Slate, secret: str, supervisor: int, reader: int, pen: int, birth: Birth
    ) -> NoReturn:
        """Run the child from its begin to its end, and never return."""
        code = BOOT_FAILED
        try:
            die_with_parent(supervisor)
            _forget_random_state()
            read_elsewhere(self._host)
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(line_buffering=True)  # for the output of functions: we end without a last flush
            settings = self._settings
            wid = f"{self._host}:{os.getpid()}:{secret}"
            prepare = Preparer(settings.trust)
            workers = [
                Worker(
                    wid,
                    Tasks(birth.wire(post.tasks.keys.name), post.tasks.keys, post.tasks.codecs),
                    self._clock,
                    slate,
                    prepare=prepare,
                    name=settings.name,
                    burst=settings.burst,
                    max_tasks=settings.max_tasks,
                    shelf=settings.shelf,
                )
                for post in self._posts
            ]
            worker = workers[0] if len(workers) == 1 else Rota(workers, self._clock, answered, burst=settings.burst)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it comes from the terminal; the supervisor decides
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: worker.told_to_stop())
            signal.signal(HURRY, lambda *_: worker.told_to_stop(at_once=True))
            faulthandler.register(STACKS, pen)
            _fork_without(signal.SIGTERM, HURRY)  # processes that functions fork must end when they are told to
            # A thread, because a signal would interrupt waits in C. Signals are still blocked, so this thread gets
            # none.
            threading.Thread(target=_listen, args=(reader, worker.told_to_shorten), daemon=True).start()
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for post in self._posts:
                post.wire.close()
            worker.run()
            code = 0
        except Stop:  # it was told to stop before it began
            code = 0
        except MrqError as error:
            if birth.over():
                code = 0  # the supervisor is gone
            else:
                slate.away(self._clock.nanoseconds(), str(error))  # its supervisor logs it
        except BaseException:
            log.exception("a worker failed; please report this")
            code = 70
        finally:
            with contextlib.suppress(BaseException):  # a signal, for example
                flush()
            os._exit(code)


def _forget_random_state() -> None:
    """Seed numpy's global generator anew, as a fork does with Python's, so that workers draw different numbers."""
    numpy_random = sys.modules.get("numpy.random")  # if it is loaded later, it seeds itself
    if numpy_random is not None:
        with contextlib.suppress(Exception):  # a script may have replaced the generator by one of its own
            numpy_random.set_bit_generator(type(numpy_random.get_bit_generator())())


def _listen(reader: int, heard: Callable[[], None]) -> None:
    """Call ``heard`` each time that bytes come through a pipe, until the pipe ends."""
    with contextlib.suppress(OSError):  # a function may have closed all open descriptors
        while os.read(reader, 64):
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
