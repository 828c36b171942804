"""A job whose items come one after another, and whose values are handed on as they arrive. All interfaces for such
jobs are built on it.

    items ── put ──> OpenSource ── take ──> master ── tasks ──> workers
    caller <── hand ── Handed reducer <── tally (each span once) <── replies

Any thread may put items in, at any time; a bell wakes the master then. The tally folds each span once, even if workers
die or answer twice, so each value is handed on once. There is limited room for items that are put in and whose values
are not taken yet: when it is full, the thread that puts items in waits. So memory is constant for any number of items.

Such a job ends with the process that opened it: no other process has its items.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Ear
from mapreduce_rq.client.job import led_elsewhere
from mapreduce_rq.client.leading import Leader
from mapreduce_rq.client.wires import Wires
from mapreduce_rq.core.bodies import ValueCodec, join
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.foreign_errors import Interruption
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.handed import Handed, Unsent
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import JobError, MrqError, UsageError
from mapreduce_rq.functions.items import TAKE_BYTES, refused
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.cancel import cancel
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.observer import Observer, Silent, pass_on

ROOM_BYTES = 64 << 20
"""Bytes of items that are put in and not yet sent, about."""
CANCEL_SECONDS = 5.0
MOST_AT_ONCE = 64
"""Items that are encoded together."""
PIECE_BYTES = 65_536
"""Bytes of items that are encoded together, about."""
ROW = 4096
"""Items that are read together, where they are at hand."""
AT_HAND: set[type] = {type(iter([])), type(iter(())), type(iter(range(0)))}
"""Iterators whose items are there, so that to take several at once waits for nothing."""

Plan = tuple[Spec, Computation[Any], ValueCodec]
"""Spec and computation of an open job, and the codec of its items."""
Hand = Callable[[int, list[Any]], None]
"""Takes a first term and the values from there on. It is called in the master's thread, in the order of arrival."""


class Opener(Protocol):
    """What an open job needs of the client that it belongs to."""

    keys: Keys
    codecs: Codecs
    clock: Clock
    leader: Leader
    wires: Wires

    def result_of(self, ended: Ended) -> Result:
        """The result of a job that ended. Raises the error with which it ended."""

    def keep_in_sight(self, job: OpenJob) -> None:
        """Remember a job, to let go of it when the client is closed."""


class Feed(Protocol):
    """A source of items that come as they come: see Source."""

    ring: Callable[[], None]

    def __call__(self, count: int) -> tuple[bytes, int, bool]:
        """The next items, as the ledger takes them."""

    def ready(self) -> int:
        """How many items wait."""

    def news(self) -> bool:
        """Whether there is something to take: items, or the end."""

    def end(self) -> None:
        """No more items will come."""

    def disown(self, why: str) -> None:
        """In a forked child: putting items in raises an error that says why. Threads that held locks are not here."""


class OpenSource:
    """Items on their way to the master. One thread puts items in; one master takes them.

    Items are encoded some at a time, which costs less. They wait for no item after them: the master also takes those
    that are not encoded yet. ``failed`` is called with the error of an item that cannot travel: the items before it are
    in, and none follows.
    """

    def __init__(self, codec: ValueCodec, chunk: int | None, failed: Callable[[BaseException], None]) -> None:
        self._codec = codec
        self._chunk = chunk
        self._failed = failed
        self._put_in = 0
        self._plain: deque[Any] = deque()  # not encoded yet
        self._entries: deque[tuple[bytes, int]] = deque()  # bodies, and how many items each holds
        self._lock = threading.Lock()  # guards the following fields, and the codec
        self._count = 0  # items in the entries
        self._bytes = 0
        self._term = 0  # of the next item that is encoded
        self._over = False
        self._refused = False  # an item, and so all behind it
        self._piece = 1  # items that the master encodes together
        self.at_once = 1 if chunk is None else min(MOST_AT_ONCE, chunk)
        """How many items to encode together. One, where an item takes long: another worker may take the next."""
        self.ring: Callable[[], None] = lambda: None
        self.disowned: Callable[[], None] = lambda: None
        """Is called in a forked child."""

    def ready(self) -> int:
        """How many items wait."""
        return self._count + len(self._plain)

    def news(self) -> bool:
        """Whether there is something to take: items, or the end."""
        return bool(self._count) or bool(self._plain) or self._over

    @property
    def put_in(self) -> int:
        """How many items have been put in."""
        return self._put_in

    @property
    def full(self) -> bool:
        """Whether more items would only take memory."""
        return self._bytes > ROOM_BYTES

    @property
    def over(self) -> bool:
        """Whether no more items are taken."""
        return self._over

    def put(self, items: Sequence[Any]) -> None:
        """Put items in. They are encoded when there are enough of them, or when the master has none."""
        self._put_in += len(items)
        self._plain.extend(items)
        if len(self._plain) >= self.at_once or not self._count:
            with self._lock:
                self._encode(len(self._plain))
            self.ring()

    def lay(self, items: Sequence[Any]) -> None:
        """Put items in for the master to encode: two threads that compute keep each other from it, for 5 ms a turn."""
        self._put_in += len(items)
        self._plain.extend(items)
        self.ring()

    def _encode(self, most: int) -> None:
        items = [self._plain.popleft() for _ in range(min(most, len(self._plain)))]
        if not items or self._refused:
            return
        refusal = None
        try:
            body = self._codec.encode(items)
        except Unfit as unfit:
            refusal = refused(self._term + unfit.index, items[unfit.index], unfit, self._codec)
            refusal.__cause__ = unfit.__cause__
            items = items[: unfit.index]
            body = self._codec.encode(items) if items else b""
        self._term += len(items)
        self._entries.append((body, len(items)))
        self._bytes += len(body)
        self._count += len(items)
        if refusal is not None:
            self._refused = self._over = True
            self._failed(refusal)

    def disown(self, why: str) -> None:
        """In a forked child: the threads that held the lock do not exist here."""
        self._lock = threading.Lock()
        self.ring = lambda: None
        self.disowned()

    def end(self) -> None:
        """No more items will come."""
        self._over = True
        self.ring()

    def __call__(self, count: int) -> tuple[bytes, int, bool]:
        """The next items, as a ledger's source gives them: none where none has been put in."""
        if self._chunk is None:
            self.at_once = max(1, min(MOST_AT_ONCE, count // 4))
        bodies: list[bytes] = []
        got = size = 0
        with self._lock:
            while got < count and size < TAKE_BYTES:
                if not self._entries:
                    self._encode(min(count - got, self._piece))
                    self._piece = min(MOST_AT_ONCE, 2 * self._piece) if self._bytes < PIECE_BYTES else 1
                    if not self._entries:
                        break
                body, items = self._entries.popleft()
                bodies.append(body)
                got += items
                size += len(body)
                self._count -= items
                self._bytes -= len(body)
            over = self._over and not self._entries and (self._refused or not self._plain)
        return join(bodies) if bodies else b"", got, over


class OpenJob:
    """One open job, with its master in a thread of its own.

    ``hand`` is called with its values; ``ended`` once, at its end, with the error or None. ``observer``: is told in the
    master's thread how the job goes.
    """

    def __init__(
        self,
        client: Opener,
        plan: Plan,
        source: Feed,
        hand: Hand,
        ended: Callable[[BaseException | None], None],
        *,
        observer: Observer | None = None,
        wait_workers: float | None = None,
    ) -> None:
        self._client = client
        self._observer = observer or Silent()
        self._ended = ended
        spec, computation, _ = plan
        assert isinstance(computation.reducer, Handed)
        computation.reducer.hand = hand
        self.id = spec.job
        self.source = source
        self._bell = Bell(self.source.news)
        self.source.ring = self._bell.ring
        self._report = Report(total=None)
        self._wires = [client.wires.borrow(), client.wires.borrow()]
        verbs = Jobs(self._wires[0], client.keys, client.codecs)
        ear = self._wires[1]
        assert isinstance(ear, Ear)
        verbs.ear = ear
        self._over = threading.Event()
        self.elsewhere = ""  # the error in a fork of the process that leads it
        self._master = client.leader.master(
            spec, computation, self, source=self.source, verbs=verbs, bell=self._bell, wait_workers=wait_workers
        )
        try:
            client.leader.submit(self._master)
        except BaseException:
            self._leave(sound=False)
            raise
        self._thread = threading.Thread(target=self._run, name=f"mrq {spec.job}", daemon=True)
        self._thread.start()
        client.keep_in_sight(self)

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._over.is_set()

    def let_go(self) -> None:
        """Have it end soon, for its client is being closed and no other process has its items."""
        self._master.stop = True
        self.source.end()
        self._bell.insist()

    def let_go_by(self, deadline: float) -> None:
        """As ``let_go``, and wait until it is done, or until this moment of ``time.monotonic``."""
        self.let_go()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def disown(self) -> None:
        """In a forked child: give it up, for the parent leads it and takes its items."""
        if not self._over.is_set():
            self.elsewhere = led_elsewhere(self.id, os.getppid())
            self._bell.close()
            self.source.disown(self.elsewhere)

    @property
    def report(self) -> Report:
        """How far the job is."""
        return self._report

    def ring(self) -> None:
        """Wake the master: there may be something to do."""
        self._bell.ring()

    def finish(self) -> None:
        """Say that no more items will come: the job ends with the last of those that are in."""
        self.source.end()

    def cancel(self) -> None:
        """End the job now; tasks in hand are killed. No value is handed on after this."""
        if not self.elsewhere:
            self.let_go_by(time.monotonic() + CANCEL_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds. Whether it came. Raises UsageError as ``Job.done``."""
        if self.elsewhere:
            raise UsageError(self.elsewhere)
        return self._over.wait(timeout)

    def progressed(self, report: Callable[[], Report]) -> None:
        """Keep the master's report; see Observer."""
        self._report = found = report()
        self._observer.progressed(lambda: found)

    def noticed(self, text: str) -> None:
        """Hand the master's notice on, to a person who may be there to read it."""
        self._observer.noticed(text)

    def printed(self, printed: Printed) -> None:
        """Hand on what a function has printed."""
        pass_on(self._observer, printed)

    def _run(self) -> None:
        error: BaseException | None = None
        sound = False
        try:
            ended = self._master.run()
            if ended is None:
                with suppress(MrqError):
                    cancel(self._master.jobs, self._client.clock, self.id, now=True, why="its client has closed it")
                error = JobError(f"{self.id} was closed before its end")
            else:
                sound = True
                self._client.result_of(ended)
        except BaseException as caught:
            error = caught
            if not sound:
                self._client.leader.abandon(self._master, caught)
        finally:
            self._leave(sound=False)  # its second wire may still be waiting for replies
            self._over.set()
            self._ended(error)

    def _leave(self, *, sound: bool) -> None:
        self._bell.close()
        for wire in self._wires:
            self._client.wires.give_back(wire, sound=sound)


def its_error(unsent: Unsent) -> BaseException:
    """What a value that cannot travel raises, where nothing else is asked for."""
    return unsent.error


class Feeder:
    """Puts the items of an iterable into an open job, in a thread of its own, while there is room.

    ``room`` returns how many more items may be put in now; it is called again after ``more``. ``failed`` is called with
    the error of the iterable: the items before it are in.
    """

    def __init__(
        self,
        job: OpenJob,
        source: OpenSource,
        items: Iterator[Any],
        room: Callable[[], int],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._job, self._source, self._items, self._room, self._failed = job, source, items, room, failed
        self._more = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"mrq items of {job.id}", daemon=True)
        self._thread.start()

    def more(self) -> None:
        """Say that there may be more room now."""
        with self._more:
            self._more.notify()

    def stop(self) -> None:
        """Take no more items. The iterable is not closed: it may be in the middle of an item."""
        self._stopped = True
        self.more()

    def _over(self) -> bool:
        return self._stopped or self._source.over or self._job.done()

    def _run(self) -> None:
        try:
            if type(self._items) in AT_HAND:
                self._read_rows()
            else:
                self._read()
        except Interruption:
            raise
        except BaseException as error:
            self._failed(error)
        self._job.finish()

    def _read(self) -> None:
        """Item by item: the next may be long in coming."""
        room = self._wait_for_room()
        for item in self._items:
            if self._over():
                return
            self._source.put((item,))
            room -= 1
            if room <= 0 or self._source.full:
                room = self._wait_for_room()
            if self._over():
                return

    def _read_rows(self) -> None:
        """Many at once: they are there."""
        while room := self._wait_for_room():
            row = list(islice(self._items, min(ROW, room)))
            if not row:
                return
            self._source.lay(row)

    def _wait_for_room(self) -> int:
        with self._more:
            while not self._over():
                room = self._room()
                if room > 0 and not self._source.full:
                    return room
                self._more.wait(1.0)
        return 0
