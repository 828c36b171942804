"""The second thread of a process that leads many jobs: it makes sure that no job waits for a long turn of another.

Every 0.1 s, while jobs are led, it checks whether a turn is long, and then takes the wheel from its thread: see
wheel.py. Every second it keeps the leases of the masters that compute: see lease_keeper.py. Without jobs it sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.lease_keeper import TEND_SECONDS, Keeper
from mapreduce_rq.runtime.master.wheel import LONG_SECONDS, Wheel


class Tender:
    """Watches the turns. ``go_on`` starts a thread that has the wheel. ``make`` returns a wire for keeping leases."""

    def __init__(self, make: Callable[[], Wire], go_on: Callable[[], None]) -> None:
        self.wire = make()
        self._go_on = go_on
        self._keepers: dict[_Kept, None] = {}
        self._stirred = threading.Event()
        self._closed = False
        self._ticks = 0

    def keeper(self, lease: Lease, jobs: Jobs) -> Keeper:
        """A keeper of a lease without a thread of its own."""
        return _Kept(self, lease, jobs)

    def add(self, keeper: _Kept) -> None:
        """Keep this lease, too."""
        self._keepers[keeper] = None

    def drop(self, keeper: _Kept) -> None:
        """Stop keeping this lease, because its master has ended."""
        self._keepers.pop(keeper, None)

    def stir(self) -> None:
        """Wake the thread, because there are jobs now, or because it must end. Any thread may call this."""
        self._stirred.set()

    def close(self) -> None:
        """End the thread, soon."""
        self._closed = True
        self.stir()

    def run(self, wheel: Wheel) -> None:
        """Watch until ``close``; this is the thread's function."""
        asleep = threading.Event()
        while not self._closed:
            if not wheel.leads:
                self._stirred.clear()
                if not wheel.leads and not self._closed:
                    self._stirred.wait()
            asleep.wait(LONG_SECONDS)
            self._tick(wheel)
        self.wire.close()

    def _tick(self, wheel: Wheel) -> None:
        self._ticks += 1
        if wheel.relieve():
            self._go_on()
        if self._ticks % round(TEND_SECONDS / LONG_SECONDS) == 0:
            for keeper in list(self._keepers):
                keeper.tend()


class _Kept(Keeper):
    def __init__(self, tender: Tender, lease: Lease, jobs: Jobs) -> None:
        super().__init__(lease, jobs)
        self._tender = tender

    @property
    def _wire(self) -> Wire:
        return self._tender.wire

    def _begin(self) -> None:
        self._tender.add(self)

    def close(self) -> None:
        self._tender.drop(self)
        super().close()
