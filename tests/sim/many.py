"""`mrq master` in a world: one process that leads all jobs it finds, in turns.

The wheel, its steward and its masters are the real code. Made here are the wait for several connections, and actors in
the place of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.client.adopters import Adopters
from mapreduce_rq.client.leading import Among, Leader
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.errors import BrokerDown
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.leads import Lead, Turn
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.lease_keeper import Keeper
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.master.tender import Tender
from mapreduce_rq.runtime.master.wheel import LONG_SECONDS, Relieved, Wheel
from tests.sim.actors import SimKeeper, Site
from tests.sim.scheduler import Actor
from tests.sim.waiting import SimWaiting
from tests.sim.wire import SimClock, SimWire


class SimWheel(Wheel):
    """A turn beside it is another actor's."""

    beside: Callable[[str, Callable[[], None]], None]

    def _turn_aside(self, lead: Lead) -> None:
        lead.aside = True
        self.beside("aside", lambda: self._run_aside(lead))


class SimLeader:
    """What is needed of a Leader."""

    def __init__(self, process: ManyProcess) -> None:
        self.clock = process.clock
        self.wires = self
        self._process = process

    def new(self) -> SimWire:
        wire = SimWire(self._process.site.server)
        self._process.wires.append(wire)
        return wire

    def verbs_over(self, wire: Wire) -> Jobs:
        site = self._process.site
        return Jobs(wire, site.keys, site.codecs, at_once=2)

    def adopt(self, state: JobState, verbs: Jobs, observer: Observer, *, among: Among) -> Master:
        spec, make = state.spec, self._process.make
        master = Master(verbs, self.clock, spec, make(spec), observer, keeper=among.keeper, workers=among.workers)
        try:
            master.take_over(state)
        except BrokerDown as error:
            observer.noticed(f"{error}; trying again")
        return master

    def tidy(self, verbs: Jobs) -> None:
        """Records stay in a world."""


class SimTender(Tender):
    """Keeps each lease by an actor of its own."""

    process: ManyProcess

    def keeper(self, lease: Lease, jobs: Jobs) -> Keeper:
        found = SimKeeper(lease, jobs, self.process.actors[-1])
        self.process.keepers.append(found)
        return found


class ManyProcess(Adopters):
    """The process. ``on_end`` hears of each job that it has led to its end."""

    def __init__(
        self,
        name: str,
        site: Site,
        *,
        clock: SimClock,
        make: Callable[[Spec], Computation[Any]],
        on_end: Callable[[ManyProcess, str, Ended], None],
    ) -> None:
        self.name = name
        self.site = site
        self.clock = clock
        self.make = make
        self.wires: list[SimWire] = []
        self.keepers: list[SimKeeper] = []
        self.actors: list[Actor] = []
        self.dead = False
        self._on_end = on_end
        leader = cast("Leader", SimLeader(self))
        super().__init__(leader, self, may_lead=lambda state: not state.spec.lazy, has_ended=lambda _: False, most=8)
        self.go_on()
        self._beside("tender", self._tend)

    def _new_tender(self, leader: Leader) -> Tender:
        tender = SimTender(leader.wires.new, self.go_on)
        tender.process = self
        return tender

    def _new_wheel(self, leader: Leader, most: int) -> Wheel:
        new, verbs = leader.wires.new, leader.wires.verbs_over
        wheel = SimWheel(new, verbs, self.clock, SimWaiting(self.site.scheduler), steward=self, most=most)
        wheel.beside = self._beside
        return wheel

    def progressed(self, report: object) -> None:
        """Nobody looks."""

    def noticed(self, text: str) -> None:
        if self.site.scheduler.listen:
            self.site.scheduler.say(f"{self.name:>8} notices: {text}")

    # -- its actors ------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        self._beside("wheel", self._go_round)

    def _go_round(self) -> None:
        try:
            while not self.wheel.over:
                self.wheel.go_round()
        except Relieved:
            pass

    def _tend(self) -> None:
        while not self.wheel.over:
            self.site.scheduler.actor().sleep(LONG_SECONDS if self.wheel.leads else 10 * LONG_SECONDS)
            if self.wheel.relieve():
                self.go_on()

    def _beside(self, what: str, body: Callable[[], None]) -> None:
        self.actors.append(Actor(self.site.scheduler, f"{self.name}.{what}", body))

    def over(self, lead: Lead, turn: Turn) -> None:
        super().over(lead, turn)
        if turn.ended is not None:
            self._on_end(self, lead.job, turn.ended)

    def kill(self) -> None:
        """SIGKILL."""
        self.dead = True
        for actor in self.actors:
            actor.kill()
        for keeper in self.keepers:
            keeper.kill(power=False)
        for wire in self.wires:
            wire.close()

    def let_go(self) -> None:
        """TERM. It still leads what it has not let go of."""
        self.wheel.close()
